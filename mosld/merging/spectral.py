"""Merging by singular vectors: TSV-M, Iso-C, KnOTS; and the cut of any merge to a low rank.

With tau_t = U_t S_t V_t^T, T tasks, a linear [d_out, d_in]:
- TSV-M (arXiv 2412.00081): the first R / T singular triples of each task (R the rank the sum has room for), side by side; U and V are each
  replaced by the nearest matrix with orthonormal columns, so that tasks do not disturb one another: lambda U' S V'^T.
- Iso-C (arXiv 2502.04959): of the sum over tasks, every singular value is replaced by their mean: lambda mean(s) U V^T. Directions that the
  sum does not have (a sum of low-rank updates has few) stay out.
- KnOTS (arXiv 2410.19735): the task vectors side by side, [tau_1 ... tau_T] = U S [V_1 ... V_T]^T, put all tasks into one basis U S; their V_t are
  merged, by TIES as in the paper, and multiplied back.
- `truncate`: the nearest matrix of rank r, as factors: what peft's combination types that end in `svd` do.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mosld.merging import ties
from mosld.merging.vectors import Factors, TaskVector, Update, dense, weighted


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(U [m, k], s [k], V^T [k, n]) with the k singular values that are not rounding error; at least one."""
    u, s, vt = torch.linalg.svd(matrix, full_matrices=False)
    k = max(1, int((s > s[0] * max(matrix.shape) * torch.finfo(s.dtype).eps).sum()))
    return u[:, :k], s[:k], vt[:k]


def orthonormal(columns: Tensor) -> Tensor:
    """The matrix with orthonormal columns that is nearest to [m, k], k <= m (Procrustes)."""
    p, _, qt = torch.linalg.svd(columns, full_matrices=False)
    return p @ qt


def tsv(vectors: Sequence[TaskVector], lam: float = 1.0) -> TaskVector:
    """TSV-M, in factors of rank at most min(d_out, d_in)."""
    out: TaskVector = {}
    for name in vectors[0]:
        parts = [svd(dense(v[name])) for v in vectors]
        room = max(1, min(parts[0][0].shape[0], parts[0][2].shape[1]) // len(parts))
        u = orthonormal(torch.cat([u[:, :room] for u, _, _ in parts], 1))
        v = orthonormal(torch.cat([vt[:room].t() for _, _, vt in parts], 1))
        s = torch.cat([s[:room] for _, s, _ in parts])
        out[name] = Factors(lam * u * s, v.t().contiguous())
    return out


def iso(vectors: Sequence[TaskVector], lam: float = 1.0) -> TaskVector:
    """Iso-C, in factors of the rank of the sum."""
    out: TaskVector = {}
    for name in vectors[0]:
        u, s, vt = svd(weighted([v[name] for v in vectors], [1.0] * len(vectors)))
        out[name] = Factors(lam * s.mean() * u, vt.contiguous())
    return out


def knots(vectors: Sequence[TaskVector], keep: float = 0.2, of: str = "mean", lam: float | None = None) -> TaskVector:
    """KnOTS with TIES on the right factors; arguments as `ties.merge`. In factors of the rank of all tasks together."""
    basis, right = {}, [{} for _ in vectors]
    for name in vectors[0]:
        u, s, vt = svd(torch.cat([dense(v[name]) for v in vectors], 1))
        basis[name] = u * s
        for own, part in zip(right, vt.chunk(len(vectors), 1), strict=True):
            own[name] = part.contiguous()
    merged = ties.merge(right, keep, of, lam)
    return {name: Factors(basis[name], dense(merged[name])) for name in basis}


def truncate(update: Update, rank: int) -> Factors:
    """The nearest matrix of rank at most `rank` (Eckart and Young), as factors."""
    u, s, vt = svd(dense(update))
    return Factors(u[:, :rank] * s[:rank], vt[:rank].contiguous())
