"""Frames on their way to the browser: the one place that packs them.

- `header(log)`: what is sent once a run; `Packer(log).pack(frame)`: one frame, at most about 4 KB; `to_json(data)`: JSON for a still picture.
- Gate values travel as bytes (254 levels, 255 is a gap), norms and the rest as half floats (NaN is a gap), both as base64.
- Where all linears of a probe do not fit a frame, they are cut into groups that take turns; the browser keeps the last of each.

`canvas/store.js` is the other end. Shapes: T tasks, E experts of a linear. Per linear: bytes load [T][E], gate [T][E]; halves
norm A [E], B [E], BA [E], share of A asked [E], imbalance [4], balance, effective, idle, token entropy, information.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from mosld.training.frame import Frame, LinearProbe
    from mosld.training.runlog import RunLog

FRAME_BYTES = 4096
GAP = 255
_REST = 700  # room for loss, rates, accuracies and a note


def to_json(data) -> str:
    """Plain data as the JSON that the browser reads. Raises ValueError for NaN and infinity: a gap is None."""
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def short(task: str) -> str:
    """A task's name as shown: without its suite; of a user's file the name without folders (paths never leave the server)."""
    return task.replace("\\", "/").rsplit("/", 1)[-1]


def header(log: RunLog) -> dict:
    """What the browser needs to read the frames of a run."""
    config = log.config
    arms = [config.arm(index) for index in range(len(config.arms))]
    return {
        "arms": log.arms,
        "methods": [arm.label for arm in arms],
        "rates": [arm.effective().dropout for arm in arms],
        "tasks": [short(t) for t in log.tasks],
        "held": [short(t) for t in log.held_out],
        "chance": [_round(log.chance.get(t)) for t in [*log.tasks, *log.held_out]],
        "majority": [_round(log.majority.get(t)) for t in [*log.tasks, *log.held_out]],
        "linears": [
            [[x.layer, x.projection, x.experts if isinstance(x.experts, int) else x.experts[i]] for x in a] for i, a in enumerate(log.linears)
        ],
        "parameters": log.parameters,
        "steps": config.steps,
        "seed": config.seed,
        "backbone": config.backbone,
        "optimiser": config.optimiser,
        "groups": Packer(log).groups,
    }


class Packer:
    """Packs the frames of one run, in order."""

    def __init__(self, log: RunLog):
        self.scored = [*log.tasks, *log.held_out]
        tasks = len(log.tasks)
        size = sum((2 * tasks * e + 2 * (4 * e + 9)) * 4 / 3 for arm, infos in enumerate(log.linears) for e in (_experts(i, arm) for i in infos))
        self.groups = max(1, -int(-size // (FRAME_BYTES - _REST)))
        self.turn = 0

    def pack(self, frame: Frame) -> list:
        """[step, seconds, event, note, arms]; an arm is [loss, extra, lr, dropout, accuracies or 0, probe or 0]."""
        probed = any(arm.linears for arm in frame.arms)
        group = self.turn % self.groups
        self.turn += probed
        arms = []
        for arm in frame.arms:
            scores = [_round(arm.accuracy.get(t)) for t in self.scored] if arm.accuracy else 0
            probe = _probe(arm.linears, group, self.groups) if arm.linears else 0
            arms.append([_round(arm.loss), _round(arm.extra), arm.lr, arm.dropout, scores, probe])
        return [frame.step, round(frame.seconds, 2), frame.event, frame.note, arms]


def _experts(info, arm: int) -> int:
    return info.experts if isinstance(info.experts, int) else info.experts[arm]


def _probe(linears: list[LinearProbe], group: int, groups: int) -> list:
    """[group, bytes, halves] of the linears group, group + groups, ..."""
    gates: list[np.ndarray] = []
    halves: list[float] = []
    for p in linears[group::groups]:
        experts = len(p.norm_ba)
        for rows in (p.load, p.gate):
            for row in rows:
                values = np.full(experts, GAP) if row is None else np.rint(np.clip(row, 0, 1) * (GAP - 1))
                gates.append(values.astype(np.uint8))
        for norms in (p.norm_a, p.norm_b, p.norm_ba, p.ask_a or []):
            halves += [*norms, *[None] * (experts - len(norms))]
        halves += [*p.imbalance, p.balance, p.effective, p.idle, p.token_entropy, p.information]
    numbers = np.array([np.nan if v is None else v for v in halves], dtype=np.float64)
    numbers = np.clip(numbers, -65504, 65504).astype("<f2")
    return [group, _text(np.concatenate(gates).tobytes()), _text(numbers.tobytes())]


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _round(value: float | None) -> float | None:
    return None if value is None or value != value or abs(value) == float("inf") else float(f"{value:.4g}")
