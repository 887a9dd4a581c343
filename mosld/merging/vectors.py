"""Task vectors: what fine-tuning on one task added to every adapted linear, and sums of them.

tau_t = theta_t - theta_0 (Task Arithmetic, arXiv 2212.04089), one matrix an adapted linear; all other weights are frozen, so it is zero there.
The update of a LoRA adapter stays in its two factors wherever the mathematics allows.

Shapes: d_out, d_in of a linear, r rank, T tasks, L adapted linears.

- `Factors`, `Update`, `TaskVector`: up [d_out, r] and down [r, d_in]; either these or a dense [d_out, d_in]; one update a linear.
- `task_vector(handle)`: read off trained adapters.
- `dense`, `dot`, `size`, `entries`: of one update. `rms`: of a whole task vector.
- `stack`: a weighted sum that stays in factors; `weighted`: a weighted sum as one dense matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mosld.adapters import Handle
from mosld.adapters.lora import LoRA
from mosld.adapters.mtl_lora import MTLLoRA
from mosld.config import ConfigError


class Factors(NamedTuple):
    """The update up @ down, never multiplied out. The adapter's scale alpha / r is part of `up`."""

    up: Tensor  # [d_out, r]
    down: Tensor  # [r, d_in]


Update = Tensor | Factors
TaskVector = dict[str, Update]  # by the name of the linear


def task_vector(handle: Handle, task: int | None = None) -> TaskVector:
    """tau of trained adapters; `task`: whose, for a method that has one update a task.

    Raises ConfigError for a method that routes by its input: no matrix equals its update.
    """
    out: TaskVector = {}
    for a in handle.adapters:
        if (a.token_routed and a.site.experts > 1) or (a.task_routed and a.context.tasks > 1 and task is None):
            raise ConfigError(f"merge: {handle.config.label} has no single update to merge; train the adapters of single tasks with lora.")
        if isinstance(a, LoRA):
            up, down = a.products()
            out[a.site.name] = Factors((a.scale * up[0]).detach(), down[0].detach().clone())
        elif isinstance(a, MTLLoRA):
            out[a.site.name] = Factors(*(t.detach().clone() for t in a.task_factors(task or 0)))
        else:
            out[a.site.name] = a.delta().detach()
    return out


def dense(update: Update) -> Tensor:
    """[d_out, d_in]."""
    return update.up @ update.down if isinstance(update, Factors) else update


def dot(gradient: Tensor, update: Update) -> Tensor:
    """<G, tau>, the sum of products of entries, G [d_out, d_in]. For factors: <up^T G, down>, without a d_out x d_in product."""
    if isinstance(update, Factors):
        return (update.up.t() @ gradient * update.down).sum()
    return (gradient * update).sum()


def size(update: Update) -> int:
    """Numbers stored."""
    return sum(t.numel() for t in update) if isinstance(update, Factors) else update.numel()


def entries(update: Update) -> int:
    """d_out * d_in."""
    return update.up.shape[0] * update.down.shape[1] if isinstance(update, Factors) else update.numel()


def rms(vector: TaskVector) -> float:
    """Root mean square of all entries of a task vector. For factors ||up down||^2 is the sum of entries of (up^T up) * (down down^T)."""
    squares = 0.0
    for u in vector.values():
        squares += float(((u.up.t() @ u.up) * (u.down @ u.down.t())).sum() if isinstance(u, Factors) else u.square().sum())
    return math.sqrt(max(squares, 0.0) / sum(entries(u) for u in vector.values()))


def stack(updates: Sequence[Update], scales: Sequence[float]) -> Update:
    """sum_t scale_t tau_t. Factored updates give factors of rank sum_t r_t: the columns of up, scaled, side by side."""
    if all(isinstance(u, Factors) for u in updates):
        up = torch.cat([u.up * float(s) for u, s in zip(updates, scales, strict=True)], 1)
        return Factors(up, torch.cat([u.down for u in updates]))
    return weighted(updates, scales)


def weighted(updates: Sequence[Update], scales: Sequence[float]) -> Tensor:
    """sum_t scale_t tau_t as one dense [d_out, d_in], added up in place: no second matrix of that size, whatever T is."""
    first = updates[0]
    rows = first.up if isinstance(first, Factors) else first
    out = rows.new_zeros(rows.shape[0], (first.down if isinstance(first, Factors) else first).shape[1])
    for u, s in zip(updates, scales, strict=True):
        if isinstance(u, Factors):
            out.addmm_(u.up, u.down, alpha=float(s))
        else:
            out.add_(u, alpha=float(s))
    return out
