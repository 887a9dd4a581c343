"""Many runs in one folder: each trained once, in this process or in several, and read from then on.

A run that was stopped goes on from its last checkpoint; a run that has ended is not trained again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.training import RunLog, Trainer
from mosld.training.checkpoint import VALUES

ENDED = ("end", "diverged")
Progress = Callable[[str, float | None], None]


def train_all(runs: dict[str, RunConfig], folder: Path, jobs: int = 1, progress: Progress | None = None) -> dict[str, RunLog]:
    """The finished logs of `runs`, by name; each run lies in `folder / name`.

    Args:
        jobs: processes that train side by side, each on one thread; one process takes all cores. progress: told (sentence, share of all steps done).

    Raises ConfigError where a folder holds a run of another configuration.
    """
    logs = {name: log for name, config in runs.items() if (log := _known(config, folder / name)) and ended(log)}
    left = {name: config for name, config in runs.items() if name not in logs}
    steps = sum(config.steps for config in left.values())

    def tell(sentence: str, done: int) -> None:
        if progress and steps:
            progress(f"{len(logs)} of {len(runs)} runs done, {sentence}", done / steps)

    if jobs == 1:
        before = 0
        for name, config in left.items():
            logs[name] = train(config, folder / name, lambda step, name=name, before=before: tell(f"{name}: step {step}", before + step))
            before += config.steps
    elif left:
        from joblib import Parallel, delayed, parallel_config

        tell(f"{jobs} at a time", 0)
        with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
            results = Parallel(return_as="generator_unordered")(delayed(_named)(name, config, folder / name) for name, config in left.items())
            for name, log in results:
                logs[name] = log
                tell(f"the last was {name}", sum(config.steps for n, config in left.items() if n in logs))
    return {name: logs[name] for name in runs}


def train(config: RunConfig, folder: Path, watch: Callable[[int], None] | None = None) -> RunLog:
    """Train one run to its end, or go on with it. `watch` is told every step done."""
    log = _known(config, folder)
    if log is not None and ended(log):
        return log
    if (folder / VALUES).is_file():
        trainer = Trainer.resume(folder)
    else:
        for name in ("run.json", "frames.jsonl"):  # a run that was killed before its first checkpoint
            (folder / name).unlink(missing_ok=True)
        trainer = Trainer(config, out=folder)
    with closing(trainer.frames()) as frames:  # whatever ends the loop, the run is saved
        for frame in frames:
            if watch:
                watch(frame.step)
    return trainer.log


def ended(log: RunLog) -> bool:
    """Whether a run made all its steps, or diverged."""
    return bool(log.frames) and log.frames[-1].event in ENDED


def _named(name: str, config: RunConfig, folder: Path) -> tuple[str, RunLog]:
    return name, train(config, folder)


def _known(config: RunConfig, folder: Path) -> RunLog | None:
    """The log that a folder holds. Raises ConfigError where it is that of another configuration."""
    if not (folder / "run.json").is_file():
        return None
    log = RunLog.load(folder)
    ours, theirs = config.model_dump(mode="json"), log.config.model_dump(mode="json")
    for name, value in ours.items():
        if theirs[name] != value:
            raise ConfigError(f"out: '{folder}' holds a run with {name} {theirs[name]}, not {value}; give another directory.")
    return log
