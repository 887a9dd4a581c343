"""Frames on their way to the browser: the one place that packs them.

- `header(log)`: what is sent once a run; `Packer(log).pack(frame)`: one frame, at most about 4 KB; `to_json(data)`: JSON for a still picture.
- Shares travel as bytes (254 levels, 255 is a gap), norms and the rest as half floats (NaN is a gap), both as base64.
- Where the linears of a probe do not fit a frame, those that do not are sent with the next one; the browser keeps the last of each. The last
  frame of a run has them all.

`canvas/store.js` is the other end. Shapes: T tasks, E experts of a linear, n words of the frame's sentence, each with at most k experts.
Per linear: bytes use [T][E] (load; mean gate where routing is dense), k, experts [n][k], gates [n][k]; halves norm A [E], B [E], BA [E], share of
A asked [E], load over all tokens [E], step and gradient of A and B [E] each, imbalance [4], evenness, effective, idle, token entropy, information;
on scored steps also most, reads [5], those of the untrained router, and the words of each expert.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from mosld.config import RunConfig
from mosld.ui.watch.drawn import drawn
from mosld.ui.watch.sentence import says

if TYPE_CHECKING:
    from mosld.training.frame import Frame, LinearProbe, Sentence
    from mosld.training.runlog import RunLog

FRAME_BYTES = 4096
GAP = 255
SMALL = 1000  # steps and gradients are sent so many times larger: half floats have few digits below a ten-thousandth
LETTERS = 14  # of a word, at most
LOOK_BACK = 12  # probes between two looks for moments of a run that goes on


def to_json(data) -> str:
    """Plain data as the JSON that the browser reads. Raises ValueError for NaN and infinity: a gap is None."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def short(task: str) -> str:
    """A task's name as shown: without its suite; of a user's file the name without folders (paths never leave the server)."""
    return task.replace("\\", "/").rsplit("/", 1)[-1]


def mark(config: RunConfig) -> str:
    """A few letters that are the same for the same settings: the page tells by them whether what is shown is what the controls say."""
    return hashlib.sha256(config.to_url().encode()).hexdigest()[:12]


def header(log: RunLog) -> dict:
    """What the browser needs to read the frames of a run."""
    config = log.config
    arms = [config.arm(index) for index in range(len(config.arms))]
    return {
        "arms": log.arms,
        "methods": [arm.label for arm in arms],
        "rates": [arm.effective().dropout for arm in arms],
        "drawn": [drawn(arm) for arm in arms],
        "tasks": [short(t) for t in log.tasks],
        "held": [short(t) for t in log.held_out],
        "chance": [_round(log.chance.get(t)) for t in [*log.tasks, *log.held_out]],
        "majority": [_round(log.majority.get(t)) for t in [*log.tasks, *log.held_out]],
        "linears": [[[x.layer, x.target, _experts(x, i)] for x in a] for i, a in enumerate(log.linears)],
        "parameters": log.parameters,
        "rank": config.rank,
        "steps": config.steps,
        "rows": config.eval_rows,
        "seed": config.seed,
        "backbone": config.backbone,
        "optimiser": config.optimiser,
        "mark": mark(config),
    }


