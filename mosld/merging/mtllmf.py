"""Merging over a noisy channel, after R-MTLLMF (arXiv 2411.18220; built from its abstract, so "after").

    received tau_t + rms(tau_t) sqrt((n0 + j_t) / p_t) eps,  eps standard normal;   merged by Task Arithmetic

j is the jammer's choice (`channel.py`). Every user sends the dense update of every adapted linear, scaled to unit power.
Defence: (1) embeddings are frozen and not sent, which holds here by construction, since adapters never touch them; (2) realignment: a few
labelled steps of Adam on the merged update of the adapted linears (which weights, and how many steps, the abstract does not say).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mosld.backbones.base import Batch
from mosld.merging.model import MergedModel, gradients
from mosld.merging.vectors import TaskVector, rms, weighted


def received(
    vectors: Sequence[TaskVector], jam: Sequence[float], powers: Sequence[float], noise: float, lams: Sequence[float], generator: torch.Generator
) -> dict[str, Tensor]:
    """sum_t lambda_t (tau_t + noise), dense, one linear [d_out, d_in] after the other. The same generator state gives the same eps."""
    spread = [rms(v) * math.sqrt((noise + j) / p) for v, j, p in zip(vectors, jam, powers, strict=True)]
    out = {}
    for name in vectors[0]:
        total = weighted([v[name] for v in vectors], lams)
        for lam, s in zip(lams, spread, strict=True):
            total.add_(torch.randn(total.shape, generator=generator).to(total), alpha=float(lam) * s)
        out[name] = total
    return out


def realign(
    model: MergedModel,
    updates: dict[str, Tensor],
    batches: Callable[[int], Iterable[Batch]],
    tasks: int,
    steps: int = 10,
    lr: float = 3e-4,
    watch: Callable[[int, float], None] | None = None,
) -> dict[str, Tensor]:
    """The merged update after some labelled steps: Adam on the mean cross-entropy of one batch of each task a step.

    `watch` is told (steps done, mean cross-entropy in nats before the step just done).
    """
    own = {name: u.clone() for name, u in updates.items()}
    optimiser = torch.optim.Adam(own.values(), lr=lr)
    for step in range(steps):
        loss, gradient = gradients(model, own, batches(step), cross_entropy, tasks)
        for name, u in own.items():
            u.grad = gradient[name]
        optimiser.step()
        if watch:
            watch(step + 1, loss)
    return own


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """Mean cross-entropy of a labelled batch."""
    return F.cross_entropy(logits, batch.answer)
