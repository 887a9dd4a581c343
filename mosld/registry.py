"""The registries: adapter methods and backbones by name. Nothing here imports torch.

A new adapter method is one file in `mosld/adapters/` and one line here: its module, its label, the knobs its definition settles,
the paper's balance coefficient and the number of trainable parameters of one adapted linear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Option:
    """A setting that one method has and the others do not: its default, bounds and meaning."""

    default: float
    low: float
    high: float
    help: str


@dataclass(frozen=True)
class LinearShape:
    """One linear as the parameter formulas see it. `name` is the short target name (q, k, v, o, up, down, gate)."""

    d_in: int
    d_out: int
    r: int
    E: int
    T: int = 1  # tasks of the mixture, for methods that keep something per task
    name: str = ""
    share: str = "A"
    side: str = "input"
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def router(self) -> int:
        """A token router: one row of d_in an expert, no bias; one expert needs no router."""
        return self.E * self.d_in if self.E > 1 else 0

    @property
    def factors(self) -> int:
        """A and B of every expert with what is shared counted once. `side` says which of the two is next to the input."""
        a, b = (self.d_in, self.d_out) if self.side == "input" else (self.d_out, self.d_in)
        return self.r * (a * (1 if self.share == "A" else self.E) + b * (1 if self.share == "B" else self.E))


def _mixture(n: LinearShape) -> int:
    return n.factors + n.router


@dataclass(frozen=True)
class MethodEntry:
    """A line of the method registry.

    `fixes`: values that the method's definition leaves no choice in (LoRA has one expert).
    `balance`: the paper's coefficient of the balance loss, used when the knob is left empty.
    `count`: trainable parameters of one adapted linear.
    `options`: settings of this method alone, values its paper leaves open among them.
    """

    where: str  # module:class
    label: str
    fixes: dict[str, Any] = field(default_factory=dict)
    balance: float = 0.0
    count: Callable[[LinearShape], int] = _mixture
    options: dict[str, Option] = field(default_factory=dict)


METHODS: dict[str, MethodEntry] = {
    "lora": MethodEntry("mosld.adapters.lora:LoRA", "LoRA", {"experts": "1", "top_k": 0, "dropout": 0.0, "share": "none"}),
    "mosl": MethodEntry("mosld.adapters.mosld:MoSLD", "MoSL", {"dropout": 0.0, "share": "A"}, 0.01),
    "mosld": MethodEntry("mosld.adapters.mosld:MoSLD", "MoSLD", {}, 0.01),
    "mola": MethodEntry("mosld.adapters.mola:MoLA", "MoLA", {"dropout": 0.0, "share": "none"}, 0.001),
    "hydralora": MethodEntry("mosld.adapters.hydralora:HydraLoRA", "HydraLoRA", {"dropout": 0.0, "share": "A", "top_k": 0}),
}

# Short names of backbones; anything with a slash is taken as the id of a model on the hub.
BACKBONES: dict[str, str] = {
    "minilm": "mosld.backbones.minilm",
    "smollm2": "mosld.backbones.smollm2",
}
