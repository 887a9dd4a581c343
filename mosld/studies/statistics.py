"""What a few seeds can say: means, spreads, and the interval of a paired difference.

Values are plain floats, one a seed. Paired: the n-th values of both come from the same seed, so from the same rows and batches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from mosld.probes.seeds import t_quantile


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


def spread(values: Sequence[float]) -> float:
    """Sample standard deviation (n - 1 in the divisor); NaN of fewer than two values."""
    if len(values) < 2:
        return math.nan
    centre = mean(values)
    return math.sqrt(sum((v - centre) ** 2 for v in values) / (len(values) - 1))


def paired_interval(first: Sequence[float], second: Sequence[float], level: float = 0.95) -> tuple[float, float, float]:
    """Mean of `first` minus `second`, seed by seed, and the ends of its t interval; the ends are NaN for fewer than two seeds.

    The interval takes the differences as draws from a normal distribution and knows of no other runs: with many methods side by side
    one in twenty excludes 0 by chance.
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    centre = mean(differences)
    if len(differences) < 2:
        return centre, math.nan, math.nan
    half = t_quantile(len(differences) - 1, level) * spread(differences) / math.sqrt(len(differences))
    return centre, centre - half, centre + half
