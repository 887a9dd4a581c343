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

from torch import Tensor


def log_ratio(a: Tensor, b: Tensor) -> float | None:
    """log2(mean(a) / mean(b)), or None where either is zero or not finite; experts without a value (NaN) are left out.

    a: [1 or E] values of A; b: [1 or E] values of the B_e.
    """
    top, bottom = float(a.nanmean()), float(b.nanmean())
    if not (math.isfinite(top) and math.isfinite(bottom)) or top <= 0 or bottom <= 0:
        return None
    return math.log2(top / bottom)


def update_counts(load: Tensor, a_shared: bool, b_shared: bool, kept_a: float = 1.0, kept_b: float = 1.0) -> tuple[Tensor, Tensor]:
    """Share of the tokens that reach an entry of A and of B_e in a step: ([1 or E], [1 or E]).

    A shared matrix is reached by every token, an expert's own by the tokens sent to it (`load` [E]). Weight dropout keeps an entry out of the
    step for all its tokens, so the share of entries that the mask left (`kept_*`) multiplies the count.
    With E experts, top-K and an even load the ratio is E / K for a shared A; where E = K it is 1.
    """
    everyone = load.new_ones(1)
    return (everyone if a_shared else load) * kept_a, (everyone if b_shared else load) * kept_b


def relative(step: Tensor, weight: Tensor) -> Tensor:
    """Step size over weight size, entry by entry of [n]; NaN where the weight is zero."""
    return (step / weight).masked_fill(weight == 0, float("nan"))
