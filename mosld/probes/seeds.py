"""Over seeds: the mean of what was measured once a seed, and how far that mean may be trusted."""

from __future__ import annotations

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
