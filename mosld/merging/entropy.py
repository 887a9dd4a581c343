"""The objective of AdaMerging and Concrete Subspace: the entropy of the answers that the merged model gives.

AdaMerging (arXiv 2310.02575): minimise the mean over tasks and questions of H(softmax(logits)); no answer is looked at.
Shapes: N questions, O options.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mosld.backbones.base import Batch


def entropy(logits: Tensor) -> Tensor:
    """Entropy in nats of every question's softmax over its options: [N, O] to [N]. Missing options (-inf) count for nothing."""
    log_p = logits.log_softmax(-1)
    there = torch.isfinite(logits)
    return -(log_p.exp() * log_p.masked_fill(~there, 0.0)).sum(-1)


def mean_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """The mean over the questions of a batch."""
    return entropy(logits).mean()
