"""Merging against mixing: the same tasks as one merge of single-task adapters, and as adapters trained on their mixture.

    python -m mosld merge --tasks world/mood,world/place --methods task-arithmetic,ties,adamerging --out runs/merge

- Adapters of single tasks (method lora unless --method says otherwise) are trained into DIR/runs, or taken from run directories (--from).
- `base_config`, `configurations`: what is to be trained. By default the runs on the mixture see as many questions as all single-task runs together.
- `compare`: one row a model, scored. `write`: the table as CSV and Markdown, and the course of every merge as JSON.
"""

from __future__ import annotations

import csv
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mosld.config import ConfigError, RunConfig, to_text
from mosld.counting import duration
from mosld.merging.config import MERGES, SEES, MergeConfig
from mosld.studies.statistics import mean
from mosld.texts import table

if TYPE_CHECKING:
    from mosld.merging.methods import Merge
    from mosld.merging.sources import Run

Progress = Callable[[str, float | None], None]
DESCRIPTION = "Train adapters on one task each, merge them, and compare with adapters trained on the mixture; print a table and write it."
QUIET = {"probe_every": 1000, "eval_every": 100000}  # accuracy at the end is all that is looked at
SHOWN = ("backbone", "layers", "method", "rank", "targets", "steps", "batch", "lr", "seed", "eval_rows")  # above the table


def add_arguments(parser) -> None:
    """The flags beside those of the schemas."""
    text = "run directories to use, or folders of them: runs on one task as adapters to merge, runs on the whole mixture as rows to compare with"
    parser.add_argument("--from", dest="folders", nargs="+", default=[], metavar="DIR", help=text)
    parser.add_argument("--jobs", default="1", metavar="INT", help="processes that train side by side. Default: 1.")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory of the runs and the table; finished runs in it are not repeated")


def main(args, values: dict[str, str | None], merging: dict[str, str], progress: Progress) -> int:
    """Train what is missing, merge, print the table. `values`, `merging`: the flags of RunConfig and MergeConfig that were given, as texts.

    Returns 0, or 130 where the user stopped it. Raises ConfigError.
    """
    options = MergeConfig(**merging)
    if not args.jobs.isdigit() or not 1 <= int(args.jobs) <= 1000:
        raise ConfigError(f"jobs: '{args.jobs}' is not allowed; give a whole number from 1 to 1000.")
    found: list[Run] = []
    if args.folders:
        from mosld.merging.sources import find

        found = find(args.folders, progress)
    config = base_config(values, found)
    used = usable(config, found)
    missing = configurations(config, options, used)
    steps = sum(c.steps for c in missing.values())
    time = duration(config, steps, min(int(args.jobs), 2)) if missing else "no time"
    progress(f"{len(missing)} runs to train ({steps:,} steps, {time} on two cores), then {len(options.methods)} merges.", None)
    from mosld.studies.runs import train_all  # brings torch: not before the flags are known to be right

    folder = Path(args.out) / "runs"
    try:
        used |= _as_runs(train_all(missing, folder, int(args.jobs), progress), folder)
        rows, merges = compare(config, options, used, progress)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on with what was trained.", file=sys.stderr)
        return 130
    print(write(Path(args.out), config, options, rows, merges))
    return 0


# what is trained


def base_config(values: dict, found: list[Run]) -> RunConfig:
    """What all runs share: the flags given, over the settings of the first single-task run found. Raises ConfigError."""
    from mosld import tasks

    if "arms" in values:
        raise ConfigError("arms: merging trains one arm a run; name the adapters' method in --method, methods on the mixture in --beside.")
    singles = [run for run in found if run.single]
    base = {"method": "lora"}
    if singles:
        base = {**singles[0].log.config.model_dump(), "tasks": {run.log.tasks[0]: 1.0 for run in singles}}
    config = RunConfig(**{**base, **QUIET, **values, "arms": ""})
    tasks.check([*config.tasks, *config.held_out])
    return config


def usable(config: RunConfig, found: list[Run]) -> dict[str, Run]:
    """The runs found that stand for one that would be trained, by its name. Raises ConfigError where one does not fit or comes twice."""
    out: dict[str, Run] = {}
    for run in found:
        if run.single and run.log.tasks[0] in config.tasks:
            name = _single(run.log.tasks[0])
        elif len(run.log.arms) == 1 and set(run.log.tasks) == set(config.tasks):
            name = _mixture(run.log.config.arm(0).method)
        else:
            continue
        run.check(config)
        if name in out:
            raise ConfigError(f"from: '{out[name].folder}' and '{run.folder}' are both {name}; give one of them.")
        out[name] = run
    return out


def configurations(config: RunConfig, options: MergeConfig, used: dict[str, Run]) -> dict[str, RunConfig]:
    """The runs still to be trained, by name: one a task, and one a method on the mixture. Raises ConfigError."""
    steps = options.mixture_steps or config.steps * len(config.tasks)
    runs = {_single(task): config.replace(tasks={task: 1.0}, held_out=()) for task in config.tasks}
    runs |= {_mixture(m): config.replace(method=m, steps=steps, options={} if m != config.method else config.options) for m in options.beside}
    return {name: own for name, own in runs.items() if name not in used}


