"""Frobenius norms of low-rank experts.

Shapes: E experts, r rank. `up` [..., 1 or E, d_out, r], `down` [..., 1 or E, r, d_in]; where one of them is shared its size there is 1. What leads
(linears of one shape) is kept.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frobenius(stack: Tensor) -> Tensor:
    """||W_e||_F of every matrix of a stack [..., n, a, b]: [..., n]."""
    return torch.linalg.vector_norm(stack.flatten(-2), dim=-1)


def product_norm(up: Tensor, down: Tensor) -> Tensor:
    """||up_e down_e||_F of every expert, [..., E], through r x r Gram matrices: ||U D||^2 = sum((U^T U) * (D D^T)); U D is never formed."""
    left = up.transpose(-1, -2) @ up
    right = down @ down.transpose(-1, -2)
    return (left * right).sum((-2, -1)).clamp(min=0).sqrt()


def rms(stack: Tensor) -> Tensor:
    """Root mean square of the entries of every matrix of a stack [..., n, a, b]: [..., n]. A norm that a matrix's shape does not tilt."""
    return frobenius(stack) / (stack.shape[-2] * stack.shape[-1]) ** 0.5
