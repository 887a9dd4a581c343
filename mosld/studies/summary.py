"""What a run came to: the last accuracies of its arms beside chance, the commonest answer and the untrained backbone."""

from __future__ import annotations

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

    rows += [row(name, [name]) for name in log.tasks]
    if len(log.tasks) > 1:
        rows.append(row("mean of the mixture", log.tasks))
    rows += [row(f"{name} (held out)", [name]) for name in log.held_out]
    return f"Accuracy at step {last.step} on {part} rows", rows
