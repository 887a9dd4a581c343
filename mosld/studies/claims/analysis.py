"""From runs to verdicts, by the rules of plan.md.

- `differences(contrast, setting, reading, runs)`: seed -> value. `outcome(...)`: one claim in one setting and reading.
- `analyse(runs)`: every claim, setting and reading, with Holm's levels over the claims of a setting and reading.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mosld.studies.claims import CLAIMS
from mosld.studies.claims.arms import SETTINGS, jobs
from mosld.studies.claims.claim import Claim, Contrast, Setting, small, together, verdict
from mosld.studies.claims.results import measure
from mosld.studies.claims.run import grid
from mosld.studies.statistics import Evidence, evidence, holm


@dataclass(frozen=True)
class Part:
    """One contrast: its value for every seed, and what the values say."""

    contrast: Contrast
    values: dict[int, float]
    evidence: Evidence | None
    verdict: str
    small: bool = False


@dataclass(frozen=True)
class Outcome:
    """One claim in one setting and reading. `further` parts decide nothing; their intervals are at 95 %."""

    claim: Claim
    setting: Setting
    reading: str
    parts: list[Part]
    further: list[Part]
    verdict: str

    @property
    def seeds(self) -> int:
        return min((len(p.values) for p in self.parts), default=0)

    @property
    def leading(self) -> Part:
        """The part that the verdict hangs on: of those that have the claim's verdict the one with the largest p."""
        own = [p for p in self.parts if p.verdict == self.verdict] or self.parts
        return max(own, key=lambda p: -1.0 if p.evidence is None or math.isnan(p.evidence.p) else p.evidence.p)

    @property
    def against(self) -> list[Part]:
        """Where the claim is supported: contrasts beside it, in the same measure, that speak against it."""
        kinds = {p.contrast.measure for p in self.parts}
        return [p for p in self.further if self.verdict == "supported" and p.verdict == "contradicted" and p.contrast.measure in kinds]


def rate_of(setting: Setting, arm: str, reading: str, runs: Mapping[str, dict]) -> float | None:
    """The rate of an arm in a reading; None where its tuning is not complete."""
    return setting.recipe if reading == "recipe" else grid(setting, arm, runs)[1]


def values(setting: Setting, arm: str, reading: str, name: str, seeds: Iterable[int], runs: Mapping[str, dict]) -> dict[int, float]:
    """Seed -> what is measured of an arm, the mean over its runs; seeds of which a run is missing are left out."""
    rate = rate_of(setting, arm, reading, runs)
    if rate is None:
        return {}
    out = {}
    for seed in seeds:
        found = [measure(r, name) if (r := runs.get(job.key)) else None for job in jobs(setting, arm, seed, rate)]
        if None not in found:
            out[seed] = sum(found) / len(found)
    return out


def differences(contrast: Contrast, setting: Setting, reading: str, runs: Mapping[str, dict], seeds: int) -> dict[int, float]:
    """Seed -> weighted sum over the contrast's arms, for the seeds that all arms have."""
    arms = contrast.arms(reading)
    found = {a: values(setting, a, reading, contrast.measure, range(seeds), runs) for a in arms}
    common = set.intersection(*(set(v) for v in found.values())) if found else set()
    return {s: sum(w * found[a][s] for a, w in arms.items()) for s in sorted(common)}


def part(contrast: Contrast, setting: Setting, reading: str, runs: Mapping[str, dict], seeds: int, level: float = 0.95) -> Part:
    """A contrast with its evidence and verdict at a level."""
    found = differences(contrast, setting, reading, runs, seeds)
    e = evidence(list(found.values()), contrast.delta, level) if len(found) > 1 else None
    said = verdict(e, contrast.delta)
    return Part(contrast, found, e, said, said in ("supported", "contradicted") and small(e, contrast.delta))


def outcome(claim: Claim, setting: Setting, reading: str, runs: Mapping[str, dict], level: float = 0.95, further: bool = True) -> Outcome:
    """One claim, its parts at `level`."""
    seeds = max(claim.seeds, setting.seeds)
    parts = [part(c, setting, reading, runs, seeds, level) for c in claim.contrasts]
    more = [part(c, setting, reading, runs, seeds) for c in claim.further if c.arms(reading)] if further else []
    return Outcome(claim, setting, reading, parts, more, together([p.verdict for p in parts], claim.definitions))


def analyse(runs: Mapping[str, dict], settings: Iterable[str] = tuple(SETTINGS), further: bool = True) -> dict[tuple[str, str, str], Outcome]:
    """(claim, setting, reading) to its outcome."""
    out = {}
    for name in settings:
        setting = SETTINGS[name]
        for reading in ("recipe", "tuned"):
            claims = [c for c in CLAIMS.values() if name in c.settings and reading in c.readings and (reading == "recipe" or setting.tuned)]
            first = [outcome(c, setting, reading, runs, further=False) for c in claims]
            levels = holm([_largest(o) for o in first])
            for claim, level in zip(claims, levels, strict=True):
                out[claim.id, name, reading] = outcome(claim, setting, reading, runs, level, further)
    return out


def _largest(o: Outcome) -> float:
    """The largest p of a claim's parts, NaN where one was not run."""
    ps = [math.nan if p.evidence is None else p.evidence.p for p in o.parts]
    return math.nan if any(math.isnan(p) for p in ps) else max(ps)
