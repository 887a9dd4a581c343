"""Over seeds: the mean of what was measured once a seed, and how far that mean may be trusted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

# 97.5 % points of Student's t for 1 to 9 degrees of freedom; beyond them the expansion in `quantile` is right to 0.003.
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
Z975 = 1.959964


def quantile(degrees: int) -> float:
    """97.5 % point of Student's t: from the table, else by its expansion in 1 / degrees (Abramowitz and Stegun 26.7.5)."""
    if degrees <= len(T975):
        return T975[degrees - 1]
    z = Z975
    return z + (z**3 + z) / (4 * degrees) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * degrees**2)


def interval(values: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, lower and upper end of its 95 % interval (Student's t), over the last dimension: [..., S] to three of [...].

    NaN is a gap and is left out. The ends are NaN where fewer than two values are there: one seed says nothing about seeds.
    """
    x = np.asarray(values, float)
    n = np.isfinite(x).sum(-1)
    filled = np.where(np.isfinite(x), x, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = filled.sum(-1) / n
        variance = np.where(np.isfinite(x), (x - mean[..., None]) ** 2, 0.0).sum(-1) / (n - 1)
        half = np.vectorize(lambda k: quantile(k - 1) if k > 1 else np.nan, otypes=[float])(n) * np.sqrt(variance / n)
    return mean, mean - half, mean + half
