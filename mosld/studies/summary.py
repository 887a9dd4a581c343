"""What a run came to: the last accuracies of its arms beside chance, the commonest answer and the untrained backbone."""

from __future__ import annotations

import math
import os

from mosld.tasks.files import is_path
from mosld.training.runlog import RunLog


def summary(log: RunLog) -> tuple[str, list[list[str]]]:
    """A sentence and a table, the first row a heading: a row for each task, for the mean of the mixture and for each held-out task.

    After the last step all of it is on test rows; of a run that ended early, the latest scores on validation rows. Without any score
    the table is empty.
    """
    scored = [f for f in log.frames if f.arms[0].accuracy]
    if not scored:
        return "Nothing was scored yet.", []
    last = scored[-1]
    part, untrained = ("test", log.untrained) if log.untrained else ("validation", scored[0].arms[0].accuracy)
    rows = [["task", "chance", "majority", "untrained", *log.arms]]

    def row(label: str, names: list[str]) -> list[str]:
        columns = [log.chance, log.majority, untrained, *(a.accuracy for a in last.arms)]
        return [label, *(f"{sum(c[n] for n in names) / len(names):.3f}" for c in columns)]

    rows += [row(short(name), [name]) for name in log.tasks]
    if len(log.tasks) > 1:
        rows.append(row("mean of the mixture", log.tasks))
    rows += [row(f"{short(name)} (held out)", [name]) for name in log.held_out]
    return f"Accuracy at step {last.step} on {part} rows", rows


def short(task: str) -> str:
    """A task as it is written in a table: of an own file its name alone."""
    return os.path.basename(task) if is_path(task) else task


def advice(log: RunLog) -> str:
    """A sentence on the tasks of the mixture that every arm answers worse than the untrained backbone, and what helps; empty where there is none.

    A fall of more than two standard errors of the two shares is called one; of one that is smaller, but not by far, it is said that it may be
    chance. Nothing is said of less than half a standard error.
    """
    scored = [f for f in log.frames if f.arms[0].accuracy]
    if not scored or scored[-1].step == 0:
        return ""
    untrained, last = log.untrained or scored[0].arms[0].accuracy, scored[-1].arms
    fallen, perhaps = [], []
    for task in log.tasks:
        before, best = untrained[task], max(a.accuracy[task] for a in last)
        error = math.sqrt((before * (1 - before) + best * (1 - best)) / log.config.eval_rows)
        if before - best > error / 2:
            (fallen if before - best > 2 * error else perhaps).append(f"{short(task)} from {before:.2f} to {best:.2f}")
    said = [f"Fell below the untrained backbone: {'; '.join(fallen)}."] if fallen else []
    if perhaps:
        chance = f"by no more than chance can give with {log.config.eval_rows} questions a task"
        said.append(f"Below the untrained backbone {chance}: {'; '.join(perhaps)}.")
    return " ".join([*said, f"A smaller learning rate helps most (try --lr {log.config.lr / 3:.1g})."]) if said else ""