class Packer:
    """Packs the frames of one run, in order. `whole`: every frame has all its linears, however long: for files, which are read at once."""

    def __init__(self, log: RunLog, whole: bool = False):
        self.log, self.whole = log, whole
        self.scored = [*log.tasks, *log.held_out]
        self._next = [0] * len(log.arms)  # the linear whose turn it is, of each arm
        self._due: list[dict[int, LinearProbe]] = [{} for _ in log.arms]  # linears whose reads have not been sent since they were measured
        self._said = None
        self._probes = 0
        self._course = None

    def follow(self, log: RunLog | None) -> None:
        """Go on with the frames of this log, of the same run; without one, hold none meanwhile."""
        self.log, self._course = log if log is not None else dataclasses.replace(self.log, frames=[]), None
        if log is not None:
            self._look(log.frames)

    def _look(self, frames: Iterable[Frame]) -> None:
        from mosld.probes.moments import Course  # imports torch

        self._course = self._course or Course(self.log)
        for frame in frames:
            self._course.add(frame)

    def pack(self, frame: Frame) -> list:
        """[step, seconds, event, note, arms, sentence, says, moments], the last three 0 where there is nothing new; an arm is
        [loss, extra, lr, dropout, accuracies or 0, probe or 0]."""
        probed = any(arm.linears for arm in frame.arms)
        self._probes += probed
        text = [[w[:LETTERS] for w in frame.sentence.words], frame.sentence.task, frame.sentence.kind] if probed and frame.sentence else 0
        told = says(self.log, frame)
        told, self._said = (0 if told == self._said else told), told
        self._look([frame])
        found = [self._course.moments()] if frame.event or (probed and self._probes % LOOK_BACK == 0) else 0
        head = [frame.step, round(frame.seconds, 2), frame.event, frame.note]
        rest = [text, told, found and found[0]]
        room = FRAME_BYTES - len(to_json([*head, *rest])) - 2
        arms = []
        for index, arm in enumerate(frame.arms):
            scores = [_round(arm.accuracy.get(t)) for t in self.scored] if arm.accuracy else 0
            own = [_round(arm.loss), _round(arm.extra), arm.lr, arm.dropout, scores]
            most = None if self.whole or frame.event == "end" else room // len(frame.arms) - len(to_json(own)) - 16
            arms.append([*own, self._probe(index, arm.linears, frame.sentence, most) if arm.linears else 0])
        return [*head, arms, *rest]

    def _probe(self, arm: int, linears: list[LinearProbe], sentence: Sentence | None, room: int | None) -> list:
        """[first, count, bytes, halves, extras] of as many linears as fit, from the one whose turn it is; of all where `room` is None."""
        due, total = self._due[arm], len(linears)
        due.update((i, p) for i, p in enumerate(linears) if p.reads is not None or p.takes is not None)
        first = 0 if room is None else self._next[arm] % total
        small, halves, extras, size = [], [], [], 40
        while len(extras) < total:
            index = (first + len(extras)) % total
            p, late = linears[index], due.get(index)
            a, b = _bytes(p, sentence), _halves(p)
            more = [_round(late.most), _list(late.reads), _list(late.null), late.takes] if late is not None else 0
            size += (len(a) + 2 * len(b)) * 4 / 3 + len(to_json(more)) + 1
            if room is not None and extras and size > room:
                break
            due.pop(index, None)
            small.append(a)
            halves += b
            extras.append(more)
        self._next[arm] = first + len(extras)
        numbers = np.array([np.nan if v is None else v for v in halves], dtype=np.float64)
        numbers = np.clip(numbers, -65504, 65504).astype("<f2")
        return [first, len(extras), _text(b"".join(small)), _text(numbers.tobytes()), extras if any(extras) else 0]


def _experts(info, arm: int) -> int:
    return info.experts if isinstance(info.experts, int) else info.experts[arm]


def _bytes(p: LinearProbe, sentence: Sentence | None) -> bytes:
    experts = len(p.norm_ba)
    dense = all(row is None or all(v == 1 for v in row) for row in p.load)
    out = []
    for row in p.gate if dense else p.load:
        out.append(np.full(experts, GAP) if row is None else np.rint(np.clip(row, 0, 1) * (GAP - 1)))
    words = len(sentence.words) if sentence else 0
    who, much = (p.word_experts or [])[:words], (p.word_gates or [])[:words]
    k = max((len(w) for w in who), default=0)
    out.append([k])
    for w in range(words if k else 0):
        out.append([*who[w], *[GAP] * (k - len(who[w]))])
        out.append([*(round(min(max(g, 0), 1) * (GAP - 1)) for g in much[w]), *[0] * (k - len(much[w]))])
    return np.concatenate([np.asarray(part) for part in out]).astype(np.uint8).tobytes()


def _halves(p: LinearProbe) -> list:
    experts, out = len(p.norm_ba), []
    for values in (p.norm_a, p.norm_b, p.norm_ba, p.ask_a or [], p.share):
        out += [*values, *[None] * (experts - len(values))]
    for values in (p.step_a, p.step_b, p.grad_a, p.grad_b):
        out += [*(v * SMALL for v in values), *[None] * (experts - len(values))]
    return [*out, *p.imbalance, p.evenness, p.effective, p.idle, p.token_entropy, p.information]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _round(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else float(f"{value:.4g}")


def _list(values) -> list | None:
    return None if values is None else [v if v is None else round(v, 4) for v in values]
