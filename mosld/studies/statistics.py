"""What seeds can say: means, spreads, the interval of a paired difference, and the tests that a verdict rests on. The arithmetic is scipy's.

- `mean`, `spread`, `paired_interval`: for tables.
- `evidence(differences, delta)`: t interval and p, sign flips, BCa bootstrap, equivalence (TOST), and the effect that would have been seen.
- `holm(ps)`: the level at which each of several claims is tested.

Values are plain floats, one a seed. Paired: the n-th values of both come from the same seed, so from the same rows and batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mosld.probes.seeds import mean, paired_interval, spread, t_quantile

__all__ = ["Evidence", "evidence", "holm", "mean", "paired_interval", "spread"]


@dataclass(frozen=True)
class Evidence:
    """What the differences of n seeds say. Intervals are (low, high); NaN where there are too few seeds."""

    n: int
    mean: float
    spread: float  # standard deviation over seeds
    interval: tuple[float, float]  # t, at `level`
    level: float
    equivalence: tuple[float, float]  # t, at 90 %: inside +-delta is TOST at 5 %
    p: float  # paired t, two-sided
    p_permutation: float  # sign flips, two-sided; at least 2 / 2^n
    bootstrap: tuple[float, float]  # BCa, at 95 %
    p_equivalence: float  # the larger of the two one-sided p
    detectable: float  # effect that n seeds of this spread show with a probability of 80 %


def evidence(differences: Sequence[float], delta: float, level: float = 0.95, draws: int = 9999) -> Evidence:
    """Tests of the mean of `differences` against 0, and against +-delta. Fewer than two seeds, or no spread, leave gaps."""
    import numpy as np
    from scipy import stats

    x = np.asarray(differences, float)
    n, gap = len(x), (math.nan, math.nan)
    if n < 2:
        return Evidence(n, float(x.mean()) if n else math.nan, math.nan, gap, level, gap, math.nan, math.nan, gap, math.nan, math.nan)
    centre, sd = float(x.mean()), float(x.std(ddof=1))
    if sd <= 1e-9 * max(1.0, abs(centre)):  # all alike but for rounding
        whole = (centre, centre)
        return Evidence(n, centre, 0.0, whole, level, whole, float(centre == 0), float(centre == 0), whole, float(abs(centre) >= delta), 0.0)
    t = stats.ttest_1samp(x, 0)
    sides = (stats.ttest_1samp(x, -delta, alternative="greater").pvalue, stats.ttest_1samp(x, delta, alternative="less").pvalue)
    flips = stats.permutation_test((x,), lambda v, axis: v.mean(axis), permutation_type="samples", n_resamples=draws, rng=0, vectorized=True)
    bca = stats.bootstrap((x,), np.mean, n_resamples=draws, method="BCa", rng=0).confidence_interval
    needed = (t_quantile(n - 1, level) + float(stats.t.ppf(0.8, n - 1))) * sd / math.sqrt(n)

    def ends(of: float) -> tuple[float, float]:
        low, high = t.confidence_interval(of)
        return float(low), float(high)

    boot = (float(bca.low), float(bca.high))
    return Evidence(n, centre, sd, ends(level), level, ends(0.9), float(t.pvalue), float(flips.pvalue), boot, float(max(sides)), needed)


def holm(ps: Sequence[float], alpha: float = 0.05) -> list[float]:
    """The confidence level of each test's interval under Holm's procedure: 1 - alpha / (m - rank + 1), ranks by p from the smallest.

    After the first p that fails its level all further tests keep that level, so that an interval leaves out 0 exactly where Holm rejects.
    NaN counts as 1.
    """
    order = sorted(range(len(ps)), key=lambda i: 1.0 if math.isnan(ps[i]) else ps[i])
    levels, failed = [0.0] * len(ps), None
    for rank, i in enumerate(order):
        own = failed if failed is not None else alpha / (len(ps) - rank)
        levels[i] = 1 - own
        if failed is None and not ps[i] <= own:
            failed = own
    return levels
