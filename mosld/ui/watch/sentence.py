"""The page's sentences on a run: made from its numbers by fixed rules, never from hope.

- `says(log, frame)`: [the sentence above the machine, the one under the scale of A against B, the one on right answers] at a frame.

Each rule is a function of plain numbers; where nothing differs it says so. `tests/app/test_sentence.py` holds them to hand-worked numbers.
Bits are means over the adapted linears with a router; definitions and samples: `mosld.probes`.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mosld.training.frame import Frame, LinearProbe
    from mosld.training.runlog import RunLog

TELLS = 0.1  # share of the most possible bits from which a router is said to send by something
IDLE = 0.125  # share of experts without work from which a router is said to have collapsed
ALIKE = 0.05  # log2: definitions that differ by less between arms are said not to
DEFINITIONS = ("tokens", "gradient", "step", "step for its size")


def fixed(v: float, digits: int) -> str:
    """So many digits after the point, halves away from zero: as JavaScript's toFixed, by which the pictures round."""
    return str(Decimal(float(v)).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP))


def number(v: float) -> str:
    """A number for people: two digits that count, no nought before the point."""
    if abs(v) < 0.0005:
        return "0"
    text = fixed(v, 0 if abs(v) >= 9.95 else 1 if abs(v) >= 0.995 else 2 if abs(v) >= 0.0095 else 3)
    return text.replace("-", "−").replace("0.", ".", 1) if abs(v) < 0.995 else text.replace("-", "−")


def mean(values) -> float | None:
    kept = [v for v in values if v is not None and math.isfinite(v)]
    return sum(kept) / len(kept) if kept else None


# What the router reads.


def _bit(most: float) -> str:
    """The most possible: 1 bit, 2 bits, 1.6 bits."""
    text = number(most).removesuffix(".0")
    return f"{text} bit{'' if text == '1' else 's'}"


def reads_sentence(word: float, task: float, most: float, who: str = "The router") -> str:
    """What tells an expert, word or task, from the bits that each does, of the most possible."""
    words, tasks = word >= TELLS * most, task >= TELLS * most
    of = _bit(most)
    if words and not tasks:
        return f"{who} sends words, not tasks: the word tells {number(word)} of {of}, the task {number(task)}."
    if tasks and not words:
        return f"{who} sends tasks, not words: the task tells {number(task)} of {of}, the word {number(word)}."
    if words and tasks:
        return f"{who} sends by word and by task: the word tells {number(word)} of {of}, the task {number(task)}."
    return f"{who} hardly tells anything apart: the word gives {number(word)} of {of}, the task {number(task)}."


def collapse_sentence(idle: int, experts: int, arm: str = "") -> str:
    """Routers that have collapsed, those of `arm` where there are others, or the empty text."""
    if not experts or idle / experts < IDLE:
        return ""
    return f"The routers{arm and f' of {arm}'} have collapsed: {idle} of {experts} experts are idle."


def routers_sentence(arms: list[tuple[str, float, float, float]]) -> str:
    """Arms whose routers read different things: (what is read, bits told of word and of task, most) each."""
    top = max(arms, key=lambda a: a[2])
    of = _bit(top[3])
    if top[2] < TELLS * top[3]:
        return f"No router sends tasks, whatever it reads: of {of} the task tells {', '.join(f'{number(a[2])} ({a[0]})' for a in arms)}."
    rest = ", ".join(f"{number(task)} ({what})" for what, _, task, _ in arms if what != top[0])
    return f"A router that reads the {top[0]} sends tasks: the task tells {number(top[2])} of {of}; with others {rest}."


# A against B.


def leads_sentence(values: list[float | None]) -> str:
    """The four definitions of one arm, log2 of A over B, in words."""
    ahead = {"A": [], "B": [], "even": []}
    for name, v in zip(DEFINITIONS, values, strict=True):
        if v is not None:
            ahead["even" if abs(v) <= 0.1 else "A" if v > 0 else "B"].append(f"{name} ({number(v)})")
    parts = [f"{side} leads by {', '.join(ahead[side])}" for side in "AB" if ahead[side]]
    if not parts:
        return "A and B are even by every definition." if ahead["even"] else "A and B cannot be compared yet: B is zero."
    return "; ".join(parts) + "."


def arms_sentence(name: str, base: list[float | None], other: list[float | None]) -> str:
    """What an arm does to the four definitions, against the first arm."""
    gaps = [(d, b - a) for d, a, b in zip(DEFINITIONS, base, other, strict=True) if a is not None and b is not None]
    if not gaps:
        return "A and B cannot be compared yet: B is zero."
    moved = [(d, g) for d, g in gaps if abs(g) >= ALIKE]
    if not moved:
        return f"{name} changes none of the four by {number(ALIKE)}."
    text = ", ".join(f"{d} {'+' if g > 0 else ''}{number(g)}" for d, g in moved)
    rest = max((abs(g) for d, g in gaps if abs(g) < ALIKE), default=None)
    return f"{name}: {text}" + ("." if rest is None else f", the other{'s' if len(gaps) - len(moved) > 1 else ''} under {number(ALIKE)}.")


# Right answers.


def yardstick(p: float, q: float, questions: int) -> float:
    """Two standard errors of the difference of two shares, each of so many questions: a smaller difference may be chance."""
    return 2 * math.sqrt((p * (1 - p) + q * (1 - q)) / questions)


