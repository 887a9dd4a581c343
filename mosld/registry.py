"""The registries: adapter methods and backbones by name. Nothing here imports torch.

A new adapter method is one file in `mosld/adapters/` and one line here: its module, its label, the knobs its definition settles, the paper's
balance coefficient and the number of trainable parameters of one adapted linear. Another package registers its own: see `installed`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import Any


@dataclass(frozen=True)
class Option:
    """A setting that one method has and the others do not: its default, bounds and meaning. `choices` are for a setting that is a name."""

    default: float | str
    low: float = 0
    high: float = 0
    help: str = ""
    choices: tuple[str, ...] = ()


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
    reads: str = "token"  # what the router reads

    @property
    def router(self) -> int:
        """What is trained of the router: one row of d_in an expert, no bias, or of one number a task; one expert needs no router."""
        columns = {"task": self.T, "random": 0, "hash": 0, "uniform": 0}.get(self.reads, self.d_in)
        return self.E * columns if self.E > 1 else 0

    @property
    def factors(self) -> int:
        """A and B of every expert with what is shared counted once. `side` says which of the two is next to the input."""
        a, b = (self.d_in, self.d_out) if self.side == "input" else (self.d_out, self.d_in)
        return self.r * (a * (1 if self.share == "A" else self.E) + b * (1 if self.share == "B" else self.E))


def _mixture(n: LinearShape) -> int:
    return n.factors + n.router


def malora_sizes(n: LinearShape) -> tuple[int, int]:
    """(d, rb) of MALoRA: rows of the shared S_A and of each P_t; never more than there are dimensions to span."""
    lam = n.options.get("lam", METHODS["malora"].options["lam"].default)
    d = max(1, min(round(lam * n.r * n.E), n.d_in))
    return d, min(round(n.r + (1 - lam) * n.r), d)


def _malora(n: LinearShape) -> int:
    d, rb = malora_sizes(n)
    return d * n.d_in + n.E * rb * (d + n.d_out) + n.router


def _mtl_lora(n: LinearShape) -> int:
    per_task = n.r if n.options.get("matrix") == "diagonal" else n.r**2
    return n.r * (n.d_in + n.E * n.d_out) + n.T * (per_task + (n.E if n.E > 1 else 0))


def matched_rank(n: LinearShape) -> int:
    """Rank of the LoRA whose count is nearest to that of the method named by the option `match`; at most full rank."""
    entry = METHODS[n.options.get("match", METHODS["lora-matched"].options["match"].default)]
    experts = int(entry.fixes.get("experts", n.E))
    reads = "token" if entry.routes_by else n.reads
    aim = entry.count(replace(n, E=experts, share=entry.fixes.get("share", n.share), options={}, reads=reads))
    return max(1, min(round(aim / (n.d_in + n.d_out)), n.d_in, n.d_out))


@dataclass(frozen=True)
class MethodEntry:
    """A line of the method registry.

    `formula`: its equation in one line, as the page and the API show it.
    `fixes`: values that the method's definition leaves no choice in (LoRA has one expert).
    `balance`: the paper's coefficient of the balance loss, used when the knob is left empty.
    `count`: trainable parameters of one adapted linear.
    `options`: settings of this method alone, values its paper leaves open among them.
    `routes_by`: what the method's definition routes by, where that leaves no choice of a router; empty: any.
    """

    where: str  # module:class
    label: str
    formula: str = "h = W x + α/r · Σₑ gₑ(x) Bₑ Aₑ x"
    fixes: dict[str, Any] = field(default_factory=dict)
    balance: float = 0.0
    count: Callable[[LinearShape], int] = _mixture
    options: dict[str, Option] = field(default_factory=dict)
    routes_by: str = ""


NO_ROUTER = "nothing: it has one expert"
BLOCK = ("up", "gate", "down")  # the linears of a feed-forward block

METHODS: dict[str, MethodEntry] = {
    "lora": MethodEntry(
        "mosld.adapters.lora:LoRA",
        "LoRA",
        "h = W x + α/r · B A x",
        {"experts": "1", "top_k": 0, "dropout": 0.0, "share": "none"},
        routes_by=NO_ROUTER,
    ),
    "mosl": MethodEntry("mosld.adapters.mosld:MoSLD", "MoSL", "h = W x + α/r · Σ top-K gₖ(x) Bₖ A x", {"dropout": 0.0, "share": "A"}, 0.01),
    "mosld": MethodEntry("mosld.adapters.mosld:MoSLD", "MoSLD", "h = W x + α/r · Σ top-K gₖ(x) Bₖ (mask ∘ A / (1−p)) x", {}, 0.01),
    "mola": MethodEntry("mosld.adapters.mola:MoLA", "MoLA", "h = W x + α/r · Σ top-K gₖ(x) Bₖ Aₖ x", {"dropout": 0.0, "share": "none"}, 0.001),
    "hydralora": MethodEntry(
        "mosld.adapters.hydralora:HydraLoRA", "HydraLoRA", "h = W x + α/r · Σ gᵢ(x) Bᵢ A x,  g dense", {"dropout": 0.0, "share": "A", "top_k": 0}
    ),
    "molora": MethodEntry(
        "mosld.adapters.molora:MoLoRA", "MoLoRA", "h = W x + α/r · Σ gᵢ(x) Bᵢ Aᵢ x,  g dense", {"dropout": 0.0, "share": "none", "top_k": 0}
    ),
    "sira": MethodEntry(
        "mosld.adapters.sira:SiRA",
        "SiRA",
        "h = W x + α/r · Σ top-K gₖ(x) Bₖ Aₖ x,  g dropped out and capped",
        {"dropout": 0.0, "share": "none"},
        0.01,
        options={
            "capacity": Option(1.25, 0.1, 64, "Tokens an expert takes at most, as a multiple of an even share of them."),
            "gate_dropout": Option(0.1, 0, 0.9, "Rate at which the router's probabilities are dropped in training."),
        },
    ),
    "malora": MethodEntry(
        "mosld.adapters.malora:MALoRA",
        "MALoRA",
        "h = W x + α/r · Σ top-K gₜ(x) Bₜ Pₜ S_A x",
        {"dropout": 0.0, "share": "A", "side": "input"},
        0.001,
        _malora,
        {
            "lam": Option(0.5, 0.1, 1, "Rows of the shared projection over rank times experts; what is saved widens the experts."),
            "beta": Option(1, 0.01, 100, "The shared projection starts multiplied, the experts' own divided by it."),
        },
    ),
    "mtl-lora": MethodEntry(
        "mosld.adapters.mtl_lora:MTLLoRA",
        "MTL-LoRA",
        "h = W x + α/r · Σ softmax(wₜ/τ)ᵢ Bᵢ Λₜ A x",
        {"dropout": 0.0, "share": "A", "side": "input", "top_k": 0},
        count=_mtl_lora,
        options={
            "tau": Option(0.1, 0.01, 10, "Temperature of the softmax over a task's weights; small is sharp."),
            "matrix": Option("full", help="Form of each task's own r x r matrix.", choices=("full", "diagonal")),
        },
        routes_by="weights that each task learns",
    ),
    "moelora": MethodEntry(
        "mosld.adapters.moelora:MoELoRA",
        "MoELoRA",
        "h = W x + α/r · Σ top-K gₖ(x) Bₖ Aₖ x,  loss + contrast of experts",
        {"dropout": 0.0, "share": "none"},
        0.01,
        options={
            "contrast": Option(0.01, 0, 10, "Coefficient of the contrastive loss."),
            "tau": Option(0.07, 0.01, 10, "Temperature of the contrastive loss."),
            "tokens": Option(16, 2, 64, "Tokens of each expert that the contrastive loss compares, at most."),
            "after": Option(10, 0, 100000, "Optimiser steps before the contrastive loss sets in; experts start at zero, alike."),
        },
    ),
    "loramoe": MethodEntry(
        "mosld.adapters.loramoe:LoRAMoE",
        "LoRAMoE",
        "h = W x + α/r · Σ gᵢ(x) Bᵢ Aᵢ x,  g dense, balanced by type",
        {"dropout": 0.0, "share": "none", "top_k": 0},
        0.01,
        options={
            "delta": Option(0.1, 0, 0.99, "How much more an expert counts for texts of its own type than for others."),
            "types": Option(2, 1, 64, "Types that tasks (task index modulo types) and experts (equal runs) are put into."),
        },
    ),
    "mode": MethodEntry(
        "mosld.adapters.mode:MoDE",
        "MoDE",
        "h = W x + α/r · Σᵢ Σₖ Rₖ(x)ᵢ Bᵢₖ Aₖ x",
        {"dropout": 0.0, "share": "A", "side": "input", "top_k": 0},
        count=lambda n: n.factors + n.r // int(n.options.get("block", 1)) * n.router,
        options={"block": Option(1, 1, 256, "Rows of A that share a router; it must divide the rank.")},
        routes_by="a token router for every block of rows of A",
    ),
    "mor1e": MethodEntry(
        "mosld.adapters.mor1e:MoR1E",
        "Intuition-MoR1E",
        "h = W x + σ(100m) · Σ gᵢⱼ bⱼ aᵢ x,  g from router and sentence embedding",
        {"dropout": 0.0, "share": "none", "side": "input", "top_k": 0},
        count=lambda n: n.r * n.d_in + n.E * n.d_out + n.r * n.E * n.d_in + 2,
        routes_by="the token and the sentence embedding of its text",
    ),
    "conditional-mixlora": MethodEntry(
        "mosld.adapters.conditional_mixlora:ConditionalMixLoRA",
        "Conditional MixLoRA",
        "h = W x + α/r · Σᵢ uᵢ b_q(i) a_p(i) x,  p, q chosen per text",
        {"dropout": 0.0, "share": "none", "side": "input", "top_k": 0},
        count=lambda n: n.r * n.E * (n.d_in + n.d_out) + n.r * n.E * (2 + n.r) * n.d_in,
        options={
            "order": Option("pool", help="What joins picked rows and columns: their order in the pools, or their scores.", choices=("pool", "score"))
        },
        routes_by="the mean of the text, which picks rows and columns",
    ),
    "mixlora": MethodEntry(
        "mosld.adapters.mixlora:MixLoRA",
        "MixLoRA",
        "ffn(x) = Σ top-K gₖ(x) FFNₖ(x),  FFNₖ with Bₖ Aₖ on up, gate, down",
        {"dropout": 0.0, "share": "none", "side": "input"},
        0.001,
        lambda n: (n.E if n.name in BLOCK else 1) * n.r * (n.d_in + n.d_out) + n.router * (n.name == "up"),
    ),
}
METHODS["lora-matched"] = MethodEntry(
    "mosld.adapters.lora_matched:LoRAMatched",
    "LoRA of matched size",
    "h = W x + α/r · B A x,  rank of A and B by count",
    {"dropout": 0.0, "top_k": 0},
    count=lambda n: matched_rank(n) * (n.d_in + n.d_out),
    options={"match": Option("mosld", help="The method, with these same knobs, whose parameter count is matched.", choices=tuple(METHODS))},
    routes_by=NO_ROUTER,
)


def installed() -> dict[str, MethodEntry]:
    """Methods that other packages bring: entry points of the group `mosld.methods`, each a `MethodEntry` under the method's name.

    One that cannot be loaded is warned of and left out; none takes the name of a method that is here.
    """
    found = {}
    for point in entry_points(group="mosld.methods"):
        try:
            entry = point.load()
        except Exception as error:  # another package's code
            warnings.warn(f"mosld: the method '{point.name}' of {point.value} cannot be loaded ({type(error).__name__}: {error}).", stacklevel=2)
            continue
        if not isinstance(entry, MethodEntry) or point.name in METHODS:
            why = "has the name of a method of the lab" if point.name in METHODS else "is no MethodEntry"
            warnings.warn(f"mosld: the method '{point.name}' of {point.value} is left out: it {why}.", stacklevel=2)
            continue
        found[point.name] = entry
    return found


METHODS |= installed()

# Short names of backbones; anything with a slash is taken as the id of a model on the hub.
BACKBONES: dict[str, str] = {
    "nano": "mosld.backbones.nano",
    "minilm": "mosld.backbones.minilm",
    "smollm2": "mosld.backbones.smollm2",
}
