"""A run as a notebook that repeats it and draws its figures: `notebook(log)` gives the text of an .ipynb file.

The notebook holds the run's settings in full and what was changed by hand on the way, so that on the same machine it gives the same
numbers; beside them it keeps those of the run it was made from. It needs this package and Jupyter, and no gradio.

- `notebook(log)`: the text. `changes(log)`: what was changed during the run, and after which step. `settings(config)`: it as Python.
"""

from __future__ import annotations

import json
import pprint
import re

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mosld.config import RunConfig, knobs
from mosld.training import RunLog

WIDTH = 90  # letters a line of the settings

# A sentence of Trainer.change in a Frame's note, after the arm's name.
CHANGED = re.compile(r"(lr|dropout|balance) \S+ to (\S+)\.(?= |$)")


def changes(log: RunLog) -> list[tuple[int, int, dict[str, float]]]:
    """(step, arm, values) for every change made by hand: once that step was done, that arm went on with these values."""
    out = []
    for frame in log.frames:
        rest = frame.note
        while found := _first(rest, log.arms):
            arm, match = found
            out.append((frame.step - 1, arm, {match[1]: float(match[2])}))
            rest = rest[match.end() :].lstrip()
    return out


def _first(text: str, arms: list[str]) -> tuple[int, re.Match] | None:
    """The change that a text begins with: the arm's index and the match."""
    for i, name in enumerate(arms):
        if text.startswith(f"{name}: ") and (match := CHANGED.match(text, len(name) + 2)):
            return i, match
    return None


def notebook(log: RunLog) -> str:
    """The .ipynb text of a notebook that repeats the run and draws its figures. The log needs at least one Frame."""
    experts = [max(linear.experts for linear in arm) for arm in log.linears]
    most = experts.index(max(experts))
    cells = [
        new_markdown_cell(_head(log)),
        new_code_cell("import pandas as pd\n\nfrom mosld import figures\nfrom mosld.config import RunConfig\nfrom mosld.training import Trainer"),
        new_markdown_cell("## The settings\n\n`python -m mosld knobs` says what each of them means."),
        new_code_cell(settings(log.config)),
        new_markdown_cell("## The run\n\nThe picture is redrawn in place while it goes on."),
        new_code_cell(_run(log)),
        new_markdown_cell("## Loss and accuracy"),
        new_code_cell("figures.losses(log)"),
        new_code_cell("figures.accuracy(log)"),
        new_markdown_cell("## The router\n\nGates of the arm with the most experts; `figures.gates(log, arm=0)` shows the first arm."),
        new_code_cell(f"figures.gates(log, arm={most})"),
        new_code_cell("figures.router(log)"),
        new_markdown_cell("## A and B\n\nNorms of the same arm; then, by four definitions, whether A or the B of the experts is updated more."),
        new_code_cell(f"figures.norms(log, arm={most})"),
        new_code_cell("figures.imbalance(log)"),
        new_markdown_cell("## The same numbers?\n\nThe last accuracies of the run that this notebook was made from, and those of its repetition."),
        new_code_cell(_compare(log)),
        new_markdown_cell(
            "On the same machine, with the same versions and number of threads, the differences are zero; elsewhere rounding may grow."
        ),
    ]
    probed = any(a.linears for f in log.frames for a in f.arms)
    if not probed:
        del cells[9:15]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}, "language_info": {"name": "python"}}
    return nbformat.writes(new_notebook(cells=cells, metadata=metadata)) + "\n"


def _head(log: RunLog) -> str:
    last = log.frames[-1]
    versions = ", ".join(f"{name} {value}" for name, value in log.versions.items())
    ended = {"end": "It made all its steps", "diverged": "Its loss diverged", "stopped": "It was stopped by hand"}.get(
        last.event, "It was still going on"
    )
    lines = [
        "# A run of MoSLD Lab",
        f"{' · '.join(log.arms)}, trained on {', '.join(log.tasks)}. {ended}, at step {last.step} of {log.config.steps}, "
        f"after {last.seconds:.0f} seconds.",
        "This notebook repeats it, with the same rows, batches and initial values, and draws its figures. It needs the package `mosld` and Jupyter: "
        "in the package's folder, `pip install -e .` and `jupyter lab`.",
    ]
    files = [t for t in (*log.tasks, *log.held_out) if not t.startswith(("world/", "real/"))]
    if files:
        lines.append(f"It reads {', '.join(f'`{f}`' for f in files)}: put your file there, or name another place in the settings.")
    lines.append(f"Made with {versions}.")
    return "\n\n".join(lines)


def settings(config: RunConfig) -> str:
    """`config = RunConfig(...)` in full, since defaults may change: first what differs from them today."""
    lines = {own: [] for own in (True, False)}
    for k in knobs():
        value = getattr(config, k.name)
        text = pprint.pformat(value, width=WIDTH, sort_dicts=False).replace("\n", "\n" + " " * (len(k.name) + 5))
        lines[value != k.default].append(f"    {k.name}={text},\n")
    return f"config = RunConfig(\n{''.join(lines[True])}    # as by default\n{''.join(lines[False])})"


def _run(log: RunLog) -> str:
    made = changes(log)
    early = log.frames[-1].step if log.frames[-1].event not in ("end", "diverged") else None
    further = []
    lines = ["trainer = Trainer(config)"]
    if made:
        rows = "".join(f"    ({step}, {arm}, {values!r}),\n" for step, arm, values in made)
        lines.insert(0, f"# (step, arm, values): changed by hand once that step was done\nchanges = [\n{rows}]\n")
        further.append("changes=changes")
    if early is not None:
        further.append(f"steps={early}")
    lines.append(f"log = figures.watch({', '.join(['trainer', *further])})")
    return "\n".join(lines)


def _compare(log: RunLog) -> str:
    frame = next(f for f in reversed(log.frames) if f.arms[0].accuracy)
    first = {arm: a.accuracy for arm, a in zip(log.arms, frame.arms, strict=True)}
    return (
        f"first = {json.dumps(first, indent=4)}\n"
        f"step = {frame.step}\n"
        "again = log.accuracies().query('step == @step').pivot(index='task', columns='arm', values='accuracy')\n"
        "both = pd.concat({'first run': pd.DataFrame(first), 'again': again}, axis=1)\n"
        "difference = (both['again'] - both['first run']).abs().max().max()\n"
        "print(f'largest difference: {difference:.4f}')\n"
        "assert set(log.arms) == set(first) and log.frames[-1].step >= step\n"
        "both.round(3)"
    )
