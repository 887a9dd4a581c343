"""Over seeds: the mean of what was measured once a seed, and how far that mean may be trusted.

- `interval`: mean and t interval, for tables and pictures. `paired_interval`: of a difference, seed by seed. `mean`, `spread` of plain lists.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def t_quantile(freedom: ArrayLike, level: float = 0.95) -> np.ndarray | float:
    """The t with P(|T| <= t) = level for Student's T with `freedom` degrees of freedom; NaN below one."""
    from scipy.stats import t  # takes half a second to import: not before it is asked

    value = t.ppf((1 + level) / 2, np.where(np.asarray(freedom) > 0, freedom, np.nan))
    return value if value.ndim else float(value)


def interval(values: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean and both ends of its t interval over the last dimension, for tables and pictures: [..., S] to three of [...].

    NaN is a gap and is left out. The ends are NaN where fewer than two values are there: one seed says nothing about seeds.
    """
    x = np.asarray(values, float)
    there = np.isfinite(x)
    n = there.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(there, x, 0.0).sum(-1) / n
        variance = np.where(there, (x - mean[..., None]) ** 2, 0.0).sum(-1) / (n - 1)
        half = t_quantile(n - 1, level) * np.sqrt(variance / n)
    return mean, mean - half, mean + half


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1 in the divisor); NaN of fewer than two values."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))


def paired_interval(first: Sequence[float], second: Sequence[float], level: float = 0.95, rows: int | None = None) -> tuple[float, float, float]:
    """Mean of `first` minus `second`, seed by seed, and the ends of its t interval; the ends are NaN for fewer than two seeds.

    The interval takes the differences as draws from a normal distribution and knows of no other runs: with many methods side by side
    one in twenty excludes 0 by chance.

    rows: where the values are shares of so many questions, the interval is never narrower than these questions allow: a few seeds can agree
    to the last question by luck. Both shares are taken as independent for that, which is on the safe side where the questions are the same.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    centre = mean(differences)
    if len(differences) < 2:
        return centre, math.nan, math.nan
    deviation = spread(differences)
    if rows:
        deviation = max(deviation, math.sqrt(mean([(a * (1 - a) + b * (1 - b)) / rows for a, b in zip(first, second, strict=True)])))
    half = t_quantile(len(differences) - 1, level) * deviation / math.sqrt(len(differences))
    return centre, centre - half, centre + half
