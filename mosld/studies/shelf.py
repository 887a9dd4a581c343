"""Runs side by side, whatever they differ in: a row of the table for every run and arm, and curves to lay over one another.

- `read(folder)`: what a run directory says, small enough to be kept: `Kept`, with a `Row` and curves for every arm.
- `differing(shelf)`: the settings in which the arms of all runs differ. `baselines(shelf)`: rows without training.
- `alone(config, by)`: one configuration a task, to train each task of a mixture on its own.

The arithmetic of a row is that of `mosld.studies.compare`. Nothing here imports torch but `read`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mosld.config import ConfigError, RunConfig, knobs, to_text
from mosld.studies.compare import QUIET, Row, step_ms
from mosld.studies.statistics import mean

POINTS = 300  # kept of a curve; a picture has no more columns
MOST_BYTES = 200_000_000  # of a run's frames; a longer one takes too long to be read between two clicks
MEAN = "mean of the mixture"
DEFINITIONS = ("updates", "gradients", "steps", "relative steps")
BY = {"questions": "as many of its questions", "steps": "as many steps"}  # what a task alone gets, measured by the mixture

Curve = list[list[float]]  # [step, value]


@dataclass(frozen=True)
class Kept:
    """A run on the shelf. `rows` and `curves` have one entry an arm; a row without a scoring has no accuracy."""

    config: RunConfig
    rows: list[Row]
    curves: list[dict[str, Curve]]
    tasks: list[str]
    held_out: list[str]
    baselines: dict[str, dict[str, float]]  # chance, commonest answer and, of a run at its end, untrained backbone: task -> accuracy
    step: int  # the last one made
    scored: str  # 'test rows', 'validation rows, step 50' or ''
    event: str  # of the last frame: 'end' where all steps were made
    seconds: float
    step_ms: float  # of all arms together


def read(folder: Path) -> Kept:
    """What a run directory says so far. Raises ConfigError where there is nothing to read, or too much."""
    frames = folder / "frames.jsonl"
    if frames.is_file() and frames.stat().st_size > MOST_BYTES:
        raise ConfigError(f"run: '{folder.name}' has {frames.stat().st_size:,} bytes of frames; at most {MOST_BYTES:,} are read here.")
    from mosld.training.runlog import RunLog

    try:
        log = RunLog.load(folder)
    except (OSError, ValueError, KeyError, TypeError) as problem:  # it is being written anew at this moment
        raise ConfigError(f"run: '{folder.name}' cannot be read now; try again.") from problem
    if not log.frames:
        raise ConfigError(f"run: '{folder.name}' has made no step yet.")
    scored = next((f for f in reversed(log.frames) if f.arms[0].accuracy), None)
    last, names = log.frames[-1], [*log.tasks, *log.held_out]
    rows = []
    for arm, (label, parameters) in enumerate(zip(log.arms, log.parameters, strict=True)):
        rows.append(Row(label, parameters, step_ms=[step_ms(log)]))
        rows[-1].add(log.config.seed, scored and scored.arms[arm].accuracy, names)
    untrained = {"untrained backbone": log.untrained} if log.untrained else {}
    return Kept(
        config=log.config,
        rows=rows,
        curves=[_curves(log, arm) for arm in range(len(log.arms))],
        tasks=log.tasks,
        held_out=log.held_out,
        baselines={"chance": log.chance, "commonest answer": log.majority, **untrained},
        step=last.step,
        scored="" if scored is None else "test rows" if scored.event == "end" else f"validation rows, step {scored.step}",
        event=last.event,
        seconds=last.seconds,
        step_ms=step_ms(log),
    )


def _curves(log, arm: int) -> dict[str, Curve]:
    """Curves of one arm by name; those of probes are means over the adapted linears."""
    curves: dict[str, Curve] = {}

    def point(name: str, step: int, value: float | None) -> None:
        if value is not None:
            curves.setdefault(name, []).append([step, float(f"{value:.5g}")])

    for frame in log.frames:
        a = frame.arms[arm]
        point("loss", frame.step, a.loss)
        if a.accuracy:
            point("mean accuracy", frame.step, mean([a.accuracy[t] for t in log.tasks]))
            for task in [*log.tasks, *log.held_out]:
                point(f"accuracy {task}", frame.step, a.accuracy[task])
        if a.linears:
            point("evenness", frame.step, mean([p.evenness for p in a.linears]))
            for k, name in enumerate(DEFINITIONS):
                values = [p.imbalance[k] for p in a.linears if p.imbalance[k] is not None]
                point(f"imbalance {name}", frame.step, mean(values) if values else None)
    return {name: thinned(points) for name, points in curves.items()}


def thinned(points: Curve) -> Curve:
    """At most POINTS of a curve's points, evenly picked, the first and the last among them."""
    if len(points) <= POINTS:
        return points
    return [points[round(i * (len(points) - 1) / (POINTS - 1))] for i in range(POINTS)]


def differing(shelf: Iterable[Kept]) -> dict[str, list[list[str]]]:
    """Settings that were not set alike in all arms of all runs: name -> [run][arm], as text and with what each method fixes put in.

    What differs only because the methods fix it is left out: it goes with the method.
    """
    arms = [[kept.config.arm(i) for i in range(len(kept.rows))] for kept in shelf]
    fixed = [[config.effective() for config in run] for run in arms]
    out = {}
    for name in (k.name for k in knobs() if k.name != "arms"):
        given, used = ([[to_text(name, getattr(c, name)) for c in run] for run in of] for of in (arms, fixed))
        if all(len({text for run in texts for text in run}) > 1 for texts in (given, used)):
            out[name] = used
    return out


def baselines(shelf: list[Kept]) -> dict[str, dict[str, tuple[float, float]]]:
    """Chance, commonest answer and untrained backbone: label -> task or MEAN -> lowest and highest over the runs (rows differ with the seed)."""
    out: dict[str, dict[str, list[float]]] = {}
    for kept in shelf:
        for label, values in kept.baselines.items():
            for task, value in {**values, MEAN: mean([values[t] for t in kept.tasks])}.items():
                out.setdefault(label, {}).setdefault(task, []).append(value)
    return {label: {task: (min(v), max(v)) for task, v in of.items()} for label, of in out.items()}


def alone(config: RunConfig, by: str) -> dict[str, RunConfig]:
    """Every task of a mixture on its own, with the same settings: task -> run. Raises ConfigError for an unknown `by`.

    by: 'questions' gives a task the share of the steps that its weight has in the mixture, so that it sees as many of its questions;
    'steps' gives it all steps.
    """
    if by not in BY:
        raise ConfigError(f"alone: '{by[:40]}' is not allowed; choose one of {', '.join(BY)}.")
    whole, out = sum(config.tasks.values()), {}
    for task, weight in config.tasks.items():
        steps = config.steps if by == "steps" else max(1, round(config.steps * weight / whole))
        out[task] = config.replace(tasks={task: 1.0}, held_out=(), steps=steps, eval_every=steps, **QUIET)
    return out
