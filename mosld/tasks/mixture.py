"""The mixture: which row of which task is drawn at which step.

`Mixture.batch(step)` depends on the seed and the step only. So every arm gets the same batches, and a resumed run goes on where it
was. Two seeded draws make it up: the task of every question of every step (independent, by weight), and for each task an endless
row of shuffled passes over its training rows. The n-th question of a task takes the n-th row of these passes.
"""

from __future__ import annotations

import numpy as np

from mosld.config import ConfigError
from mosld.tasks.base import Example, Task

BLOCK = 256  # steps whose tasks are drawn together; the counts before a block are kept, so that any step is found quickly


class Mixture:
    """Seeded batches of a weighted mixture of T tasks, N questions a step. No row of a task comes again before all of it were used."""

    def __init__(self, tasks: list[Task], weights: list[float], batch: int, seed: int):
        """`weights` [T] are relative. Raises ConfigError where a weight is missing or not above 0, or there is no task."""
        if not tasks or len(weights) != len(tasks) or not all(0 < w < float("inf") for w in weights):
            raise ConfigError(f"tasks: {len(tasks)} tasks with weights {list(weights)} cannot be mixed; give one weight above 0 for each.")
        if batch < 1:
            raise ConfigError(f"batch: {batch} is not allowed; give a whole number from 1.")
        self.tasks, self.size, self.seed = list(tasks), batch, seed
        self.shares = np.asarray(weights, float) / sum(weights)  # [T]
        self._before = [np.zeros(len(tasks), np.int64)]  # [T] questions of each task before block b
        self._block: tuple[int, np.ndarray] | None = None  # the block drawn last, its tasks [BLOCK, N]
        self._passes: dict[int, dict[int, np.ndarray]] = {i: {} for i in range(len(tasks))}  # task -> pass -> order of rows

    def batch(self, step: int) -> list[tuple[int, Example]]:
        """The N questions of a step, counted from 0: (task index, training row)."""
        number, within = divmod(step, BLOCK)
        while len(self._before) <= number:
            done = len(self._before) - 1
            self._before.append(self._before[done] + self._count(self._draw(done)))
        drawn = self._draw(number)
        used = self._before[number] + self._count(drawn[:within])
        out = []
        for task in drawn[within].tolist():
            out.append((task, self._row(task, int(used[task]))))
            used[task] += 1
        return out

    def _draw(self, block: int) -> np.ndarray:
        """Task indices [BLOCK, N] of a block of steps."""
        if self._block is None or self._block[0] != block:
            rng = np.random.default_rng([self.seed, 0, block])
            self._block = block, rng.choice(len(self.tasks), size=(BLOCK, self.size), p=self.shares)
        return self._block[1]

    def _count(self, drawn: np.ndarray) -> np.ndarray:
        return np.bincount(drawn.ravel(), minlength=len(self.tasks))

    def _row(self, task: int, number: int) -> Example:
        """The row that the task's question of this number, counted from 0, takes."""
        rows = self.tasks[task].train
        turn, place = divmod(number, len(rows))
        passes = self._passes[task]
        if turn not in passes:
            for old in [t for t in passes if t != turn - 1]:
                del passes[old]
            passes[turn] = np.random.default_rng([self.seed, 1, task, turn]).permutation(len(rows))
        return rows[passes[turn][place]]
