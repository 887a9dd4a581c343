"""The router under the glass: real gates of one text, and what muting or forcing an expert does to answers and accuracy.

- `Inspector.route`: tokens of a question, the gates each adapted linear gave them, the option scores.
- `Inspector.steered`: a block inside which an expert is muted (it gets no token) or forced (it gets every token).
- `Inspector.accuracy`: share of a task's validation rows answered right, steered or not.

Shapes: E experts, L tokens of the question.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from mosld.config import ConfigError
from mosld.tasks.base import Example
from mosld.training.trainer import SCORE_ROWS, Trainer


@dataclass(frozen=True)
class Routed:
    """What one question met. `gates` and `probabilities`: linear name -> [E][L]; `scores`: softmax over the options."""

    tokens: list[str]
    gates: dict[str, list[list[float]]]
    probabilities: dict[str, list[list[float]]]
    scores: list[float]


class Inspector:
    """Looks at one arm of a trainer, between steps. Raises ConfigError for an arm without a router."""

    def __init__(self, trainer: Trainer, arm: int = 0):
        self.trainer, self.arm = trainer, trainer.arms[arm]
        self.adapters = {a.site.name: a for a in self.arm.handle.adapters}

    @torch.inference_mode()
    def route(self, question: str, options: tuple[str, ...] | list[str], task: int = 0) -> Routed:
        """Gates of every token of `question` and the scores of its options. `task` matters to task-routed methods only."""
        if not question.strip() or not options:
            raise ConfigError("text: it is empty; give a sentence and at least one option.")
        backbone = self.trainer.backbone
        batch = self.trainer.place(backbone.batch([Example(question, tuple(options), 0)], [task]))
        scores = self.arm.score(batch)[0].softmax(0)
        row = int(batch.question_row[0]) if batch.question_row[0] >= 0 else int(batch.option_row[0, 0])
        real = batch.attention_mask[row].bool()
        length = batch.input_ids.shape[1]
        gates, probabilities = {}, {}
        for name, adapter in self.adapters.items():
            last = adapter.last
            if last is None or last.shape[:2] != batch.input_ids.shape:
                continue
            of_row = slice(row * length, (row + 1) * length)
            gates[name] = last.gate[:, of_row][:, real].tolist()
            probabilities[name] = last.probabilities[:, of_row][:, real].tolist()
        tokens = backbone.tokenizer.convert_ids_to_tokens(batch.input_ids[row][real].tolist())
        return Routed(tokens, gates, probabilities, scores.tolist())

    @contextmanager
    def steered(self, expert: int, force: bool = False, linears: list[str] | None = None) -> Iterator[Inspector]:
        """Inside the block, `expert` (from 0) is muted, or with `force` takes every token, in `linears` (all routed ones by default).

        Raises ConfigError for an expert or a linear that is not there, and for a method whose gate cannot be steered.
        """
        chosen = [a for name, a in self.adapters.items() if a.site.experts > 1 and (linears is None or name in linears)]
        if not chosen or not all(a.steerable for a in chosen):
            raise ConfigError(f"expert: {self.arm.config.label} has no token router here that could be steered.")
        low = min(a.site.experts for a in chosen)
        if not 0 <= expert < low:
            raise ConfigError(f"expert: {expert} is not allowed; give a whole number from 0 to {low - 1}.")
        for a in chosen:
            steer = torch.full((a.site.experts,), -torch.inf if force else 0.0, device=a.weight.device, dtype=a.weight.dtype)
            steer[expert] = 0.0 if force else -torch.inf
            a.steer = steer
        try:
            yield self
        finally:
            for a in chosen:
                a.steer = None

    @torch.inference_mode()
    def accuracy(self, name: str, rows: int = SCORE_ROWS) -> float:
        """Share of the first `rows` validation rows of one of the run's tasks that the arm answers right."""
        for index, task in enumerate(self.trainer.tasks):
            if task.name == name:
                return self.trainer.accuracy(self.arm, index, task.validation[:rows])
        raise ConfigError(f"task: '{name}' is not one of this run; choose {', '.join(t.name for t in self.trainer.tasks)}.")
