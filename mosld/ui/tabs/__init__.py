"""The tabs beside the live ones. Each module has TITLE and place(lab), which puts its components on the page and wires its own handlers."""

from types import ModuleType

TABS: tuple[ModuleType, ...] = ()
