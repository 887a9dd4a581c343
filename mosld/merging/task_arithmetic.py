"""Task Arithmetic (arXiv 2212.04089): theta = theta_0 + sum_t lambda_t tau_t, one lambda = 0.3 for all tasks in the paper.

Factored task vectors give a factored merge: nothing of size d_out x d_in is made.
"""

from __future__ import annotations

from collections.abc import Sequence

from mosld.merging.vectors import TaskVector, stack


def merge(vectors: Sequence[TaskVector], lams: Sequence[float]) -> TaskVector:
    """The sum of the task vectors, each times its coefficient; `lams` [T]."""
    return {name: stack([v[name] for v in vectors], lams) for name in vectors[0]}
