"""Compare methods: each trained alone on the same batches, over several seeds, as one table.

    python -m mosld compare --methods lora,mosld,lora:rank=32 --tasks world/mood,world/place --seeds 3 --out runs/compare

- `read_methods`: 'lora,mosld:rank=4:targets=q+v' to labels and the settings that differ.
- `configurations`: one single-arm run a method and seed. Runs of the same seed draw the same rows, batches and splits.
- `rows_of`, `write`: the table, as numbers and as text, with rows for chance, the commonest answer and the untrained backbone.

Runs lie in DIR/runs; what is finished there is not trained again, what was stopped goes on.
"""

from __future__ import annotations

import csv
import math
import os
import platform
import re
import statistics as basic
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mosld.config import ConfigError, RunConfig, to_text, whole
from mosld.counting import duration
from mosld.files import trial
from mosld.files import write as write_file
from mosld.registry import METHODS
from mosld.studies.statistics import mean, paired_interval, spread
from mosld.texts import choose, table

DESCRIPTION = "Train methods on the same batches over several seeds; print a table and write it as CSV and Markdown."
QUIET = {"probe_every": 1000}  # a comparison looks at accuracies; the end of a run is always probed and scored
SHOWN = ("backbone", "layers", "steps", "batch", "lr", "rank", "experts", "top_k", "targets", "eval_rows")  # above the table; of the first method


def add_arguments(parser) -> None:
    """The flags beside those of the schema."""
    parser.add_argument("--methods", default="lora,mosld", metavar="METHOD,METHOD", help=_methods_help())
    parser.add_argument("--seeds", default="3", metavar="INT", help="runs of each method, with the seeds --seed, --seed + 1, ... Default: 3.")
    parser.add_argument("--jobs", default="1", metavar="INT", help="processes that train side by side. Default: 1.")
    parser.add_argument("--out", required=True, metavar="DIR", help="directory of the runs and the table; finished runs in it are not repeated")


def _methods_help() -> str:
    return f"methods, each with settings of its own if wanted, as in lora:rank=32 or mixlora:targets=q+v+up+down; known are {', '.join(METHODS)}."


def main(args, values: dict[str, str | None], progress: Callable[[str, float | None], None]) -> int:
    """Run the comparison. `values`: the schema's flags that were given, as texts. Returns 0, 1 (a run diverged) or 130 (stopped by the user)."""
    methods = read_methods(args.methods)
    seeds, jobs = (whole(name, getattr(args, name), 1, 1000) for name in ("seeds", "jobs"))
    configs = configurations(methods, values, seeds)
    for label, _ in methods:
        for sentence in configs[label, 0].ignored():
            print(f"Note: {sentence}", file=sys.stderr)
    trial(args.out)
    out = Path(args.out)
    one = next(iter(configs.values()))
    wait = duration(one, len(configs) * one.steps, min(jobs, 2))
    progress(f"{len(configs)} runs of {one.steps} steps, {jobs} at a time: {wait} on two cores.", None)
    names = {key: f"{_file_name(key[0])}-seed{config.seed}" for key, config in configs.items()}
    from mosld.studies.runs import train_all  # brings torch: not before the flags are known to be right

    try:
        logs = train_all({names[key]: config for key, config in configs.items()}, out / "runs", jobs, progress)
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on.", file=sys.stderr)
        return 130
    text = write(out, [label for label, _ in methods], {key: logs[name] for key, name in names.items()}, jobs)
    print(text)
    return int(any(log.frames[-1].event == "diverged" for log in logs.values()))


def read_methods(text: str) -> list[tuple[str, dict[str, str]]]:
    """'lora,mosld:rank=4' to [(label, settings)]. Raises ConfigError for an unknown method or one named twice."""
    out: dict[str, dict[str, str]] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        method, *fields = part.split(":")
        settings = {"method": method}
        for item in fields:
            name, eq, value = item.partition("=")
            if not eq:
                raise ConfigError(f"methods: '{item}' in '{part}' is not of the form name=value.")
            settings[name.strip().replace("-", "_")] = value.strip()
        if method not in METHODS:
            raise ConfigError(f"methods: '{method}' is not known; {choose(method, METHODS)}.")
        label = METHODS[method].label + (f" ({', '.join(f.replace('=', ' ') for f in fields)})" if fields else "")
        if label in out:
            raise ConfigError(f"methods: '{part}' is named twice; give each once.")
        out[label] = settings
    if not out:
        raise ConfigError(f"methods: none is named; choose among {', '.join(METHODS)}.")
    return list(out.items())


def configurations(methods: list[tuple[str, dict[str, str]]], values: dict, seeds: int) -> dict[tuple[str, int], RunConfig]:
    """(label, n-th seed) to a run. Raises ConfigError."""
    for name in ("method", "arms"):
        if name in values:
            raise ConfigError(f"{name}: a comparison has one arm a run; name what differs in --methods, as in lora:rank=32.")
    base = {**QUIET, **values}
    from mosld import tasks

    first = tasks.settled(RunConfig(**{**base, "arms": ""}))
    base |= {"eval_every": base.get("eval_every", first.steps), "tasks": first.tasks, "held_out": first.held_out}
    return {(label, n): RunConfig(**{**base, **settings, "seed": first.seed + n, "arms": ""}) for n in range(seeds) for label, settings in methods}


