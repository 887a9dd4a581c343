"""What a task is: questions with options, split once by its seed."""

from __future__ import annotations

import functools
import hashlib
from collections import Counter
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One question. `question` starts with the task's short `instruction`, where there is one; `answer` is the index of the right option."""

    question: str
    options: tuple[str, ...]
    answer: int
    instruction: str = ""  # the first words of the question, as they stand there


@dataclass(frozen=True)
class TaskInfo:
    """What the catalogue knows of a task without loading it."""

    name: str  # 'world/mood', 'real/boolq', or the path of a user's file
    suite: str  # world, real, own
    title: str
    summary: str
    kind: str  # 'labels': the same options for every question; 'options': each question has its own
    licence: str
    source: str


@dataclass(frozen=True)
class Task:
    """A loaded task with its own split. No question is in two of the parts."""

    info: TaskInfo
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]

    @property
    def name(self) -> str:
        return self.info.name

    @property
    def chance(self) -> float:
        """Accuracy of guessing, on the test part: the mean of 1 / options."""
        return sum(1 / len(e.options) for e in self.test) / len(self.test)

    @property
    def majority(self) -> float:
        """Accuracy, on the test part, of always giving the commonest answer of the training part.

        For label tasks the commonest label text; where every question has its own options, the commonest position.
        """
        key = (lambda e: e.options[e.answer]) if self.info.kind == "labels" else (lambda e: e.answer)
        best = Counter(key(e) for e in self.train).most_common(1)[0][0]
        return sum(key(e) == best for e in self.test) / len(self.test)

    def digest(self) -> str:
        """sha256 over every row of the three parts: what a run directory records as the data's hash."""
        return self._digest

    @functools.cached_property
    def _digest(self) -> str:
        h = hashlib.sha256()
        for part in (self.train, self.validation, self.test):
            for e in part:
                h.update(repr((e.question, e.options, e.answer)).encode())
        return h.hexdigest()
