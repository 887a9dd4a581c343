"""Three questions about routers, answered in a sentence from a run's own numbers. Pure functions of a RunLog, without torch or interface.

- `looks_at`: what does a router look at?  `specialists`: when do experts become specialists?  `matters`: does routing matter?

Each gives a `Finding`: `answer`, a short key that a page may compare with a visitor's guess, and `sentence`. The rules and their margins are
here and nowhere else: what is below a margin is said to be nothing, or no difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mosld.training.runlog import RunLog

LABELS = ("word", "place", "task")  # what the sentences speak of
NOTHING = 0.1  # share of the most possible below which an expert tells next to nothing
SPREAD = 2.0  # standard errors of a difference of shares that make it a difference


@dataclass(frozen=True)
class Finding:
    """An answer as a key, and as a sentence."""

    answer: str
    sentence: str


def told(log: RunLog, step: int | None = None) -> pd.DataFrame:
    """Bits of every arm at a scored step (the last one by default), the mean over its linears: rows arms, columns of `LABELS` each with
    `null` beside it as in `word null`, and `most`. Empty where nothing was read."""
    table = log.reads()
    if table.empty:
        return pd.DataFrame()
    table = table[table.step == (table.step.max() if step is None else step)]
    bits = table.pivot_table(index="arm", columns="label", values="bits", dropna=False)
    null = table.pivot_table(index="arm", columns="label", values="null", dropna=False)
    out = bits.reindex(columns=LABELS).join(null.reindex(columns=LABELS).add_suffix(" null"))
    out["most"] = table.groupby("arm").most.mean()
    return out.reindex([a for a in log.arms if a in out.index])


def looks_at(log: RunLog, arm: str | None = None) -> Finding:
    """What the router of an arm looks at, of word, place and task: that which the choice of experts tells most of.

    Answers: 'word', 'place', 'task', 'nothing' (all below a tenth of the most possible), '' where nothing was read.
    """
    table = told(log)
    if table.empty or (arm is not None and arm not in table.index):
        return Finding("", "There is no router here, or it was not read yet.")
    row = table.iloc[0] if arm is None else table.loc[arm]
    first = row[list(LABELS)].idxmax()
    most = f"of {_bits(row.most)} at most"
    if row[first] < NOTHING * row.most:
        return Finding("nothing", f"The experts tell next to nothing: of the {first} {_bits(row[first])}, {most}.")
    others = ", ".join(f"of the {n} {_short(row[n])}" for n in LABELS if n != first)
    untrained = row[f"{first} null"]
    beside = "" if math.isnan(untrained) else f"; an untrained router's tells {_short(untrained)} of the {first}"
    follows = {"word": "follows the word", "place": "follows the place in the text", "task": "follows the task"}[first]
    return Finding(first, f"The router {follows}: the expert tells {_bits(row[first])} of it, {most}, {others}{beside}.")


def specialists(log: RunLog) -> Finding:
    """When the experts of each arm came to tell of the task: the first scored step with half of what they tell at the end.

    Answers: the name of the arm whose experts are specialists of tasks in the end, of several the one that tells most; 'none'; '' where
    nothing was read.
    """
    end = told(log)
    if end.empty or end.task.isna().all():
        return Finding("", "The task needs several tasks and a router to be told of.")
    parts, best = [], "none"
    steps = sorted(log.reads().step.unique())
    for arm, row in end.iterrows():
        if row.task < NOTHING * row.most:
            parts.append(f"'{arm}' never ({_short(row.task)})")
            continue
        best = arm if best == "none" or row.task > end.task[best] else best
        half = next(s for s in steps if told(log, s).task[arm] >= row.task / 2)
        early = row["task null"] >= row.task / 2
        parts.append(f"'{arm}' {'from the start' if early else f'by step {half}'} ({_short(row.task)} in the end)")
    sentence = f"Bits that the expert tells of the task, {_bits(end.most.max())} at most: {'; '.join(parts)}."
    return Finding(best, sentence)


def matters(log: RunLog, contributions: Sequence[dict] = ()) -> Finding:
    """Whether it matters who is sent where: the arms' last accuracies, and where given what exchanging the gates does to them.

    Args:
        contributions: of arms, what `mosld.training.inspector.contribution` gave.

    Answers: with contributions 'yes' where an arm loses more than chance allows when its gates go to other tokens or texts, else 'no'; without
    them the name of the best arm, 'no' where none is ahead of the last by more than that; '' without any accuracy.
    """
    if contributions:
        lost, worst = [], 0.0
        for c in contributions:
            ways = {w: c["mean"]["as it is"] - c["mean"][w] for w in ("tokens", "texts") if w in c["mean"]}
            way = max(ways, key=ways.get)
            n = c["rows"] * len(c["accuracy"]["as it is"])
            worst = max(worst, ways[way] / max(_error(c["mean"]["as it is"], n) * math.sqrt(2), 1e-12))
            lost.append(f"'{c['arm']}' answers {_percent(c['mean']['as it is'])} right, with the gates of other {way} {_percent(c['mean'][way])}")
        answer = "yes" if worst > SPREAD else "no"
        verdict = "It matters who is sent where" if answer == "yes" else "It hardly matters who is sent where"
        return Finding(answer, f"{verdict}: {'; '.join(lost)}.")
    table = log.accuracies()
    if table.empty:
        return Finding("", "Nothing was scored yet.")
    table = table[(table.step == table.step.max()) & table.task.isin(log.tasks)]
    means = table.groupby("arm").accuracy.mean().reindex(log.arms)
    best, last = means.idxmax(), means.idxmin()
    n = log.config.eval_rows * len(log.tasks)
    error = math.hypot(_error(means[best], n), _error(means[last], n))
    listed = ", ".join(f"'{arm}' {_percent(v)}" for arm, v in means.items())
    if len(means) < 2 or means[best] - means[last] <= SPREAD * error:
        return Finding("no", f"No arm is ahead by more than chance allows: {listed}.")
    return Finding(best, f"'{best}' answers most questions right, '{last}' fewest: {listed}.")


def _error(share: float, n: int) -> float:
    """Standard error of a share of n questions."""
    return math.sqrt(share * (1 - share) / n)


def _short(bits: float) -> str:
    return f"{max(bits, 0):.2f}"


def _bits(bits: float) -> str:
    return f"{_short(bits)} bit" + ("" if f"{bits:.2f}" == "1.00" else "s")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