def _file_name(label: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", label.lower()).strip("-")


@dataclass
class Row:
    """A line of the table. Lists have one value a seed; a run that diverged has none."""

    label: str
    parameters: int | None = None
    accuracy: dict[str, list[float]] = field(default_factory=dict)  # task -> one value a seed
    seeds: list[int] = field(default_factory=list)  # that the values belong to
    step_ms: list[float] = field(default_factory=list)

    def add(self, seed: int, accuracy: dict[str, float] | None, tasks: list[str]) -> None:
        """The accuracies of one more seed, if there are any."""
        if accuracy:
            self.seeds.append(seed)
            for task in tasks:
                self.accuracy.setdefault(task, []).append(accuracy[task])

    def over(self, tasks: list[str]) -> list[float]:
        """The mean over some tasks, one value a seed."""
        return [mean(values) for values in zip(*(self.accuracy.get(t, []) for t in tasks), strict=True)]


def rows_of(labels: list[str], logs: dict) -> list[Row]:
    """What the logs of the runs say, {(label, n): RunLog}: three rows without training, then one a method."""
    names = _names(logs)
    seeds = sorted({n for _, n in logs})
    out = []
    for label, of in (("chance", "chance"), ("commonest answer", "majority"), ("untrained backbone", "untrained")):
        row = Row(label)
        for n in seeds:  # the same in all runs of a seed; a run that diverged did not score the backbone
            row.add(n, next((v for (_, m), log in logs.items() if m == n and (v := getattr(log, of))), None), names)
        out.append(row)
    for label in labels:
        own = {n: logs[label, n] for n in seeds}
        row = Row(label, own[seeds[0]].parameters[0], step_ms=[step_ms(log) for log in own.values()])
        for n, log in own.items():
            row.add(n, log.frames[-1].arms[0].accuracy if log.frames[-1].event == "end" else None, names)
        out.append(row)
    return out


def _names(logs: dict) -> list[str]:
    log = next(iter(logs.values()))
    return [*log.tasks, *log.held_out]


def step_ms(log) -> float:
    """Median milliseconds of a training step, over the steps that were neither scored nor probed (over all where each one was)."""
    took = [(b, (b.seconds - a.seconds) * 1e3) for a, b in zip(log.frames, log.frames[1:], strict=False) if b.arms[0].loss is not None]
    plain = [ms for frame, ms in took if not frame.arms[0].accuracy and not frame.arms[0].linears]
    return basic.median(plain or [ms for _, ms in took] or [math.nan])


def write(folder: Path, labels: list[str], logs: dict, jobs: int = 1) -> str:
    """Write `table.csv` (numbers) and `table.md` into `folder`; returns the Markdown."""
    log = next(iter(logs.values()))
    rows = rows_of(labels, logs)
    groups = {t: [t] for t in log.tasks} | {"mean": log.tasks}
    groups |= {f"{t} (held out)": [t] for t in log.held_out}
    if len(log.held_out) > 1:
        groups["mean of held out"] = log.held_out
    reference = rows[3]
    against = f"minus {reference.label}"
    cells = [["method", "parameters", *groups, against, "ms a step"]]
    numbers = [["method", "parameters", *(f"{g}{end}" for g in groups for end in ("", " spread")), against, "low", "high", "ms a step", "seeds"]]
    for row in rows:
        values = [row.over(tasks) for tasks in groups.values()]
        difference, ms = _difference(row, reference, log.tasks, log.config.eval_rows), mean(row.step_ms)
        parameters = "-" if row.parameters is None else f"{row.parameters:,}"
        cells.append([row.label, parameters, *map(_with_spread, values), _interval(difference), _number(ms, 0)])
        flat = [f(v) for v in values for f in (mean, spread)]
        numbers.append([row.label, row.parameters, *flat, *difference, ms, len(row.seeds)])
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["" if v is None or v != v else v for v in line] for line in numbers])
    text = "\n\n".join([_heading(log, len(reference.step_ms), jobs), table(cells), *_notes(rows, logs)])
    write_file(folder / "table.md", text + "\n")
    return text


def _difference(row: Row, reference: Row, tasks: list[str], questions: int) -> tuple[float, float, float]:
    """Mean of the mixture, `row` minus `reference`, over the seeds that both have, with its interval; NaN for rows without training.

    `questions` of each task are scored: no interval is narrower than they allow.
    """
    if row.parameters is None or row is reference:
        return math.nan, math.nan, math.nan
    both = [n for n in row.seeds if n in reference.seeds]
    first, second = ([r.over(tasks)[r.seeds.index(n)] for n in both] for r in (row, reference))
    return paired_interval(first, second, rows=questions * len(tasks))


def _heading(log, seeds: int, jobs: int) -> str:
    knobs = ", ".join(f"{n} {to_text(n, getattr(log.config, n))}" for n in SHOWN)
    return (
        f"Accuracy on test rows after training on the mixture ({knobs}), mean over {seeds} seeds ± standard deviation. "
        f"The difference is of the mixture's mean, seed by seed, with a 95 % t interval, no narrower than the questions allow. "
        f"Machine: {_processor()}, {os.cpu_count()} cores, {jobs} runs at a time, torch {log.versions['torch']}."
    )


def _notes(rows: list[Row], logs: dict) -> list[str]:
    lost = [f"{label} at seed {log.config.seed}" for (label, _), log in logs.items() if log.frames[-1].event == "diverged"]
    return [f"The loss was no longer finite, and the run is left out: {', '.join(lost)}."] if lost else []


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"


def _with_spread(values: list[float]) -> str:
    return _number(mean(values)) + (f" ± {spread(values):.3f}" if len(values) > 1 else "")


def _interval(difference: tuple[float, float, float]) -> str:
    centre, low, high = difference
    if centre != centre:
        return "-"
    return f"{centre:+.3f}" + (f" [{low:+.3f}, {high:+.3f}]" if low == low else "")
