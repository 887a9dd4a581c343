"""How experts' updates lie to one another, and whether tasks pull a matrix in opposite directions.

Shapes: E experts, r rank, T tasks. `up` [1 or E, d_out, r], `down` [1 or E, r, d_in]; a shared factor has first size 1.
No d_out x d_in product is formed: all goes through r x r matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor


def update_cosines(up: Tensor, down: Tensor) -> Tensor:
    """Cosine between the updates B_i A_i and B_j A_j as vectors, [E, E]: <U_i D_i, U_j D_j> = sum((U_i^T U_j) * (D_i D_j^T)).

    1 on the diagonal; NaN where an update is zero. Experts that share A can differ through B alone.
    """
    experts = max(len(up), len(down))
    up, down = up.expand(experts, -1, -1), down.expand(experts, -1, -1)
    # one row at a time: all E x E x r x r products at once would not fit for large E and r
    inner = torch.stack([((up[i].t() @ up) * (down[i] @ down.transpose(1, 2))).sum((1, 2)) for i in range(experts)])
    size = inner.diagonal().clamp(min=0).sqrt()
    return inner / (size[:, None] * size).masked_fill((size[:, None] * size) == 0, float("nan"))


def singular_values(up: Tensor, down: Tensor) -> Tensor:
    """Singular values of every update B_e A_e, largest first, [E, r]: those of R_u R_d^T, from the QR of both factors."""
    r_up = torch.linalg.qr(up, mode="r").R  # [., r, r]
    r_down = torch.linalg.qr(down.transpose(1, 2), mode="r").R
    return torch.linalg.svdvals(r_up @ r_down.transpose(1, 2))


def stable_rank(values: Tensor) -> Tensor:
    """sum s^2 / max s^2 of singular values [..., r], in [1, r]: how many directions an update uses. NaN where it is zero."""
    squares = values.square()
    top = squares.amax(-1)
    return squares.sum(-1) / top.masked_fill(top == 0, float("nan"))


def conflict(gradients: Tensor) -> Tensor:
    """Cosine between the gradients of every two tasks on one matrix, [T, n] to [T, T]; below 0 they pull apart (arXiv 2001.06782).

    NaN where a task's gradient is zero.
    """
    size = gradients.norm(dim=1, keepdim=True)
    unit = gradients / size.masked_fill(size == 0, float("nan"))
    return unit @ unit.t()