def answers_sentence(names: list[str], shares: list[float], questions: int, before: float | None) -> str:
    """Mean shares of right answers of the arms, and whether they differ by more than the choice of questions gives."""
    if len(shares) < 2:
        return f"{number(shares[0])} right" + ("." if before is None else f", {number(before)} before training.")
    order = sorted(range(len(shares)), key=lambda i: -shares[i])
    first, second = order[0], order[-1] if len(shares) == 2 else order[1]
    gap, chance = shares[first] - shares[second], yardstick(shares[first], shares[second], questions)
    if gap <= chance:
        return f"Alike: {number(gap)} apart, up to {number(chance)} is chance."
    return f"{names[first]} is ahead by {number(gap)}; up to {number(chance)} is chance."


# A run.


def says(log: RunLog, frame: Frame) -> list[str]:
    """The three sentences at a frame of a run."""
    return [_main(log, frame), _scale(log, frame), _answers(log, frame)]


def _latest(log: RunLog, frame: Frame, there) -> Frame | None:
    """The newest frame up to this one for which there(frame) holds."""
    return next((f for f in reversed(log.frames) if f.step <= frame.step and there(f)), None)


def _probed(log: RunLog, frame: Frame) -> Frame | None:
    return frame if any(a.linears for a in frame.arms) else _latest(log, frame, lambda f: any(a.linears for a in f.arms))


def imbalance(linears: list[LinearProbe]) -> list[float | None]:
    """The four definitions as means over linears."""
    return [mean(p.imbalance[k] for p in linears) for k in range(4)]


def _bits(linears: list[LinearProbe]) -> tuple[float, float, float] | None:
    """(word, task, most) as means over routed linears; None where nothing was read."""
    read = [p for p in linears if p.reads is not None and p.most]
    if not read:
        return None
    word, task = (mean(p.reads[k] for p in read) for k in (0, 2))
    return None if word is None or task is None else (word, task, mean(p.most for p in read))


def _untrained(log: RunLog, scored: Frame) -> float | None:
    """Mean accuracy of the frozen model on the questions that `scored` was scored on: test rows at the end of a run, validation rows before."""
    first = log.frames[0]
    start = log.untrained if scored.event == "end" else first.arms[0].accuracy if first.step == 0 else None
    return mean(start.get(t) for t in log.tasks) if start else None


def _main(log: RunLog, frame: Frame) -> str:
    if frame.event == "diverged":
        return "The loss is no longer finite: the run ends here."
    probed = _probed(log, frame)
    if probed is None:
        return "Before training every arm is the frozen model: B is zero and adds nothing."
    routed = [i for i, a in enumerate(probed.arms) if a.linears and any(len(p.norm_ba) > 1 for p in a.linears)]
    if not routed:
        scored = _latest(log, frame, lambda f: f.step and f.arms[0].accuracy)
        start = scored and _untrained(log, scored)
        if start is None:
            return f"{log.config.arm(0).label} has one A and one B a linear, and no router. " + leads_sentence(imbalance(probed.arms[0].linears))
        end = mean(scored.arms[0].accuracy.get(t) for t in log.tasks)
        return f"{log.config.arm(0).label}, without a router, answers {number(end)} of the questions right; untrained {number(start)}."
    counts = [(sum(p.idle for p in probed.arms[i].linears), sum(len(p.norm_ba) for p in probed.arms[i].linears), log.arms[i]) for i in routed]
    idle, experts, worst = max(counts, key=lambda c: c[0] / c[1])
    fallen = collapse_sentence(idle, experts, worst if len(counts) > 1 else "")
    if fallen:
        return fallen
    read = _latest(log, frame, lambda f: any(p.reads is not None for i in routed for p in f.arms[i].linears or []))
    if read is None:
        return "A router sends each word to its experts; what it goes by is measured at the next scoring."
    bits = [(log.config.arm(i).router, found) for i in routed if (found := _bits(read.arms[i].linears))]
    if not bits:
        return "The gates here come from no router that reads words."
    kinds = {log.config.arm(i).router for i in routed}
    if len(kinds) > 1 and len(bits) > 1:
        return routers_sentence([(name, *found) for name, found in bits])
    return reads_sentence(*bits[0][1])  # arms that read the same: the first one's, which the pictures show first


def _scale(log: RunLog, frame: Frame) -> str:
    probed = _probed(log, frame)
    if probed is None:
        return ""
    there = [i for i, a in enumerate(probed.arms) if a.linears]
    if len(there) < 2:
        return leads_sentence(imbalance(probed.arms[there[0]].linears)) if there else ""
    last = there[-1]
    return arms_sentence(log.arms[last], imbalance(probed.arms[there[0]].linears), imbalance(probed.arms[last].linears))


def _answers(log: RunLog, frame: Frame) -> str:
    scored = _latest(log, frame, lambda f: all(a.accuracy for a in f.arms))
    if scored is None:
        return ""
    shares = [mean(a.accuracy.get(t) for t in log.tasks) for a in scored.arms]
    if scored.step == 0:
        return f"{number(shares[0])} right before training."
    return answers_sentence(log.arms, shares, log.config.eval_rows * len(log.tasks), _untrained(log, scored))
