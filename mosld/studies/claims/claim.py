"""What a claim is, and how its verdict follows from its runs. Registered in plan.md; nothing here is chosen after the data.

- `Setting`: a backbone with its tasks, steps, rates and seeds. `Contrast`: a weighted sum of arms, one value a seed. `Claim`: one file each.
- `verdict(evidence, delta)`: supported, contradicted, no difference that matters, not resolved here.

Arms are named in `mosld.studies.claims.arms`. A contrast's weights sum to 0, or to 1 where a level is tested against 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mosld.studies.statistics import Evidence

DELTA = 1.0  # points of accuracy: the smallest effect of interest, fixed before the data
VERDICTS = ("supported", "contradicted", "no difference that matters", "not resolved here", "depends on the definition", "not run")
READINGS = ("recipe", "tuned")  # the paper's recipe: one rate for all arms; tuned: every arm at its own best rate of one grid


@dataclass(frozen=True)
class Setting:
    """Where a claim is tested. `grid`: learning rates tried for every arm, a factor 2 apart. `recipe`: the one rate of the paper's recipe."""

    name: str
    title: str
    backbone: str
    tasks: tuple[str, ...]
    held_out: tuple[str, ...]
    steps: int
    recipe: float
    seeds: int
    tuning: int = 4  # seeds that the rate is chosen on, from 1000
    batch: int = 16
    width: int = 28  # runs stacked on a GPU
    more: Mapping[str, str] = field(default_factory=dict)  # further settings of every run
    scored: int = 0  # rows of a task that are scored at most; 0 scores all, as a verdict needs
    tuned: bool = True  # whether the tuned reading is run here too

    @property
    def grid(self) -> tuple[float, ...]:
        return tuple(float(f"{self.recipe * 2.0**k:.4g}") for k in range(-3, 4))

    @property
    def tuning_seeds(self) -> range:
        return range(1000, 1000 + self.tuning)


@dataclass(frozen=True)
class Contrast:
    """`weights`: arm -> weight. `measure`: what is taken of each run (`mosld.studies.claims.results.MEASURES`). Positive is what the claim says.

    `delta` is in the unit of the measure; `tuned` may name other arms where tuning needs them, or none: it is then read at the recipe's rate alone.
    """

    label: str
    weights: Mapping[str, float]
    measure: str = "accuracy"
    delta: float = DELTA
    unit: str = "points"
    tuned: Mapping[str, float] | None = None

    def arms(self, reading: str) -> Mapping[str, float]:
        return self.weights if reading == "recipe" or self.tuned is None else self.tuned


@dataclass(frozen=True)
class Claim:
    """One claim. All of `contrasts` must hold for it to be supported; `further` are reported beside and decide nothing."""

    id: str
    title: str
    says: str  # what the paper prints
    printed: float | None  # its value in the contrast's unit, where it prints one
    contrasts: tuple[Contrast, ...]
    plain: str  # for a newcomer: what is asked and why
    differs: str  # how the paper's setting differs
    change: str  # what would change the verdict
    settings: tuple[str, ...] = ("minilm-world", "nano-world", "minilm-real", "smollm2-real")  # the first is primary
    seeds: int = 0  # 0: the setting's
    further: tuple[Contrast, ...] = ()
    readings: tuple[str, ...] = READINGS
    doses: tuple[str, ...] = ()  # arms that are only shown, at the recipe's rate
    definitions: bool = False  # the contrasts are definitions of one thing, rather than parts that must all hold

    def arms(self, reading: str, further: bool = True) -> list[str]:
        """Every arm that its contrasts need, each once."""
        contrasts = (*self.contrasts, *(self.further if further else ()))
        names = dict.fromkeys(name for c in contrasts for name in c.arms(reading))
        return [*names, *(d for d in self.doses if further and reading == "recipe" and d not in names)]


def verdict(e: Evidence | None, delta: float) -> str:
    """The registered rule. The Holm-adjusted interval settles the sign; where it does not, the 90 % interval within +-delta is equivalence."""
    if e is None or e.n < 2 or math.isnan(e.interval[0]):
        return "not run"
    if e.interval[0] > 0:
        return "supported"
    if e.interval[1] < 0:
        return "contradicted"
    if -delta < e.equivalence[0] and e.equivalence[1] < delta:
        return "no difference that matters"
    return "not resolved here"


def small(e: Evidence, delta: float) -> bool:
    """Whether an effect whose sign is settled is nevertheless within +-delta."""
    return -delta < e.equivalence[0] and e.equivalence[1] < delta


def together(verdicts: list[str], definitions: bool = False) -> str:
    """The verdict of a claim of several parts. Parts that must all hold: that of the part that holds least. Definitions of one thing: theirs
    where they agree, else 'depends on the definition'."""
    if definitions and len(set(verdicts) - {"not run"}) > 1:
        return "depends on the definition"
    worst = ("not run", "contradicted", "no difference that matters", "not resolved here", "supported")
    return min(verdicts, key=worst.index)
