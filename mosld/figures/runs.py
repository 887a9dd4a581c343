"""Pictures of runs. Each takes a RunLog, or a list of RunLogs that differ in their seed: then lines are means with a 95 % band.

- `losses`, `accuracy`: what was learned. `overview`: four small panels, made to be redrawn while a run goes on.
- `gates`, `router`: where tokens go. `norms`, `imbalance`: what happens to A and the B_e.
- `tables`: one of the RunLog's tables over several runs, with a column for the seed.

Values of several linears are averaged; a gap is left out of a mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from mosld.figures.plain import cells, inside
from mosld.figures.style import SOFT, Picture, canvas, legend, line, marker, reference, styled
from mosld.probes.seeds import interval
from mosld.training.frame import IMBALANCE
from mosld.training.runlog import RunLog

Runs = RunLog | Sequence[RunLog]
RATIO = "log2 (A / mean of B)"
LEAST = {"idle": 1.0, "information": 0.01}  # experts, bits: what an axis of these shows at least
SMOOTH = 0.8  # weight of the past in the smoothed loss


def tables(runs: Runs, name: str) -> pd.DataFrame:
    """The table `name` of every run (accuracies, losses, gates, norms, imbalance, routing) under one another, with a column `seed`."""
    return pd.concat([getattr(log, name)().assign(seed=log.config.seed) for log in _list(runs)], ignore_index=True)


@styled
def losses(runs: Runs) -> Picture:
    """Cross-entropy of the training batches by step, smoothed, one line an arm."""
    picture, axes = canvas(width=6.4, height=3.0)
    _losses(axes[0, 0], runs)
    legend(picture, axes[0, 0])
    return _said(picture, "Loss by step", runs)


@styled
def accuracy(runs: Runs) -> Picture:
    """Accuracy by step of every task, held-out tasks last, with lines at chance and at the commonest answer.

    Lines are of validation rows. The test rows, other questions, are scored at the end of a run: hollow marks that no line leads to.
    """
    logs, table = _list(runs), tables(runs, "accuracies")
    names = [*logs[0].tasks, *logs[0].held_out]
    columns = min(len(names), 3)
    picture, axes = canvas(-(-len(names) // columns), columns, width=3.1, height=2.4, sharey=True)
    for ax, name in zip(axes.flat, names, strict=False):
        _accuracies(ax, table[table.task == name], logs[0].arms)
        reference(ax, logs[0].chance[name], "chance")
        if logs[0].majority[name] > logs[0].chance[name] + 0.02:
            reference(ax, logs[0].majority[name], "commonest answer")
        ax.set(title=name + (" (held out)" if name in logs[0].held_out else ""), ylim=(0, 1.02), xlabel="step")
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    axes[0, 0].set_ylabel("accuracy")
    legend(picture, axes[0, 0])
    return _said(picture, "Accuracy by step", runs)


@styled
def gates(log: RunLog, arm: int = 0, value: str = "gate", step: int | None = None) -> Picture:
    """Router of one arm at one probed step: a panel a task, a row an adapted linear (top layer first), a column an expert.

    Args:
        value: 'gate', the mean gate weight (a row sums to 1), or 'load', the share of the task's tokens sent there (sums to K).
        step: a probed step; None takes the last.
    """
    table = log.gates()
    table = table[table.arm == log.arms[arm]]
    step = int(table.step.max()) if step is None else step
    table = table[table.step == step]
    linears = [i for i in reversed(log.linears[arm])]
    tasks = [t for t in log.tasks if t in set(table.task)]
    experts = max(i.experts for i in linears)
    columns = min(len(tasks), 4)
    picture, axes = canvas(-(-len(tasks) // columns), columns, width=0.9 + 0.42 * experts, height=0.9 + 0.21 * len(linears), sharex=True, sharey=True)
    for ax, task in zip(axes.flat, tasks, strict=False):
        wide = table[table.task == task].pivot(index="linear", columns="expert", values=value)
        grid = wide.reindex(index=[i.name for i in linears], columns=range(experts)).to_numpy(float)
        cells(ax, grid, low=0.0, high=1.0)
        ax.set(title=task, xlabel="expert")
        ax.set_xticks(range(experts), [str(e + 1) for e in range(experts)])  # as the page counts them
        ax.set_yticks(range(len(linears)), [f"layer {i.layer + 1} {i.target}" for i in linears])
    for ax in axes.flat[len(tasks) :]:
        ax.set_visible(False)
    what = "Mean gate weight" if value == "gate" else "Share of tokens sent"
    picture.suptitle(f"{what}, {log.arms[arm]}, step {step}", x=0.01, ha="left", fontsize=9.5, color=SOFT)
    return _said(picture, f"{what} by layer, expert and task", log)


@styled
def router(runs: Runs) -> Picture:
    """Four figures of the router by step, means over the adapted linears: evenness, experts in use, idle experts, task information."""
    panels = (
        ("evenness", "Evenness of the mean gate", "entropy / log E"),
        ("effective", "Experts in use", "exp (entropy)"),
        ("idle", "Idle experts a linear", "load < 1 / (10 E)"),
        ("information", "What the expert tells of the task", "bits"),
    )
    picture, axes = canvas(2, 2, width=4.2, height=2.5)
    table, arms = tables(runs, "routing"), _list(runs)[0].arms
    for ax, (column, title, unit) in zip(axes.flat, panels, strict=True):
        _lines(ax, table, column, arms)
        ax.set(title=title, ylabel=unit, xlabel="step")
        if column in LEAST:
            _from_zero(ax, LEAST[column])
    legend(picture, axes[0, 0])
    return _said(picture, "Router by step", runs)


@styled
def norms(log: RunLog, arm: int = 0) -> Picture:
    """Frobenius norms by step, one line an expert, means over the linears that have as many: A (shared: one line), B, BA, and what
    each expert asks of a shared A (its own share of A's gradient)."""
    table = log.norms()
    table = table[table.arm == log.arms[arm]]
    titles = {"A": "A", "B": "B of each expert", "BA": "B A of each expert", "ask_A": "Asked of A"}
    shown = [q for q in titles if q in set(table.quantity)]
    picture, axes = canvas(1, len(shown), width=10.4 / max(len(shown), 3), height=2.7)
    for ax, quantity in zip(axes.flat, shown, strict=True):
        means = table[table.quantity == quantity].pivot_table(index="step", columns="expert", values="norm")
        for i, expert in enumerate(means):
            ax.plot(means.index, means[expert], label=f"expert {expert + 1}", **line(i))
        ax.set(title=titles[quantity], xlabel="step")
        _from_zero(ax)
    axes[0, 0].set_ylabel("Frobenius norm")
    legend(picture, max(axes.flat, key=lambda ax: len(ax.lines)))
    return _said(picture, f"Norms by step, {log.arms[arm]}", log)


@styled
def imbalance(runs: Runs) -> Picture:
    """The four definitions of update imbalance by step, means over the adapted linears. Above 0 A moves more, below 0 the B_e do."""
    picture, axes = canvas(2, 2, width=4.2, height=2.5, sharex=True)
    table, arms = tables(runs, "imbalance"), _list(runs)[0].arms
    for ax, definition in zip(axes.flat, IMBALANCE, strict=True):
        _lines(ax, table[table.definition == definition], "log2_ratio", arms)
        reference(ax, 0)
        ax.set(title=definition, xlabel="step", ylabel=RATIO)
    legend(picture, axes[0, 0])
    return _said(picture, "Update imbalance by four definitions", runs)


@styled
def overview(log: RunLog) -> Picture:
    """A run at a glance: loss, mean accuracy, task information of the router, imbalance of steps. Axes span the whole run from the start,
    so that nothing moves but the lines when it is drawn again."""
    picture, axes = canvas(1, 4, width=2.75, height=2.5)
    (loss, right, info, ratio), steps = axes[0], log.config.steps
    _losses(loss, log)
    loss.set(title="Loss", ylabel="")
    scores = log.accuracies()
    _accuracies(right, scores[scores.task.isin(log.tasks)], log.arms)
    reference(right, sum(log.chance[t] for t in log.tasks) / len(log.tasks), "chance")
    right.set(title="Accuracy, mean of the mixture", ylim=(0, 1.02))
    _lines(info, log.routing(), "information", log.arms)
    info.set(title="Router: bits on the task")
    _from_zero(info, LEAST["information"])
    table = log.imbalance()
    _lines(ratio, table[table.definition == "step"], "log2_ratio", log.arms)
    reference(ratio, 0)
    ratio.set(title="Steps: log2 (A / B)")
    for ax in axes.flat:
        ax.set(xlim=(0, steps), xlabel="step")
    legend(picture, right)
    return _said(picture, "Overview", log)


def _list(runs: Runs) -> list[RunLog]:
    return [runs] if isinstance(runs, RunLog) else list(runs)


def _lines(ax, table: pd.DataFrame, value: str, arms: list[str], over: str = "seed") -> None:
    """One line an arm: the mean over linears and tasks, then over seeds, with a 95 % band where there are two seeds or more."""
    for i, arm in enumerate(arms):
        own = table[table.arm == arm]
        if not len(own):
            continue
        own = own.assign(**{over: own.get(over, 0)})
        wide = own.pivot_table(index="step", columns=over, values=value, aggfunc="mean", dropna=False)
        mean, low, high = inside(value, np.array(interval(wide.to_numpy(float))))
        ax.plot(wide.index, mean, label=arm, marker="." if len(wide) < 12 else None, **line(i))
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True))
        if np.isfinite(low).any():
            ax.fill_between(wide.index, low, high, color=line(i)["color"], alpha=0.16, linewidth=0)