def _single(task: str) -> str:
    return "single-" + re.sub(r"[^a-z0-9.]+", "-", task.lower()).strip("-")


def _mixture(method: str) -> str:
    return f"mixture-{method}"


def _as_runs(logs: dict, folder: Path) -> dict[str, Run]:
    from mosld.merging.sources import Run

    for name, log in logs.items():
        if log.frames[-1].event == "diverged":
            raise ConfigError(f"lr: {log.config.lr:g} is not allowed for {name}, whose loss diverges; choose a smaller learning rate.")
    return {name: Run(folder / name, log) for name, log in logs.items()}


# what is compared


@dataclass
class Row:
    """A line of the table: a model and its test accuracy. None: it has none."""

    label: str
    accuracy: dict[str, float]
    trained: int | None = None  # numbers that were learned
    stored: int | None = None  # numbers kept beside the backbone
    seconds: float | None = None
    sees: str = "-"


def compare(config: RunConfig, options: MergeConfig, runs: dict[str, Run], progress: Progress) -> tuple[list[Row], list[Merge]]:
    """A row for guessing, for the bare backbone, for the single-task adapters, for every run on the mixture and for every merge."""
    from mosld.merging.methods import run
    from mosld.merging.sources import open_bench

    singles = [runs[_single(task)] for task in config.tasks]
    bench = open_bench(singles, config.held_out, progress)
    scored = [*bench.tasks, *bench.held_out]
    adapters = sum(r.log.parameters[0] for r in singles)
    rows = [
        Row("chance", {t.name: t.chance for t in scored}),
        Row("commonest answer", {t.name: t.majority for t in scored}),
        Row("untrained backbone", bench.accuracy({})),
        Row(
            f"{config.label}, an adapter a task",
            {task: r.accuracy[0][task] for task, r in zip(config.tasks, singles, strict=True)},
            adapters,
            adapters,
            sum(r.seconds for r in singles),
            SEES["answers"],
        ),
    ]
    for name, r in runs.items():
        if name.startswith("mixture-"):
            count, label = r.log.parameters[0], r.log.config.arm(0).label
            rows.append(Row(f"{label} on the mixture, {r.log.config.steps} steps", r.accuracy[0], count, count, r.seconds, SEES["answers"]))
    merges = []
    for name in options.methods:
        progress(f"{MERGES[name].label} …", None)
        merge = run(name, bench, options, progress)
        learned = merge.learned + (0 if name == "mtllmf-control" else adapters)
        rows.append(Row(MERGES[name].label, bench.accuracy(merge.updates), learned, merge.stored, merge.seconds, merge.sees))
        merge.updates = {}  # scored and counted: not kept for the methods that follow
        merges.append(merge)
    return rows, merges


def write(folder: Path, config: RunConfig, options: MergeConfig, rows: list[Row], merges: list[Merge]) -> str:
    """Write `table.csv`, `table.md` and `merges.json` into `folder`; returns the Markdown."""
    names = list(config.tasks)
    heads = ["model", "mean", *names, *(f"{t} (held out)" for t in config.held_out), "trained", "stored", "seconds", "looks at"]
    numbers, cells = [heads], [heads]
    for row in rows:
        accuracy = [row.accuracy.get(t) for t in [*names, *config.held_out]]
        line = [row.label, mean(accuracy[: len(names)]), *accuracy, row.trained, row.stored]
        numbers.append([*line, row.seconds, row.sees])
        cells.append([*map(_cell, line), "-" if row.seconds is None else f"{row.seconds:.1f}", row.sees])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(numbers)
    text = "\n\n".join([_heading(config, options), table(cells), _notes(options, rows)])
    (folder / "table.md").write_text(text + "\n")
    course = {m.method: {n: getattr(m, n) for n in ("seconds", "sees", "learned", "coefficients", "densities", "losses", "jam")} for m in merges}
    record = {"config": config.model_dump(mode="json"), "merging": options.model_dump(mode="json"), "merges": course}
    (folder / "merges.json").write_text(json.dumps(record, indent=1))
    return text


def _cell(value) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3f}" if isinstance(value, float) else value


def _heading(config: RunConfig, options: MergeConfig) -> str:
    knobs = ", ".join(f"{n} {to_text(n, getattr(config, n))}" for n in SHOWN)
    return f"Accuracy on test rows: {len(config.tasks)} adapters merged, beside training on the mixture ({knobs}; lambda {options.lam:g})."


def _notes(options: MergeConfig, rows: list[Row]) -> str:
    """What the columns mean and what was looked at."""
    text = (
        "trained: numbers learned, a merge's adapters among them. stored: numbers kept beside the backbone; none, once a merge is added to its "
        "weights. seconds: of the training, or of the merge alone, which comes on top of the adapters' training. "
    )
    if any(row.sees == SEES["test"] for row in rows):
        text += "AdaMerging and Concrete looked at the TEST questions without answers, as in their papers: their accuracy is on questions they saw. "
    elif any(row.sees == SEES["held-out"] for row in rows):
        text += "AdaMerging and Concrete looked at held-out (validation) questions without answers; their papers use the test questions. "
    if any(row.label.startswith("after R-MTLLMF") for row in rows):
        text += "R-MTLLMF is built from its abstract; its users do not send embeddings, which holds here by construction: adapters never change them."
    return text.strip()
