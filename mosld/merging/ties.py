"""TIES-Merging (arXiv 2306.01708): trim, elect signs, merge what agrees.

1. Trim: of each task vector keep the largest 20 % of its entries by size, over all linears together.
2. Elect: the sign of each entry is that of the sum over tasks; where the sum is zero, the sign that most entries have.
3. Merge: the mean (or the sum) of the trimmed entries that have the elected sign; lambda 1 for the mean, 0.3 for the sum.

Dense: trimming by entry leaves no low rank. One task, or one linear, is dense at a time. Shapes: T tasks, a linear is [d_out, d_in].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from mosld.merging.vectors import TaskVector, dense


def threshold(vector: TaskVector, keep: float) -> float:
    """The size of the smallest entry that trimming keeps: the round(keep * n)-th largest of all n entries, at least one."""
    sizes = torch.cat([dense(u).abs().flatten() for u in vector.values()])
    kept = max(1, round(keep * len(sizes)))
    return float(sizes.kthvalue(len(sizes) - kept + 1).values)


def trim(matrix: Tensor, smallest: float) -> Tensor:
    """Entries of at least this size; the others are 0. Entries as large as the threshold all stay."""
    return matrix * (matrix.abs() >= smallest)


def elect(names: Iterable[str], thinned: Callable[[str], Tensor]) -> Iterator[tuple[str, Tensor]]:
    """(linear, [T, d_out, d_in]): the entries that have the elected sign, the rest 0, one linear after the other.

    `thinned`: a linear's name to its thinned task vectors [T, d_out, d_in]; it is asked twice, since the majority is taken over all linears.
    """
    names = list(names)
    balance = sum(float(thinned(name).sum(0).sign().sum()) for name in names)
    majority = 1.0 if balance >= 0 else -1.0  # as many of each: +1, the paper does not say
    for name in names:
        entries = thinned(name)
        sign = entries.sum(0).sign()
        sign[sign == 0] = majority
        yield name, entries * (entries.sign() == sign)


def mean(entries: Tensor) -> Tensor:
    """The mean over tasks of what is not 0, [T, d_out, d_in] to [d_out, d_in]; 0 where all are."""
    return entries.sum(0) / (entries != 0).sum(0).clamp(min=1)


def trimmed(vectors: Sequence[TaskVector], keep: float) -> Callable[[str], Tensor]:
    """A linear's name to its trimmed task vectors [T, d_out, d_in]."""
    cuts = [threshold(v, keep) for v in vectors]
    return lambda name: torch.stack([trim(dense(v[name]), cut) for v, cut in zip(vectors, cuts, strict=True)])


def agreeing(vectors: Sequence[TaskVector], keep: float = 0.2) -> list[TaskVector]:
    """The task vectors after trimming and election, dense: what AdaMerging++ starts from."""
    out: list[TaskVector] = [{} for _ in vectors]
    for name, entries in elect(vectors[0], trimmed(vectors, keep)):
        for v, own in zip(out, entries, strict=True):
            v[name] = own
    return out


def merge(vectors: Sequence[TaskVector], keep: float = 0.2, of: str = "mean", lam: float | None = None) -> TaskVector:
    """The TIES merge. `of`: 'mean' over the tasks that agree at an entry, or their 'sum'. `lam` None is 1 for the mean, 0.3 for the sum."""
    lam = {"mean": 1.0, "sum": 0.3}[of] if lam is None else lam
    out: TaskVector = {}
    for name, entries in elect(vectors[0], trimmed(vectors, keep)):
        out[name] = lam * (mean(entries) if of == "mean" else entries.sum(0))
    return out
