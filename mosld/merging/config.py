"""What merging can be told: the methods by name, and every knob with bounds and help. Nothing here imports torch.

- `MERGES`: every merging method, its label and what it looks at besides the task vectors.
- `MergeConfig`: the knobs, in the same style as `mosld.config`; `knobs(MergeConfig)` lists them, `acting(method)` those that a method reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BeforeValidator, model_validator

from mosld.config import ConfigError, Strict, knobs, setting
from mosld.registry import METHODS
from mosld.texts import choose, read_names


@dataclass(frozen=True)
class MergeEntry:
    """A merging method. `sees`: what it looks at besides task vectors: 'nothing', 'questions' (without answers) or 'answers'."""

    label: str
    sees: str = "nothing"


MERGES: dict[str, MergeEntry] = {
    "task-arithmetic": MergeEntry("Task Arithmetic"),
    "ties": MergeEntry("TIES"),
    "magnitude": MergeEntry("Magnitude pruning"),
    "dare": MergeEntry("DARE"),
    "dare-ties": MergeEntry("DARE with TIES"),
    "della": MergeEntry("DELLA"),
    "tsv": MergeEntry("TSV-M"),
    "iso": MergeEntry("Iso-C"),
    "knots": MergeEntry("KnOTS with TIES"),
    "adamerging-task": MergeEntry("AdaMerging, task-wise", "questions"),
    "adamerging-layer": MergeEntry("AdaMerging, layer-wise", "questions"),
    "adamerging-task++": MergeEntry("AdaMerging++, task-wise", "questions"),
    "adamerging-layer++": MergeEntry("AdaMerging++, layer-wise", "questions"),
    "concrete-arithmetic": MergeEntry("Concrete Task Arithmetic", "questions"),
    "concrete-adamerging": MergeEntry("Concrete AdaMerging, layer-wise", "questions"),
    "mtllmf-ideal": MergeEntry("after R-MTLLMF, ideal channel"),
    "mtllmf-sum": MergeEntry("after R-MTLLMF, worst for the sum rate"),
    "mtllmf-strongest": MergeEntry("after R-MTLLMF, worst for the strongest"),
    "mtllmf-control": MergeEntry("R-MTLLMF's labelled steps alone, nothing merged", "answers"),
    "mtllmf-ideal-defended": MergeEntry("after R-MTLLMF, ideal channel, defended", "answers"),
    "mtllmf-sum-defended": MergeEntry("after R-MTLLMF, worst for the sum rate, defended", "answers"),
    "mtllmf-strongest-defended": MergeEntry("after R-MTLLMF, worst for the strongest, defended", "answers"),
    "experts": MergeEntry("the adapters as experts, their router trained", "answers"),
}


SEES = {"nothing": "-", "answers": "labelled training questions", "validation": "validation questions", "test": "TEST questions"}


def chosen(names: tuple[str, ...]) -> tuple[str, ...]:
    """The methods meant by names or families ('adamerging' is all that begin with it, 'all' is all), in the order of MERGES.

    Raises ConfigError for a name that fits nothing.
    """
    for name in names:
        if name != "all" and not any(m == name or m.startswith(f"{name}-") for m in MERGES):
            raise ConfigError(f"methods: {name!r:.60} is not a way to merge; {choose(name, ('all', 'adamerging', 'concrete', 'mtllmf', *MERGES))}.")
    return tuple(m for m in MERGES if any(n in ("all", m) or m.startswith(f"{n}-") for n in names))


# The groups of knobs that the methods of a family read, by how their names begin.
READS = {
    "ties": ("TIES",),
    "knots": ("TIES",),
    "magnitude": ("thinning",),
    "dare": ("thinning",),
    "della": ("thinning",),
    "tsv": ("spectral",),
    "iso": ("spectral",),
    "adamerging": ("AdaMerging",),
    "concrete": ("Concrete",),
    "concrete-adamerging": ("AdaMerging",),
    "mtllmf": ("R-MTLLMF",),
    "experts": ("experts",),
}
OWN_SCALE = ("ties", "knots", "dare-ties", "della", "tsv", "iso", "experts")  # methods that do not read lambda


def acting(method: str) -> list[str]:
    """The knobs that a method reads."""
    groups = {g for family, own in READS.items() if method.startswith(family) for g in own} | ({"TIES"} if method.endswith("++") else set())
    names = [k.name for k in knobs(MergeConfig) if k.group in groups]
    if not method.startswith("della"):
        names = [n for n in names if n != "della_spread"]
    return names + ["weights", "svd_rank"] + ["lam"] * (method not in OWN_SCALE) + ["merge_batch"] * (MERGES[method].sees != "nothing")


class MergeConfig(Strict):
    """The knobs of merging. Symbols: tau_t the task vector of task t, lambda its coefficient, T tasks."""

    methods: Annotated[tuple[str, ...], BeforeValidator(read_names)] = setting(
        tuple(MERGES),
        "Ways to merge; a family (adamerging, concrete, mtllmf) stands for all of its methods, 'all' for every method.",
        "merging",
        "mm",
        min_length=1,
        allowed="at least one name, such as ties",
    )
    lam: float = setting(
        0.3, "Coefficient lambda of every task vector: fixed in Task Arithmetic, the start in AdaMerging.", "merging", "la", ge=0, le=2
    )
    unlabelled: Literal["validation", "test"] = setting(
        "validation",
        "Questions without answers that AdaMerging and Concrete look at: validation questions, or the test questions that are "
        "scored afterwards, as in their papers.",
        "merging",
        "un",
    )
    merge_batch: int = setting(16, "Questions of each task in one step of a merging method.", "merging", "mb", ge=1, le=256)
    weights: Annotated[tuple[float, ...], BeforeValidator(read_names)] = setting(
        (1.0,),
        "Weight of each task, used again from the start where there are more tasks: its task vector is multiplied by it before anything else.",
        "merging",
        "wt",
        min_length=1,
        allowed="numbers from 0 to 100, such as 1,0.5",
    )
    svd_rank: int = setting(
        0, "Cut every merge to this rank by its largest singular values, as peft's svd forms do; 0 leaves it whole.", "merging", "sr", ge=0, le=4096
    )
    density: float = setting(0.5, "Magnitude, DARE, DELLA: share of each task vector's entries that stays.", "thinning", "de", gt=0, le=1)
    della_spread: float = setting(0.2, "DELLA: how much likelier the largest entry of a row stays than the smallest.", "thinning", "ds", ge=0, le=1)
    spectral_lam: float = setting(1.0, "TSV-M and Iso-C: coefficient of the merged update.", "spectral", "sl", ge=0, le=10)
    expert_steps: int = setting(50, "Adapters as experts: labelled steps of Adam on the routers alone.", "experts", "es", ge=0, le=10000)
    expert_lr: float = setting(3e-3, "Adapters as experts: learning rate of the routers.", "experts", "er", gt=0, le=1)
    expert_top_k: int = setting(2, "Adapters as experts: experts each token is sent to; 0 is all of them.", "experts", "ek", ge=0, le=64)
    ties_keep: float = setting(0.2, "TIES: share of each task vector's entries that is kept, the largest by size.", "TIES", "tk", gt=0, le=1)
    ties_of: Literal["mean", "sum"] = setting("mean", "TIES: what is taken of the entries that agree with the elected sign.", "TIES", "to")
    ties_lam: float | None = setting(None, "TIES: coefficient; left out it is 1 for the mean and 0.3 for the sum.", "TIES", "tl", ge=0, le=10)
    ada_steps: int = setting(500, "AdaMerging: steps of Adam on the coefficients.", "AdaMerging", "as", ge=1, le=100000)
    ada_lr: float = setting(1e-3, "AdaMerging: learning rate of the coefficients.", "AdaMerging", "ar", gt=0, le=1)
    concrete_steps: int = setting(500, "Concrete: steps of Adam on the mask (1000 in the authors' public code).", "Concrete", "cs", ge=1, le=100000)
    concrete_lr: float = setting(1e-3, "Concrete: learning rate of the mask's logits.", "Concrete", "cr", gt=0, le=10)
    concrete_temperature: float = setting(0.5, "Concrete: temperature of the mask.", "Concrete", "ct", gt=0, le=10)
    concrete_inner: float = setting(
        1.0, "Concrete AdaMerging: rate of the inner step on the coefficients, one plain gradient step from lambda.", "Concrete", "ci", ge=0, le=100
    )
    powers: Annotated[tuple[float, ...], BeforeValidator(read_names)] = setting(
        (4.0, 2.0, 1.0),
        "R-MTLLMF: received signal power p of the users, one a task, used again from the start where there are more tasks.",
        "R-MTLLMF",
        "pw",
        min_length=1,
        allowed="numbers above 0, such as 4,2,1",
    )
    noise: float = setting(0.1, "R-MTLLMF: noise power n0 of the channel, against the powers of the users.", "R-MTLLMF", "n0", gt=0, le=1e6)
    jammer: float = setting(300.0, "R-MTLLMF: power that the jammer may spend in all.", "R-MTLLMF", "jp", ge=0, le=1e9)
    realign_steps: int = setting(10, "R-MTLLMF's defence: labelled steps of Adam on the merged update.", "R-MTLLMF", "rs", ge=1, le=10000)
    realign_lr: float = setting(3e-4, "R-MTLLMF's defence: learning rate of these steps.", "R-MTLLMF", "rr", gt=0, le=1)
    beside: Annotated[tuple[str, ...], BeforeValidator(read_names)] = setting(
        ("lora", "mosld"), "Adapter methods that are trained on the mixture of the tasks, for comparison.", "comparison", "be"
    )
    mixture_steps: int = setting(
        0,
        "Steps of the runs on the mixture; 0 is the steps of one task's adapter times the number of tasks, so that both ways see as many questions.",
        "comparison",
        "ms",
        ge=0,
        le=100000,
    )

    def looks_at(self, method: str) -> str:
        """What a method looks at besides task vectors, in words that belong beside its result."""
        sees = MERGES[method].sees
        return SEES[self.unlabelled if sees == "questions" else sees]

    @model_validator(mode="after")
    def _check_names(self):
        self.__dict__["methods"] = chosen(self.methods)
        for name in self.beside:
            if name not in METHODS:
                raise ConfigError(f"beside: {name!r:.60} is not an adapter method; choose among {', '.join(METHODS)}.")
        for w in self.weights:
            if not 0 <= w <= 100:
                raise ConfigError(f"weights: {w:g} is not allowed; give numbers from 0 to 100, such as 1,0.5.")
        for p in self.powers:
            if not 0 < p <= 1e6:
                raise ConfigError(f"powers: {p:g} is not allowed; give numbers above 0 and up to 1e+06, such as 4,2,1.")
        return self
