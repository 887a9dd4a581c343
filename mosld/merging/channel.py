"""The channel of "after R-MTLLMF" (arXiv 2411.18220, from its abstract): who is jammed how much. Plain numbers, no tensors.

User t sends with received power p_t over noise n0; a jammer adds j_t >= 0 with sum j_t <= P. User t's rate is log2(1 + p_t / (n0 + j_t)).

- `jam(case, ...)`: j of the cases 'ideal' (no jammer), 'sum' (smallest sum rate) and 'strongest' (all of P on the strongest user).
- `water_filling`: the 'sum' case. `sum_rate`: what it makes small.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

BISECTIONS = 200  # halvings of mu, far beyond double precision


def sum_rate(powers: Sequence[float], noise: float, jam: Sequence[float]) -> float:
    """sum_t log2(1 + p_t / (n0 + j_t)), bits a channel use."""
    return sum(math.log2(1 + p / (noise + j)) for p, j in zip(powers, jam, strict=True))


def water_filling(powers: Sequence[float], noise: float, budget: float) -> list[float]:
    """The j that makes the sum rate smallest under sum j <= P.

    Where j_t > 0 the loss of rate per unit of jamming is the same mu for all: p / ((n0 + j)(n0 + j + p)) = mu, so
    j_t = max(0, -n0 - p_t / 2 + sqrt(p_t^2 / 4 + p_t / mu)). The rate is convex in j, so this is the one minimum. sum j falls with mu:
    bisection on log mu meets the budget.
    """

    def levels(mu: float) -> list[float]:
        return [max(0.0, -noise - p / 2 + math.sqrt(p * p / 4 + p / mu)) for p in powers]

    if budget <= 0:
        return [0.0 for _ in powers]
    high = max(p / (noise * (noise + p)) for p in powers)  # at this mu nobody is jammed
    low = min(p / ((noise + budget) * (noise + budget + p)) for p in powers)  # at this mu everybody gets all of P or more
    for _ in range(BISECTIONS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if sum(levels(middle)) > budget else (low, middle)
    return levels(high)  # the side that does not exceed the budget


def jam(case: str, powers: Sequence[float], noise: float, budget: float) -> list[float]:
    """Jamming power on each user. Of several strongest users the first is jammed."""
    if case == "sum":
        return water_filling(powers, noise, budget)
    out = [0.0 for _ in powers]
    if case == "strongest":
        out[max(range(len(powers)), key=lambda t: powers[t])] = budget
    return out
