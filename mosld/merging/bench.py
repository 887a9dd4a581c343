"""Bench: what a merging method works on. Some tasks, one frozen backbone, one task vector a task, and the one merged model.

    bench = open_bench(["runs/a", "runs/b"])          # mosld.merging.sources
    bench.accuracy(task_arithmetic.merge(bench.vectors, [0.3, 0.3]))

Re-scoring is quick: the rows to score are turned into tensors once.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from transformers.pytorch_utils import Conv1D

from mosld.backbones.base import Backbone, Batch, quiet
from mosld.config import ConfigError
from mosld.merging.model import MergedModel
from mosld.merging.vectors import Factors, TaskVector, dense, stack
from mosld.tasks.base import Task
from mosld.tasks.mixture import Mixture
from mosld.training.trainer import SCORE_ROWS


class Bench:
    """T tasks to be merged over one backbone, and further tasks that are scored only.

    Args:
        backbone: frozen; the merged model is a replica that shares its weights.
        tasks: the T tasks. vectors: the task vector of each.
        targets: the linears that have updates, as in AdapterConfig.
        seed: of the order in which batches take rows. eval_rows: rows of each task that are scored.
        held_out: further tasks to score.

    Raises ConfigError where the task vectors do not fit the backbone's linears.
    """

    def __init__(
        self,
        backbone: Backbone,
        tasks: list[Task],
        vectors: list[TaskVector],
        targets: tuple[str, ...],
        seed: int = 0,
        eval_rows: int = 100,
        held_out: tuple[Task, ...] = (),
    ):
        self.backbone, self.tasks, self.held_out = backbone, tasks, list(held_out)
        self.seed, self.eval_rows, self.targets = seed, eval_rows, targets
        self.model = MergedModel(backbone, targets)
        self.device = next(backbone.model.parameters()).device
        self.vectors = [{name: _to(u, self.device) for name, u in v.items()} for v in vectors]
        for task, vector in zip(tasks, vectors, strict=True):
            if set(vector) != set(self.model.linears):
                raise ConfigError(
                    f"merge: the adapters of '{task.name}' are not at the linears of {', '.join(targets)}; train all with one 'targets'."
                )
        self._scored: dict[tuple[str, str, int], list[Batch]] = {}
        self._mixtures: dict[tuple[str, int], list[Mixture]] = {}

    @property
    def names(self) -> list[str]:
        """The tasks that are merged."""
        return [t.name for t in self.tasks]

    @torch.inference_mode()
    def accuracy(self, updates: TaskVector, part: str = "test", rows: int = 0) -> dict[str, float]:
        """Share of rows answered right with these updates put in, for every task and held-out task.

        `part`: test, validation or train. `rows` of each task, from the first; 0 is `eval_rows`. No updates at all is the bare backbone.
        """
        self.model.put(updates)
        return self.accuracy_of(self.model.score, part, rows)

    @torch.inference_mode()
    def accuracy_of(self, score: Callable[[Batch], torch.Tensor], part: str = "test", rows: int = 0) -> dict[str, float]:
        """The same of any model that gives logits [N, O] of a batch."""
        out = {}
        for task in [*self.tasks, *self.held_out]:
            batches = self._batches(task, part, rows or self.eval_rows)
            right = sum(int((score(b).argmax(1) == b.answer).sum()) for b in batches)
            out[task.name] = right / sum(len(b.answer) for b in batches)
        return out

    def weighed(self, weights: Sequence[float]) -> Bench:
        """This bench with every task vector times its weight; `weights` are used again from the start where there are more tasks."""
        if all(w == 1 for w in weights):
            return self
        other = copy.copy(self)
        scales = [weights[i % len(weights)] for i in range(len(self.vectors))]
        other.vectors = [{name: stack([u], [w]) for name, u in v.items()} for v, w in zip(self.vectors, scales, strict=True)]
        return other

    def save(self, updates: TaskVector, folder: str | Path) -> None:
        """Write the merged model, update added to the weights in float32 and rounded once, with its tokenizer: `from_pretrained` reads both."""
        model = copy.deepcopy(self.backbone.model)
        with torch.no_grad():
            for name, update in updates.items():
                weight = model.get_submodule(name).weight
                total = dense(update).float()
                total = total.t() if weight.shape != total.shape or isinstance(model.get_submodule(name), Conv1D) else total
                weight.copy_(weight.float() + total)
        with quiet():
            model.save_pretrained(folder)
            self.backbone.tokenizer.save_pretrained(folder)

    def _batches(self, task: Task, part: str, rows: int) -> list[Batch]:
        key = (task.name, part, rows)
        if key not in self._scored:
            examples = getattr(task, part)[:rows]
            chunks = [examples[i : i + SCORE_ROWS] for i in range(0, len(examples), SCORE_ROWS)]
            self._scored[key] = [self.backbone.batch(c, [0] * len(c)).to(self.device) for c in chunks]
        return self._scored[key]

    def stream(self, kind: str, batch: int) -> Callable[[int], Iterator[Batch]]:
        """A function of the step, from 0, that gives one batch of each task in turn, made when it is asked for; the same for the same seed.

        `kind`: 'validation' or 'test', questions whose answers are taken out (-1); or 'labelled', training rows with answers.
        """
        key = (kind, batch)
        if key not in self._mixtures:
            parts = [dataclasses.replace(t, train=getattr(t, "train" if kind == "labelled" else kind)) for t in self.tasks]
            self._mixtures[key] = [Mixture([t], [1.0], batch, self.seed) for t in parts]

        def batches(step: int) -> Iterator[Batch]:
            for mixture in self._mixtures[key]:
                examples = [e for _, e in mixture.batch(step)]
                made = self.backbone.batch(examples, [0] * len(examples)).to(self.device)
                yield made if kind == "labelled" else dataclasses.replace(made, answer=torch.full_like(made.answer, -1))

        return batches


def mean(accuracy: dict[str, float], names: list[str]) -> float:
    """Mean accuracy over these tasks."""
    return math.fsum(accuracy[n] for n in names) / len(names)


def _to(update, device):
    return Factors(*(t.to(device) for t in update)) if isinstance(update, Factors) else update.to(device)
