"""Is A updated more than the B_e? Four definitions, always together, each as log2(A over the mean of the B_e): 0 is even.

1. updates: tokens that reach A over tokens that reach B_e
2. gradient: root mean square of the gradient's entries
3. step: root mean square of the entries' change in one optimiser step
4. relative step: that over the root mean square of the weights before the step

Where a matrix is not shared, its own mean over experts is taken. A quantity that is undefined (a zero or a missing value on either
side; B_e = 0 before the first step) is None, a gap, and not 0.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def log_ratio(a: Tensor, b: Tensor) -> float | None:
    """log2(mean(a) / mean(b)), or None where either is zero or not finite; experts without a value (NaN) are left out.

    a: [1 or E] values of A; b: [1 or E] values of the B_e.
    """
    return log_ratios(a[None], b[None])[0]


def log_ratios(a: Tensor, b: Tensor) -> list[float | None]:
    """`log_ratio` of every row of [n, 1 or E]."""
    pairs = zip(a.nanmean(-1).tolist(), b.nanmean(-1).tolist(), strict=True)
    sound = (t if math.isfinite(t[0]) and math.isfinite(t[1]) and min(t) > 0 else None for t in pairs)
    return [None if t is None else math.log2(t[0] / t[1]) for t in sound]


def update_counts(load: Tensor, a_shared: bool, b_shared: bool, kept_a: float = 1.0, kept_b: float = 1.0) -> tuple[Tensor, Tensor]:
    """Share of the tokens that reach an entry of A and of B_e in a step: ([..., 1 or E], [..., 1 or E]).

    A shared matrix is reached by every token, an expert's own by the tokens sent to it (`load` [..., E]). Weight dropout keeps an entry out of the
    step for all its tokens, so the share of entries that the mask left (`kept_*`) multiplies the count.
    With E experts, top-K and an even load the ratio is E / K for a shared A; where E = K it is 1.
    """
    everyone = torch.ones_like(load[..., :1])
    return (everyone if a_shared else load) * kept_a, (everyone if b_shared else load) * kept_b


def relative(step: Tensor, weight: Tensor) -> Tensor:
    """Step size over weight size, entry by entry; NaN where the weight is zero."""
    return (step / weight).masked_fill(weight == 0, float("nan"))
