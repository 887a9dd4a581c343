"""The geometry of a run: how its experts' updates lie to one another, and whether its tasks pull A and B in opposite directions.

- `updates(trainer)`: for every adapted linear, cosines between experts' updates within each arm and across two arms, singular values.
- `conflicts(trainer)`: for every arm, cosines between tasks' gradients on A and on B, of each linear and of all together.
- `Looking(trainer)`: the same in slices, a task of an arm at a time, so that a run that trains meanwhile is not held up.

Both look between two steps and leave no trace in the run: no gradient, no random number, no optimiser state is touched. Definitions are
those of `mosld.probes.geometry`. A value that is undefined (an update or a gradient of zero, as for A while B is zero) is None, a gap.

Shapes: E experts, r rank, T tasks of the mixture.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mosld.adapters.adapter import Adapter
from mosld.config import ConfigError
from mosld.probes import geometry
from mosld.training.arms import Arm
from mosld.training.trainer import Trainer

EXPERTS = 16  # experts looked at in a linear
VALUES = 32  # singular values kept of an update
TASKS = 12  # tasks whose gradients are compared
ROWS = 16  # questions of one gradient; each task has two, from different questions

Matrix = list[list[float | None]]


@dataclass(frozen=True)
class Updates:
    """One adapted linear of one arm. The scale alpha / rank is left out."""

    layer: int
    target: str
    experts: int  # that there are; the fields below are of the first EXPERTS
    cosines: Matrix  # [E][E]
    singular: list[list[float]]  # [E][r], largest first
    stable_rank: list[float | None]  # [E]


@dataclass(frozen=True)
class Conflict:
    """Cosines between tasks' gradients, [T][T]. On the diagonal: between the gradients of two halves of the task's own questions."""

    layer: int | None  # None: all linears together
    target: str | None
    a: Matrix
    b: Matrix


# Updates


@torch.no_grad()
def updates(trainer: Trainer) -> tuple[list[list[Updates]], list[Matrix]]:
    """What every arm's experts add to every adapted linear, [arm][linear]; and, where two arms adapt the same linears, the cosines
    between the experts of the first and those of the second, [linear][E][E]. Raises ConfigError for a run that has diverged."""
    if not all(p.isfinite().all() for arm in trainer.arms for p in arm.handle.parameters()):
        raise ConfigError("run: it has diverged, and its weights are no longer numbers; try a smaller learning rate.")
    arms = [[_factors(a) for a in arm.handle.adapters] for arm in trainer.arms]
    found = [[_updates(a, *f) for a, f in zip(arm.handle.adapters, factors, strict=True)] for arm, factors in zip(trainer.arms, arms, strict=True)]
    sites = [[a.site.name for a in arm.handle.adapters] for arm in trainer.arms]
    across = [_across(first, second) for first, second in zip(*arms, strict=True)] if len(arms) == 2 and sites[0] == sites[1] else []
    return found, across


def _factors(adapter: Adapter) -> tuple[Tensor, Tensor]:
    """(up [E, d_out, r], down [E, r, d_in]) of the first EXPERTS experts, what is shared repeated."""
    up, down = adapter.products()
    experts = min(max(len(up), len(down)), EXPERTS)
    return tuple(w[:experts].expand(experts, -1, -1) for w in (up, down))


def _updates(adapter: Adapter, up: Tensor, down: Tensor) -> Updates:
    values = geometry.singular_values(up, down)
    experts = max(map(len, adapter.products()))
    cosines, ranks = _matrix(geometry.update_cosines(up, down)), _row(geometry.stable_rank(values))
    return Updates(adapter.site.layer, adapter.site.target, experts, cosines, values[:, :VALUES].tolist(), ranks)


def _across(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Matrix:
    """Cosines between the experts of two arms. The smaller rank is filled up with zeros, which add nothing to an update."""
    rank = max(first[1].shape[1], second[1].shape[1])
    up = torch.cat([F.pad(f[0], (0, rank - f[0].shape[2])) for f in (first, second)])
    down = torch.cat([F.pad(f[1], (0, 0, 0, rank - f[1].shape[1])) for f in (first, second)])
    return _matrix(geometry.update_cosines(up, down)[: len(first[0]), len(first[0]) :])


# Gradients


def conflicts(trainer: Trainer, rows: int = ROWS) -> list[list[Conflict]]:
    """[arm][linear]: how the tasks' gradients lie to one another on A and on B; the first entry of an arm is of all linears together.

    A gradient is that of the cross-entropy of `rows` training questions of one task, the same in every arm and at every look, without
    dropout and extra losses; that of B is of all experts' B together. The first TASKS tasks are looked at.
    """
    looking = Looking(trainer, rows)
    while looking.left:
        looking.go_on(trainer)
    return looking.found()


class Looking:
    """Gradients of all tasks in all arms, one `go_on` at a time, all at the adapters' weights of the moment when this was made: the run may
    train on in between. `done` and `left`: gradients taken, and still to be taken."""

    def __init__(self, trainer: Trainer, rows: int = ROWS):
        self.rows, self.step = rows, trainer.step
        self._sites = [[a.site for a in arm.handle.adapters] for arm in trainer.arms]
        self._weights = [[p.detach().clone() for p in arm.handle.parameters()] for arm in trainer.arms]
        self.tasks = min(trainer.mixture_size, TASKS)
        self._todo = [(arm, task) for task in range(self.tasks) for arm in range(len(trainer.arms))]
        self._whole: dict[tuple[int, int], list[Tensor]] = {}  # of an arm and a task, [A and B of each linear, then of all]
        self._halves: dict[tuple[int, int], Tensor] = {}  # of the same, cosines between the gradients of two halves of its questions

    @property
    def left(self) -> int:
        return len(self._todo)

    @property
    def done(self) -> int:
        return len(self._whole)

    def go_on(self, trainer: Trainer) -> None:
        """Take the next gradient. `trainer` is the one this was made of, some steps later perhaps."""
        at, index = self._todo.pop(0)
        arm, task = trainer.arms[at], trainer.tasks[index]
        half = min(self.rows, len(task.train) // 2)
        with _with_weights(arm, self._weights[at]):
            parts = [gradients(trainer, arm, index, task.train[i * half : (i + 1) * half]) for i in (0, 1)]
        both = [_with_all(p) for p in parts]
        self._halves[at, index] = torch.stack([geometry.conflict(torch.stack(pair))[0, 1] for pair in zip(*both, strict=True)])
        self._whole[at, index] = [one + other for one, other in zip(*both, strict=True)]

    def found(self) -> list[list[Conflict]]:
        """As `conflicts`; a task that is still to be looked at is a gap."""
        return [self._of(at, sites) for at, sites in enumerate(self._sites)]

    def _of(self, at: int, sites: list) -> list[Conflict]:
        known = [t for t in range(self.tasks) if (at, t) in self._whole]
        out = []
        for place in (len(sites), *range(len(sites))):  # all together stand last in the lists
            pair = []
            for k in (2 * place, 2 * place + 1):
                square = torch.full((self.tasks, self.tasks), torch.nan)
                if known:
                    some = geometry.conflict(torch.stack([self._whole[at, t][k] for t in known]))
                    square[torch.tensor(known)[:, None], torch.tensor(known)] = some.float().cpu()
                    square.diagonal()[known] = torch.stack([self._halves[at, t][k] for t in known]).float().cpu()
                pair.append(_matrix(square))
            site = sites[place] if place < len(sites) else None
            out.append(Conflict(site and site.layer, site and site.target, *pair))
        return out


@contextmanager
@torch.no_grad()
def _with_weights(arm: Arm, weights: list[Tensor]) -> Iterator[None]:
    """Inside the block the arm's adapters have other weights."""
    parameters = list(arm.handle.parameters())
    now = [p.detach().clone() for p in parameters]
    try:
        for p, w in zip(parameters, weights, strict=True):
            p.copy_(w)
        yield
    finally:
        for p, w in zip(parameters, now, strict=True):
            p.copy_(w)


@torch.enable_grad()
def gradients(trainer: Trainer, arm: Arm, task: int, examples) -> list[Tensor]:
    """Gradients of the mean cross-entropy of some questions of a task of the mixture, flat: A and B (`Adapter.stacks`) of every linear in turn.

    The parameters' own `.grad` is left as it is.
    """
    batch = trainer.place(trainer.backbone.batch(examples, [task] * len(examples)))
    parameters = list(arm.handle.parameters())
    loss = F.cross_entropy(arm.score(batch), batch.answer)
    found = dict(zip(parameters, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))
    of = lambda p: torch.zeros_like(p) if found.get(p) is None else found[p]  # noqa: E731  (a tensor that is not trained has none)
    return [w.flatten() for a in arm.handle.adapters for w in a.stacks(of)]


def _with_all(parts: list[Tensor]) -> list[Tensor]:
    """The gradients on A and B of every linear, and after them those of all A and of all B as one vector each."""
    return [*parts, torch.cat(parts[::2]), torch.cat(parts[1::2])]


def _matrix(values: Tensor) -> Matrix:
    return [_row(row) for row in values]


def _row(values: Tensor) -> list[float | None]:
    """Numbers with None for what is undefined."""
    return [v if v == v else None for v in values.tolist()]
