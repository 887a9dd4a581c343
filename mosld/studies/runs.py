"""Many runs in one folder: each trained once, in this process or in several, and read from then on.

A run that was stopped goes on from its last checkpoint; a run that has ended is not trained again.

- `train_all(runs, folder)`, `train(config, folder)`. `stopping(pause)`: Ctrl-C and SIGTERM end a run after its step.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.training import RunLog, Trainer, checkpoint
from mosld.training.runlog import HEADER

ENDED = ("end", "diverged")
STOP = ".stop"  # a file that tells the processes of a folder of runs to end after their step
Progress = Callable[[str, float | None], None]


@contextmanager
def stopping(pause: Callable[[], None]) -> Iterator[list[int]]:
    """Inside the block the first Ctrl-C or SIGTERM calls `pause` and is put into the list; the second ends the process where it is.

    In a thread other than the main one, which gets no signals, nothing changes.
    """
    told: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def first(number, _) -> None:
        told.append(number)
        for n in before:
            signal.signal(n, signal.SIG_DFL)
        pause()
        print("\nStopping after this step; once more leaves at once.", file=sys.stderr, flush=True)

    for number in before:
        signal.signal(number, first)
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def train_all(runs: dict[str, RunConfig], folder: Path, jobs: int = 1, progress: Progress | None = None) -> dict[str, RunLog]:
    """The finished logs of `runs`, by name; each run lies in `folder / name`.

    Args:
        jobs: processes that train side by side, each on one thread; one process takes all cores. progress: told (sentence, share of all steps done).

    Ctrl-C or SIGTERM ends every run after its step, saved, and raises KeyboardInterrupt here. Where this process is killed, those it started
    end after their step as well. Raises ConfigError where a folder holds a run of another configuration.
    """
    logs = {name: log for name, config in runs.items() if (log := _finished(config, folder / name))}
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
        mark = folder / STOP
        mark.unlink(missing_ok=True)
        with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1), stopping(mark.touch) as told:
            work = (delayed(_named)(name, config, folder / name, mark, os.getpid()) for name, config in left.items())
            for name, log in Parallel(return_as="generator_unordered")(work):
                if log is not None:
                    logs[name] = log
                    tell(f"the last was {name}", sum(config.steps for n, config in left.items() if n in logs))
        mark.unlink(missing_ok=True)
        if told:
            raise KeyboardInterrupt
    return {name: logs[name] for name in runs}


def train(config: RunConfig, folder: Path, watch: Callable[[int], None] | None = None, halt: Callable[[], bool] | None = None) -> RunLog:
    """Train one run to its end, or go on with it. `watch` is told every step done; `halt` is asked after each whether to end there.

    Raises KeyboardInterrupt where Ctrl-C, SIGTERM or `halt` ended the run before its last step; it is saved.
    """
    if log := _finished(config, folder):
        return log
    trainer = Trainer.resume(folder) if (folder / HEADER).is_file() else Trainer(config, out=folder)
    stopped = False
    with stopping(trainer.pause) as told, closing(trainer.frames()) as frames:  # whatever ends the loop, the run is saved
        for frame in frames:
            if watch:
                watch(frame.step)
            if halt and halt():
                trainer.pause()
                stopped = True
    if (told or stopped) and not trainer.done:
        raise KeyboardInterrupt
    return trainer.log


def ended(log: RunLog) -> bool:
    """Whether a run made all its steps, or diverged."""
    return bool(log.frames) and log.frames[-1].event in ENDED


def _named(name: str, config: RunConfig, folder: Path, mark: Path, parent: int) -> tuple[str, RunLog | None]:
    """A run in a process of its own: its log, or None where it was stopped. Ctrl-C reaches this process too, but the parent tells it by `mark`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def halt() -> bool:
        return mark.exists() or os.getppid() != parent

    with _training:
        if not _watched:
            _watched.append(threading.Thread(target=_end_with, args=(parent,), daemon=True))
            _watched[0].start()
        try:
            return name, None if halt() else train(config, folder, halt=halt)
        except KeyboardInterrupt:
            return name, None


_training = threading.Lock()  # held by a process of `train_all` while it trains
_watched: list[threading.Thread] = []


def _end_with(parent: int) -> None:
    """End this process once its parent is gone: where it trains, after that is saved. A pool's process waits minutes for more work otherwise."""
    while os.getppid() == parent:
        time.sleep(0.5)
    with _training:
        os._exit(1)


def _finished(config: RunConfig, folder: Path) -> RunLog | None:
    """The log of a run that has ended, with the adapters of its end. Raises ConfigError where the folder holds another configuration's."""
    if not (folder / HEADER).is_file():
        return None
    log = RunLog.load(folder)
    ours, theirs = config.model_dump(mode="json"), log.config.model_dump(mode="json")
    for name, value in ours.items():
        if theirs[name] != value:
            raise ConfigError(f"out: '{folder}' holds a run with {name} {theirs[name]}, not {value}; give another directory.")
    if not ended(log):
        return None
    return log if log.frames[-1].event == "diverged" or checkpoint.step(folder) == log.frames[-1].step else None
