"""The batches and scored rows of a stack's runs, made once and kept on the device for every adapter that is trained on the same seeds.

- `Feed(jobs, backbone, device)`: `batch(step)`, `parts(which)`, `untrained()`.
- `feed_of(...)`: the same feed again, of the last few.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Sequence

import torch

from mosld import tasks
from mosld.backbones.base import Backbone
from mosld.studies.claims.job import Job
from mosld.studies.claims.stack import Merged, score_rows, whole
from mosld.tasks.base import Example, Task
from mosld.tasks.mixture import Mixture

ROWS = 64  # questions of a run that are scored in one pass
SOME = 100  # test rows of a task for what is measured several times over
TRAIN = 50  # training rows of a task that are scored, for the gap
KEPT = 3  # feeds; one holds some hundred megabytes on a GPU


@functools.lru_cache(maxsize=2000)
def task(name: str, seed: int) -> Task:
    """A task as a seed splits it, kept: the rows of real sets are read from disk anew at every `load`."""
    return tasks.load(name, seed)


class Feed:
    """Rows of S runs. A run's rows follow from its tasks, seed and number of training rows alone. `most`: rows of a task scored; 0 is all."""

    def __init__(self, jobs: Sequence[Job], backbone: Backbone, device: str, most: int = 0):
        self.most, self.jobs, self.backbone, self.device = most, list(jobs), backbone, torch.device(device)
        self.tasks = [[task(n, j.config.seed) for n in j.config.tasks] for j in jobs]
        self.held_out = [[task(n, j.config.seed) for n in j.config.held_out] for j in jobs]
        self.mixtures = []
        for j, own in zip(jobs, self.tasks, strict=True):
            cut = [Task(t.info, t.train[: j.rows] if j.rows else t.train, t.validation, t.test) for t in own]
            self.mixtures.append(Mixture(cut, list(j.config.tasks.values()), j.config.batch, j.config.seed))
        keys = [_data(j) for j in jobs]
        self._same = [keys.index(k) for k in keys]  # of every run the first one with the same rows
        self._batches: dict[int, Merged] = {}
        self._untrained: list[dict[str, float]] | None = None

    def batch(self, step: int) -> Merged:
        """The batches of one step, counted from 0."""
        if step not in self._batches:
            rows = {s: self.mixtures[s].batch(step) for s in set(self._same)}
            self._batches[step] = whole(self.backbone, [rows[s] for s in self._same], self.device)
        return self._batches[step]

    def parts(self, which: str) -> tuple[list[Merged], list[list[str]]]:
        """Rows to be scored, and of every run the task of each row: 'validation', 'test', 'some' (of the test rows), 'train', 'held_out'."""
        rows_matter = which == "train"
        key = (which, self.most, tuple(_data(j) if rows_matter else _data(j)[:-1] for j in self.jobs), id(self.backbone), str(self.device))
        if key not in _parts:
            while len(_parts) >= KEPT * 5:
                _parts.popitem(last=False)
            rows = {s: self._rows(which, s) for s in set(self._same)}
            names = {s: [name for name, _, _ in own] for s, own in rows.items()}
            pairs = {s: [(index, e) for _, index, e in own] for s, own in rows.items()}
            merged = score_rows(self.backbone, [pairs[s] for s in self._same], self.device, ROWS)
            _parts[key] = (merged, [names[s] for s in self._same])
        _parts.move_to_end(key)
        return _parts[key]

    def _rows(self, which: str, s: int) -> list[tuple[str, int, Example]]:
        own = self.held_out[s] if which == "held_out" else self.tasks[s]
        last = len(self.tasks[s]) - 1  # a task that was held out is put to task-routed methods as the mixture's last
        cut = min(filter(None, ({"some": SOME, "train": TRAIN}.get(which), self.most)), default=None)
        part = {"some": "test", "held_out": "test"}.get(which, which)
        source = [m.train for m in self.mixtures[s].tasks] if which == "train" else [getattr(t, part) for t in own]
        return [(t.name, min(i, last), e) for i, (t, rows) in enumerate(zip(own, source, strict=True)) for e in rows[:cut]]

    def digest(self, s: int) -> str:
        """16 hex digits over the rows of run s."""
        texts = "".join(digest(t.name, self.jobs[s].config.seed) for t in (*self.tasks[s], *self.held_out[s]))
        return hashlib.sha256(f"{texts} {self.jobs[s].rows}".encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=2000)
def digest(name: str, seed: int) -> str:
    return task(name, seed).digest()


_feeds: OrderedDict[tuple, Feed] = OrderedDict()
_parts: OrderedDict[tuple, tuple[list[Merged], list[list[str]]]] = OrderedDict()


def _data(j: Job) -> tuple:
    """What a run's rows follow from; the last is the number of training rows."""
    return tuple(j.config.tasks.items()), j.config.held_out, j.config.seed, j.config.batch, j.rows


def feed_of(jobs: Sequence[Job], backbone: Backbone, device: str, most: int = 0) -> Feed:
    """A feed for these runs, the one of before where their rows are the same."""
    key = (tuple(map(_data, jobs)), id(backbone), device, most)
    if key not in _feeds:
        while len(_feeds) >= KEPT:
            _feeds.popitem(last=False)
        _feeds[key] = Feed(jobs, backbone, device, most)
    _feeds.move_to_end(key)
    return _feeds[key]
