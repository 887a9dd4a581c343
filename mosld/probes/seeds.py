"""Over seeds: the mean of what was measured once a seed, and how far that mean may be trusted."""

from __future__ import annotations

import functools
import math

import numpy as np
from numpy.typing import ArrayLike


@functools.cache
def t_quantile(freedom: int, level: float = 0.95) -> float:
    """The t with P(|T| <= t) = level for Student's T with `freedom` degrees of freedom.

    With T = sqrt(freedom) tan a the density of a is proportional to cos(a)^(freedom - 1) on [0, pi/2], and is summed up there.
    """
    angle = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(angle) ** (freedom - 1)
    share = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return math.sqrt(freedom) * math.tan(float(np.interp(level, share / share[-1], angle)))


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
        half = np.vectorize(lambda k: t_quantile(int(k) - 1, level) if k > 1 else math.nan, otypes=[float])(n) * np.sqrt(variance / n)
    return mean, mean - half, mean + half
