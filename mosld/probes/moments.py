"""What happened when in a run: a few moments worth looking at, found by rules over its Frames.

- `moments(log)`: at most `MOST` of them in the order of their steps, each a plain dict.

The rules, each with the size that ranks it against the others:
- idle: an expert of a linear falls idle (load under 1 / (10 E)) and stays so at the next `STAYS` probes; size 1, the first in a run alone
- diverged: the loss of an arm is no longer finite; always kept
- turn: A and the mean of B change order under a definition of imbalance (mean over linears) and keep the new order for `STAYS` probes
- jump: the largest rise or fall of a task between two scorings (test questions, which are other ones, left out)
- apart: the loss of two arms, smoothed over `STAYS` steps, first differs by more than a fifth
"""

from __future__ import annotations

import math
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
    frames = [f for f in list(log.frames) if until is None or f.step <= until]
    probed = [f for f in frames if any(a.linears for a in f.arms)]
    found = [*_diverged(log, frames), *_idle(log, probed), *_turns(log, probed), *_jumps(log, frames), *_apart(log, frames)]
    best = sorted(found, key=lambda m: -m["size"])[:MOST]
    return [{k: v for k, v in m.items() if k != "size"} for m in sorted(best, key=lambda m: m["step"])]


def _moment(step: int, kind: str, text: str, size: float, **at) -> dict:
    return {"step": step, "kind": kind, "text": text, "size": size, **dict.fromkeys(("arm", "layer", "target", "expert", "task")), **at}


def _short(task: str) -> str:
    return task.replace("\\", "/").rsplit("/", 1)[-1]


def _diverged(log, frames) -> list[dict]:
    for f in frames:
        for arm, a in enumerate(f.arms):
            if f.step and (a.loss is None or not math.isfinite(a.loss)):
                return [_moment(f.step, "diverged", f"{log.arms[arm]} diverges", math.inf, arm=arm)]
    return []


def _idle(log, probed) -> list[dict]:
    """The first expert that falls idle for good, with how many more follow by the end."""
    first, count = None, 0
    for arm, infos in enumerate(log.linears):
        for index, info in enumerate(infos):
            rows = [f.arms[arm].linears[index].share for f in probed if f.arms[arm].linears]
            steps = [f.step for f in probed if f.arms[arm].linears]
            experts = len(rows[0]) if rows else 0
            for e in range(experts if experts > 1 else 0):
                low = [row[e] < 1 / (10 * experts) for row in rows]
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


def _turns(log, probed) -> list[dict]:
    """Of every definition and arm the last lasting change of order; the clearest one is kept."""
    best = None
    for arm in range(len(log.arms)):
        for k, name in enumerate(IMBALANCE):
            curve = []
            for f in probed:
                values = [p.imbalance[k] for p in f.arms[arm].linears or [] if p.imbalance[k] is not None]
                if values:
                    curve.append((f.step, sum(values) / len(values)))
            sides = [0 if abs(v) < TURN else math.copysign(1, v) for _, v in curve]
            for i in range(1, len(curve) - STAYS + 1):
                past = next((s for s in reversed(sides[:i]) if s), 0)
                if past and sides[i] == -past and all(s == sides[i] for s in sides[i : i + STAYS]):
                    size = min(0.9, abs(curve[-1][1] - curve[i - 1][1]) / 2)
                    if best is None or size > best["size"]:
                        over, under = ("A", "B") if sides[i] > 0 else ("B", "A")
                        best = _moment(curve[i][0], "turn", f"{over} overtakes {under}: {name}", size, arm=arm)
    return [best] if best else []


def _jumps(log, frames) -> list[dict]:
    best = None
    scored = [f for f in frames if f.arms[0].accuracy and f.event != "end"]
    for before, after in pairwise(scored):
        for arm in range(len(log.arms)):
            for t, task in enumerate(log.tasks):
                change = after.arms[arm].accuracy[task] - before.arms[arm].accuracy[task] if after.arms[arm].accuracy else 0
                if abs(change) >= JUMP and (best is None or abs(change) > best["size"]):
                    text = f"{_short(task)} {'gains' if change > 0 else 'loses'} {abs(change):.2f}".replace("0.", ".")
                    best = _moment(after.step, "jump", text, abs(change), arm=arm, task=t)
    return [best] if best else []


def _apart(log, frames) -> list[dict]:
    """The first step at which two arms' smoothed losses differ clearly, and go on to."""
    steps = [f for f in frames if f.step and all(a.loss is not None and math.isfinite(a.loss) for a in f.arms)]
    if len(log.arms) < 2 or len(steps) <= 2 * STAYS:
        return []
    smooth = [[sum(f.arms[a].loss for f in steps[i - STAYS : i]) / STAYS for i in range(STAYS, len(steps) + 1)] for a in range(len(log.arms))]
    for i in range(len(smooth[0])):
        now = [s[i] for s in smooth]
        later = [s[min(i + STAYS, len(s) - 1)] for s in smooth]
        if max(now) - min(now) > APART * max(now) and max(later) - min(later) > APART * max(later):
            arm = now.index(min(now))
            return [_moment(steps[i + STAYS - 1].step, "apart", f"{log.arms[arm]} pulls ahead", 0.5, arm=arm)]
    return []