def _accuracies(ax, table: pd.DataFrame, arms: list[str]) -> None:
    """Lines of the validation rows; the accuracy on test rows as a hollow mark an arm."""
    _lines(ax, table[table.part == "validation"], "accuracy", arms)
    test = table[table.part == "test"]
    for i, arm in enumerate(arms):
        own = test[test.arm == arm]
        if len(own):
            look = {**marker(i), "markerfacecolor": "none", "markeredgecolor": marker(i)["color"]}
            ax.plot([own.step.max()], [own.accuracy.mean()], linestyle="none", label="on test rows" if i == len(arms) - 1 else None, **look)


def _losses(ax, runs: Runs) -> None:
    logs = _list(runs)
    table = tables(logs, "losses")
    table = table[table.step > 0]
    smooth = table.groupby(["arm", "seed"], sort=False)["loss"].transform(lambda x: x.astype(float).ewm(alpha=1 - SMOOTH).mean())
    _lines(ax, table.assign(loss=smooth), "loss", logs[0].arms)
    ax.set(title="Loss of the training batches, smoothed", xlabel="step", ylabel="cross-entropy, nats")
    _from_zero(ax)


def _from_zero(ax, least: float = 0.0) -> None:
    """Let the upright axis begin at 0, with room above the highest line; `least` is what it shows at least, so that noise stays small."""
    highest = max((np.nanmax(drawn.get_ydata().astype(float)) for drawn in ax.lines if len(drawn.get_ydata())), default=1.0)
    ax.set_ylim(0, max(1.08 * highest, least) or 1.0)


def _said(picture: Picture, what: str, runs: Runs) -> Picture:
    """Give the picture its sentence: what it shows, of which arms, and the last accuracies."""
    logs = _list(runs)
    frame = next((f for f in reversed(logs[0].frames) if f.arms[0].accuracy), None)
    ends = (
        ""
        if frame is None
        else f" Mean accuracy at step {frame.step}: "
        + ", ".join(f"{name} {np.mean(list(a.accuracy.values())):.2f}" for name, a in zip(logs[0].arms, frame.arms, strict=True) if a.accuracy)
    )
    seeds = f", {len(logs)} seeds" if len(logs) > 1 else ""
    picture.alt = f"{what}; arms: {', '.join(logs[0].arms)}{seeds}.{ends}{'.' if ends else ''}"
    return picture
