"""The tabs beside the live ones. Each module has TITLE and place(lab), which puts its components on the page and wires its own handlers."""

from types import ModuleType

from mosld.ui.tabs import compare, geometry, inspect, lessons, merge, slow, take

TABS: tuple[ModuleType, ...] = (inspect, slow, geometry, compare, merge, lessons, take)
