"""AdaMerging (arXiv 2310.02575): learn the coefficients by minimising the entropy of the merged model's answers on unlabelled questions.

    theta^l = theta_0^l + sum_t lambda_t^l tau_t^l,   layer-wise: one lambda per task and linear; task-wise: lambda_t^l = lambda_t

Start 0.3, Adam, lambda kept in [0, 1] (here by clipping after each step). "++" is the same on task vectors that TIES trimmed and elected.
Exact and cheap: dL/dlambda_t^l = <dL/dtheta^l, tau_t^l>. A step merges once, goes backward task by task and takes dot products, so its
memory does not grow with the number of tasks, and low-rank task vectors stay in their factors.

Shapes: T tasks, L adapted linears, lams [L, T].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from mosld.backbones.base import Batch
from mosld.merging.entropy import mean_entropy
from mosld.merging.model import MergedModel, gradients
from mosld.merging.vectors import TaskVector, dot, stack, weighted


def merge(vectors: Sequence[TaskVector], lams: Tensor) -> TaskVector:
    """sum_t lambda_t^l tau_t^l of every linear, factored where the task vectors are; `lams` [L, T], or [1, T] for the same in all linears."""
    rows = lams.expand(len(vectors[0]), -1).tolist()
    return {name: stack([v[name] for v in vectors], row) for name, row in zip(vectors[0], rows, strict=True)}


def merged(vectors: Sequence[TaskVector], lams: Tensor) -> dict[str, Tensor]:
    """The same as one dense matrix a linear."""
    rows = lams.expand(len(vectors[0]), -1).tolist()
    return {name: weighted([v[name] for v in vectors], row) for name, row in zip(vectors[0], rows, strict=True)}


def coefficient_gradient(gradient: dict[str, Tensor], vectors: Sequence[TaskVector]) -> Tensor:
    """dL/dlambda [L, T] from dL/dtheta of every linear: <dL/dtheta^l, tau_t^l>. The sum over L is the task-wise gradient."""
    return torch.stack([torch.stack([dot(gradient[name], v[name]) for v in vectors]) for name in vectors[0]])


def learn(
    model: MergedModel,
    vectors: Sequence[TaskVector],
    batches: Callable[[int], Iterable[Batch]],
    layer_wise: bool = True,
    start: float = 0.3,
    steps: int = 500,
    lr: float = 1e-3,
    watch: Callable[[int, Tensor, float], None] | None = None,
) -> Tensor:
    """The learned coefficients, [L, T] layer-wise, [1, T] task-wise.

    Args:
        batches: step, from 0, to one unlabelled batch of each of the T tasks.
        watch: told (steps done, coefficients, mean entropy in nats before the step just done).
    """
    lams = torch.full((len(vectors[0]) if layer_wise else 1, len(vectors)), start)
    optimiser = torch.optim.Adam([lams], lr=lr)
    for step in range(steps):
        loss, gradient = gradients(model, merged(vectors, lams), batches(step), mean_entropy, len(vectors))
        by_linear = coefficient_gradient(gradient, vectors).to(lams)
        lams.grad = by_linear if layer_wise else by_linear.sum(0, keepdim=True)
        optimiser.step()
        lams.clamp_(0, 1)
        if watch:
            watch(step + 1, lams, loss)
    return lams
