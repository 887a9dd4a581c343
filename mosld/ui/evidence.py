"""What questions and lessons read from finished runs, pure functions of a RunLog; and what the registered study says beside them (`quoted`).

Where two shares of right answers are compared, a difference counts once it exceeds two standard errors of the questions scored
(`yardstick`); that takes in the choice of questions, not that of the seed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from mosld.ui.watch.sentence import TELLS, fixed, mean, number, yardstick

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog

CLOSE = "Too close to tell"
EVEN = 0.1  # a log2 ratio within this of 0 counts as even: 7 % more of one than of the other
WORDS = {"updates": "tokens", "gradient": "gradients", "step": "steps", "relative step": "steps for their size"}


def ends(log: RunLog) -> list[dict[str, float]]:
    """Accuracy of each task of the mixture on the test questions at the end of a run, for every arm."""
    return [{t: arm.accuracy[t] for t in log.tasks} for arm in log.frames[-1].arms]


def against(p: float, q: float, questions: int) -> int:
    """1 where p is above q by more than the yardstick, -1 where it is below, 0 where it is too close to tell."""
    return 0 if abs(p - q) <= yardstick(p, q, questions) else (1 if p > q else -1)


def means(log: RunLog) -> tuple[list[float], int]:
    """Mean accuracy of every arm on the test questions, and how many these are."""
    return [mean(arm.values()) for arm in ends(log)], log.config.eval_rows * len(log.tasks)


def imbalances(log: RunLog) -> list[dict[str, float]]:
    """For every arm: each definition of imbalance as its mean over the linears and the probes of the last half of the run."""
    table = log.imbalance()
    late = table[table.step > log.config.steps / 2].groupby(["arm", "definition"]).log2_ratio.mean()
    return [late[arm].to_dict() for arm in log.arms]


def idle(log: RunLog) -> list[tuple[int, int]]:
    """For every arm: (idle experts at the last probe, experts), over all linears."""
    last = next(f for f in reversed(log.frames) if any(a.linears for a in f.arms))
    return [(sum(p.idle for p in a.linears), sum(len(p.norm_ba) for p in a.linears)) for a in last.arms]


def told(log: RunLog) -> list[tuple[float, float, float]]:
    """For every arm: bits that the expert tells of word and task, and the most possible, means over linears at the last scoring."""
    last = next(f for f in reversed(log.frames) if any(p.reads for a in f.arms for p in a.linears or []))
    out = []
    for arm in last.arms:
        read = [p for p in arm.linears if p.reads is not None]
        out.append((mean(p.reads[0] for p in read) or 0.0, mean(p.reads[2] for p in read) or 0.0, mean(p.most for p in read) or math.nan))
    return out


def reading(log: RunLog) -> tuple[list[str], str]:
    """Of every arm what its expert tells of ('word', 'task' or ''), and the bits in words."""
    found = told(log)
    kinds = ["task" if task >= TELLS * most and task > word else "word" if word >= TELLS * most else "" for word, task, most in found]
    listed = "; ".join(f"{name}: word {number(w)}, task {number(t)}" for name, (w, t, _) in zip(log.arms, found, strict=True))
    return kinds, f"of {number(found[0][2])} possible: {listed}"


def signed(value: float) -> str:
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


def signed_points(value: float) -> str:
    """A difference of two shares, in points of a hundred."""
    return f"{100 * value:+.1f}".replace("-", "−")


def share(value: float, digits: int = 0) -> str:
    """A share of right answers, as all pictures and sentences write it."""
    return f"{100 * float(fixed(value, 2 + digits)):.{digits}f} %"


def quoted(claims: tuple[str, ...]) -> list[dict[str, str]]:
    """What the study found on some claims, word for word as its report has it: a line for each, from the stored results alone."""
    from mosld.studies.claims.report import rows

    stored, out = {row["id"]: row for row in rows()}, []
    for name in claims:
        row, both = stored[name], (("recipe", "with the paper's recipe", "figure"), ("tuned", "with every method tuned", "figure_tuned"))
        found = [
            f"{row['verdict'][reading]} {words}" + (f" ({row[figure]})" if row[figure] else "")
            for reading, words, figure in both
            if row["verdict"][reading] != "not registered"
        ]
        out.append({"id": name, "text": f"Over seeds, claim {name}, “{row['title']}”: {'; '.join(found)}. {row['caution']}".strip()})
    return out
