"""What happened when in a run: a few moments worth looking at, found by rules over its Frames.

- `moments(log)`: at most `MOST` of them in the order of their steps, each a plain dict. `Course`: the same of a run that goes on.

The rules, each with the size that ranks it against the others:
- idle: an expert of a linear falls idle (load under 1 / (10 E)) and stays so at the next `STAYS` probes; size 1, the first in a run alone
- diverged: the loss of an arm is no longer finite; always kept
- turn: A and the mean of B change order under a definition of imbalance (mean over linears) and keep the new order for `STAYS` probes
- jump: the largest rise or fall of a task between two scorings (test questions, which are other ones, left out)
- apart: the loss of two arms, smoothed over `STAYS` steps, first differs by more than a fifth
"""

from __future__ import annotations

import math
from array import array
from itertools import pairwise

IMBALANCE = ("updates", "gradient", "step", "relative step")  # as in training.frame, which would bring torch

MOST = 3
STAYS = 3
JUMP = 0.1  # a task's accuracy moves by at least this
TURN = 0.1  # log2: an order counts where it is clearer than this
APART = 0.2  # of the larger loss


def moments(log, until: int | None = None) -> list[dict]:
    """At most `MOST` moments of the frames of a RunLog up to step `until`.

    Each: step; kind; text (a few words); arm, layer, target, expert, task (indices; target a name) where it has them, else None.
    """
    course = Course(log)
    for f in list(log.frames):
        if until is None or f.step <= until:
            course.add(f)
    return course.moments()


class Course:
    """The numbers of a run by which moments are found, frame after frame: no frame is looked at twice. NaN is a gap."""

    def __init__(self, log):
        self.log = log
        self.steps: list[int] = []
        self.loss = [array("d") for _ in log.arms]
        self.scored: list = []  # (step, accuracies of each arm), on validation questions
        self.probed: list[list[int]] = [[] for _ in log.arms]  # steps
        self.share = [[array("d") for _ in infos] for infos in log.linears]  # [arm][linear], of all probed steps one after another
        self.sides: list[list[list[tuple[int, float]]]] = [[[] for _ in IMBALANCE] for _ in log.arms]  # (step, log2), mean over linears

    def add(self, frame) -> None:
        self.steps.append(frame.step)
        if frame.arms[0].accuracy and frame.event != "end":
            self.scored.append((frame.step, [a.accuracy for a in frame.arms]))
        for arm, a in enumerate(frame.arms):
            self.loss[arm].append(math.nan if a.loss is None else a.loss)
            if not a.linears:
                continue
            self.probed[arm].append(frame.step)
            probes = list(a.linears)
            for kept, p in zip(self.share[arm], probes, strict=False):
                kept.extend(p.share)
            for k, curve in enumerate(self.sides[arm]):
                values = [p.imbalance[k] for p in probes if p.imbalance[k] is not None]
                if values:
                    curve.append((frame.step, sum(values) / len(values)))

    def moments(self) -> list[dict]:
        found = [*_diverged(self), *_idle(self), *_turns(self), *_jumps(self), *_apart(self)]
        best = sorted(found, key=lambda m: -m["size"])[:MOST]
        return [{k: v for k, v in m.items() if k != "size"} for m in sorted(best, key=lambda m: m["step"])]


def _moment(step: int, kind: str, text: str, size: float, **at) -> dict:
    return {"step": step, "kind": kind, "text": text, "size": size, **dict.fromkeys(("arm", "layer", "target", "expert", "task")), **at}


def _short(task: str) -> str:
    return task.replace("\\", "/").rsplit("/", 1)[-1]


def _diverged(course: Course) -> list[dict]:
    for i, step in enumerate(course.steps):
        for arm, loss in enumerate(course.loss):
            if step and not math.isfinite(loss[i]):
                return [_moment(step, "diverged", f"{course.log.arms[arm]} diverges", math.inf, arm=arm)]
    return []


def _idle(course: Course) -> list[dict]:
    """The first expert that falls idle for good, with how many more follow by the end."""
    first, count = None, 0
    for arm, infos in enumerate(course.log.linears):
        steps = course.probed[arm]
        for info, shares in zip(infos, course.share[arm], strict=True):
            experts = len(shares) // len(steps) if steps else 0
            for e in range(experts if experts > 1 else 0):
                low = [share < 1 / (10 * experts) for share in shares[e : experts * len(steps) : experts]]
                start = next((i for i in range(1, len(low)) if low[i] and not low[i - 1] and all(low[i : i + STAYS]) and i + STAYS <= len(low)), None)
                if start is None:
                    continue
                count += low[-1]
                if first is None or steps[start] < first[0]:
                    first = (steps[start], arm, info, e)
    if first is None:
        return []
    step, arm, info, e = first
    return [_moment(step, "idle", f"expert {e + 1} falls idle", 1 + 0.1 * count, arm=arm, layer=info.layer, target=info.target, expert=e)]


def _turns(course: Course) -> list[dict]:
    """Of every definition and arm the last lasting change of order; the clearest one is kept."""
    best = None
    for arm, curves in enumerate(course.sides):
        for name, curve in zip(IMBALANCE, curves, strict=True):
            sides = [0 if abs(v) < TURN else math.copysign(1, v) for _, v in curve]
            past = 0  # the last clear side before i
            for i in range(1, len(curve) - STAYS + 1):
                past = sides[i - 1] or past
                if past and sides[i] == -past and all(s == sides[i] for s in sides[i : i + STAYS]):
                    size = min(0.9, abs(curve[-1][1] - curve[i - 1][1]) / 2)
                    if best is None or size > best["size"]:
                        over, under = ("A", "B") if sides[i] > 0 else ("B", "A")
                        best = _moment(curve[i][0], "turn", f"{over} overtakes {under}: {name}", size, arm=arm)
    return [best] if best else []


def _jumps(course: Course) -> list[dict]:
    best, log = None, course.log
    for (_, before), (step, after) in pairwise(course.scored):
        for arm in range(len(log.arms)):
            for t, task in enumerate(log.tasks):
                change = after[arm][task] - before[arm][task] if after[arm] else 0
                if abs(change) >= JUMP and (best is None or abs(change) > best["size"]):
                    text = f"{_short(task)} {'gains' if change > 0 else 'loses'} {abs(change):.2f}".replace("0.", ".")
                    best = _moment(step, "jump", text, abs(change), arm=arm, task=t)
    return [best] if best else []


def _apart(course: Course) -> list[dict]:
    """The first step at which two arms' smoothed losses differ clearly, and go on to."""
    kept = [i for i, step in enumerate(course.steps) if step and all(math.isfinite(loss[i]) for loss in course.loss)]
    if len(course.loss) < 2 or len(kept) <= 2 * STAYS:
        return []
    smooth = [[sum(loss[j] for j in kept[i - STAYS : i]) / STAYS for i in range(STAYS, len(kept) + 1)] for loss in course.loss]
    for i in range(len(smooth[0])):
        now = [s[i] for s in smooth]
        later = [s[min(i + STAYS, len(s) - 1)] for s in smooth]
        if max(now) - min(now) > APART * max(now) and max(later) - min(later) > APART * max(later):
            arm = now.index(min(now))
            return [_moment(course.steps[kept[i + STAYS - 1]], "apart", f"{course.log.arms[arm]} pulls ahead", 0.5, arm=arm)]
    return []
