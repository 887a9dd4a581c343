"""Merging of task vectors that were thinned first: magnitude pruning, DARE, DELLA; merged by a plain sum or by TIES' election of signs.

- magnitude: of each task vector the largest entries stay, as TIES trims.
- DARE (arXiv 2311.03099): every entry stays with probability k, whatever its size, and is divided by k, so that its mean is unchanged.
- DELLA (arXiv 2406.11617), MagPrune: the probability of staying grows with the entry's rank by size in its row (an output of the linear),
  in even steps from k - e/2 for the smallest to k + e/2 for the largest; what stays is divided by its own probability.

Dense: thinning by entry leaves no low rank. Shapes: T tasks, a linear is [d_out, d_in]. Draws depend on seed, linear and task alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mosld.merging import ties
from mosld.merging.vectors import TaskVector, dense

Thinned = Callable[[str], Tensor]  # a linear's name to [T, d_out, d_in]


def magnitude(vectors: Sequence[TaskVector], keep: float) -> Thinned:
    """The largest entries of each task vector, a share `keep` of them over all linears together."""
    return ties.trimmed(vectors, keep)


def dare(vectors: Sequence[TaskVector], keep: float, seed: int) -> Thinned:
    """Each entry with probability `keep`, divided by it."""
    return della(vectors, keep, 0.0, seed)


def della(vectors: Sequence[TaskVector], keep: float, spread: float, seed: int) -> Thinned:
    """Each entry with a probability that grows with its size within its row, divided by it; `spread` is what the largest has over the smallest.

    The spread is cut where a probability would leave (0, 1].
    """
    spread = min(spread, 2 * (1 - keep), 2 * keep * 0.999)
    order = {name: i for i, name in enumerate(vectors[0])}

    def thinned(name: str) -> Tensor:
        rows = []
        for t, vector in enumerate(vectors):
            tau = dense(vector[name])
            generator = torch.Generator().manual_seed((seed * 100_003 + order[name]) * 1_009 + t)
            chance = _chance(tau, keep, spread)
            stays = torch.rand(tau.shape, generator=generator).to(tau) < chance
            rows.append(tau * stays / chance)
        return torch.stack(rows)

    return thinned


def _chance(tau: Tensor, keep: float, spread: float) -> Tensor:
    """Probability of each entry of tau [d_out, d_in] to stay; alike for all where there is no spread or a row has one entry."""
    if not spread or tau.shape[1] == 1:
        return torch.full_like(tau, keep)
    rank = tau.abs().argsort(dim=1, stable=True).argsort(dim=1, stable=True).to(tau)  # 0 for the smallest of a row
    return keep - spread / 2 + spread * rank / (tau.shape[1] - 1)


def total(names: Sequence[str], thinned: Thinned, lam: float) -> TaskVector:
    """lambda times the sum over tasks."""
    return {name: lam * thinned(name).sum(0) for name in names}


def elected(names: Sequence[str], thinned: Thinned, lam: float = 1.0) -> TaskVector:
    """lambda times the mean, entry by entry, of those that have the elected sign (TIES)."""
    return {name: lam * ties.mean(entries) for name, entries in ties.elect(names, thinned)}
