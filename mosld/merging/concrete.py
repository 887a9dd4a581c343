"""Concrete Subspace Learning (arXiv 2312.06173): merge in a subspace, found by one soft mask that all tasks share.

    m = sigmoid((log(u / (1 - u)) + x) / temperature),  u uniform;   tau'_t = tau_t * m / mean(m)

One logit x a weight, from 0; mean(m) is taken linear by linear (as in the authors' public code), so that a mask keeps a linear's scale.
x is learned by Adam on the entropy of the merged model's answers on unlabelled questions.
- On Task Arithmetic: lambda stays 0.3.
- On AdaMerging: each step takes a fresh mask, one gradient step on lambda from its start (inner), then the step on x at that lambda
  (outer, first order; the size of the inner step is unverified). Afterwards a mask is drawn, frozen, and AdaMerging runs on the masked task vectors.
The mask that is used in the end is one more seeded draw. Density is the mean of sigmoid(x), the probability that an entry is kept.

Shapes: every linear [d_out, d_in]; T tasks, L linears, lams [L, T].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mosld.backbones.base import Batch
from mosld.merging.adamerging import coefficient_gradient, merged
from mosld.merging.entropy import mean_entropy
from mosld.merging.model import MergedModel, gradients
from mosld.merging.vectors import TaskVector, dense

EDGE = 1e-6  # u is kept this far from 0 and 1, where its logit is infinite


def draw_noise(logits: dict[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
    """log(u / (1 - u)) for every entry. Drawn on the CPU: the same on every device."""
    out = {}
    for name, x in logits.items():
        u = torch.rand(x.shape, generator=generator).clamp_(EDGE, 1 - EDGE)
        out[name] = torch.logit(u).to(x)
    return out


def rescaled_mask(x: Tensor, noise: Tensor, temperature: float = 0.5) -> Tensor:
    """m / mean(m), whose mean is 1, [d_out, d_in]."""
    m = torch.sigmoid((noise + x) / temperature)
    return m / m.mean()


def density(logits: dict[str, Tensor]) -> dict[str, float]:
    """Mean probability that an entry is kept, a number a linear."""
    return {name: float(torch.sigmoid(x.detach()).mean()) for name, x in logits.items()}


def learn_mask(
    model: MergedModel,
    vectors: Sequence[TaskVector],
    batches: Callable[[int], Iterable[Batch]],
    generator: torch.Generator,
    lam: float = 0.3,
    inner: float | None = None,
    steps: int = 500,
    lr: float = 1e-3,
    temperature: float = 0.5,
    watch: Callable[[int, dict[str, Tensor], float], None] | None = None,
) -> dict[str, Tensor]:
    """The logits x of the shared mask.

    Args:
        batches: step, from 0, to one unlabelled batch of each task; with an inner step, two calls a step.
        inner: rate of the inner step on lambda; None leaves lambda where it is (Task Arithmetic).
        watch: told (steps done, logits, mean entropy in nats before the step just done).
    """
    start = torch.full((len(vectors[0]), len(vectors)), lam)
    logits = {name: torch.zeros_like(total).requires_grad_() for name, total in merged(vectors, start).items()}
    optimiser = torch.optim.Adam(logits.values(), lr=lr)
    calls = 0
    for step in range(steps):
        noise = draw_noise(logits, generator)
        mask = {name: rescaled_mask(x, noise[name], temperature) for name, x in logits.items()}
        lams = start
        if inner is not None:
            fixed = {name: m.detach() for name, m in mask.items()}
            _, gradient = gradients(model, times(merged(vectors, lams), fixed), batches(calls), mean_entropy, len(vectors))
            # <dL/dtheta, tau * m> = <dL/dtheta * m, tau>: the task vectors themselves are never masked, and stay in their factors
            lams = (lams - inner * coefficient_gradient(times(gradient, fixed), vectors).to(lams)).clamp(0, 1)
            calls += 1
        masked = times(merged(vectors, lams), mask)
        loss, gradient = gradients(model, {name: d.detach() for name, d in masked.items()}, batches(calls), mean_entropy, len(vectors))
        calls += 1
        optimiser.zero_grad()
        torch.autograd.backward(list(masked.values()), [gradient[name] for name in masked])
        optimiser.step()
        if watch:
            watch(step + 1, logits, loss)
    return {name: x.detach() for name, x in logits.items()}


def freeze(logits: dict[str, Tensor], generator: torch.Generator, temperature: float = 0.5) -> dict[str, Tensor]:
    """The mask to merge with: one draw, rescaled to mean 1 in every linear."""
    noise = draw_noise(logits, generator)
    return {name: rescaled_mask(x, noise[name], temperature) for name, x in logits.items()}


def times(matrices: dict[str, Tensor], mask: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every matrix times its mask, entry by entry."""
    return {name: matrix * mask[name] for name, matrix in matrices.items()}


def masked_vectors(vectors: Sequence[TaskVector], mask: dict[str, Tensor]) -> list[TaskVector]:
    """The task vectors in the subspace, dense."""
    return [{name: dense(update) * mask[name] for name, update in v.items()} for v in vectors]
