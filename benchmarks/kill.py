"""python -m benchmarks kill: a tiny run killed at each thing it does to a file, gone on with, and compared with one left alone.

Every attempt is a forked process that ends itself, by `os._exit`, just before the n-th time it opens a file for writing, renames, makes or
removes one; the audit hooks of Python tell. Nothing of the package is replaced. Prints how many such points there are, and every attempt that did
not come to the same frames and the same weights, with what it said; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["OMP_NUM_THREADS"] = "1"  # a process with threads cannot be forked

from mosld.config import ConfigError, RunConfig

if TYPE_CHECKING:
    from mosld.training import Trainer

CONFIG = RunConfig(
    tasks="world/mood", layers=1, steps=3, batch=2, eval_every=1, eval_rows=10, warmup=0, rank=2, probe_every=2, arms="dropout=0.1,0.3"
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree"}


def forked(work) -> int:
    """The exit status of a process of its own that does `work`."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def watch(folder: Path, point: int, tell: Path | None = None) -> None:
    """End this process before its `point`-th change to a file in `folder`; with `tell`, write there how many there were so far."""
    seen = [0]

    def hook(event, args):
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        if not (writes or event in CHANGES) or not str(args[0]).startswith(str(folder)):
            return
        seen[0] += 1
        if seen[0] == point:
            os._exit(9)
        if tell is not None:
            with os.fdopen(os.open(str(tell), os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
                file.write(str(seen[0]))

    sys.addaudithook(hook)


def weights(folder: Path) -> list[str]:
    from mosld.training.checkpoint import arm_folder

    return [hashlib.sha256((arm_folder(folder, i, at=CONFIG.steps) / "adapter.safetensors").read_bytes()).hexdigest() for i in range(2)]


def train(trainer: Trainer) -> None:
    for _ in trainer.frames():
        pass


def go_on(folder: Path, point: int = 0, said: Path | None = None) -> None:
    """As the command does: a new run where there is none, else the one there."""
    from mosld.training import Trainer

    try:
        if point:
            watch(folder, point)
        train(Trainer.resume(folder) if (folder / "run.json").exists() else Trainer(CONFIG, out=folder))
    except ConfigError as error:
        said.write_text(str(error))
        raise


def attempts(root: Path, every: int, end: float) -> tuple[int, int, list]:
    """How many points there are, how many were tried, and what went wrong."""
    from mosld.training import RunLog, Trainer  # takes seconds: not before the flags are read, and once for all forks

    built = Trainer(CONFIG)

    def first(folder: Path, point: int, tell: Path | None = None):
        watch(folder, point, tell)
        built.out = folder
        train(built)

    alone, count = root / "alone", root / "count"
    assert forked(lambda: first(alone, -1, count)) == 0
    frames, last, points = RunLog.load(alone).frames, weights(alone), int(count.read_text())
    wrong, tried = [], 0
    for point in range(1, points + 1, every):
        if time.monotonic() > end:
            break
        folder, said = root / f"at-{point}", root / f"said-{point}"
        codes = [forked(lambda folder=folder, point=point: first(folder, point))]
        if point // every % 4 == 0:  # killed once more, at another point of going on
            codes.append(forked(lambda folder=folder, point=point, said=said: go_on(folder, 1 + point % 13, said)))
        codes.append(forked(lambda folder=folder, said=said: go_on(folder, 0, said)))
        same = codes[-1] == 0 and RunLog.load(folder).frames == frames and weights(folder) == last
        left = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
        tried += 1
        if codes[0] != 9 or not same or len(left) != 4:  # header, frames, checkpoint.json and one checkpoint: nothing is left behind
            wrong.append([point, codes, said.read_text() if said.exists() else "", left])
    return points, tried, wrong


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks kill", description=__doc__.partition(": ")[2])
    parser.add_argument("--every", type=int, default=1, help="try each n-th point only, 1 to 100; default 1, all of them")
    parser.add_argument("--seconds", type=float, default=600, help="at most so long, up to 3600; default 600")
    given = parser.parse_args(arguments)
    if not 1 <= given.every <= 100 or not 1 <= given.seconds <= 3600:
        parser.error("give 1 to 100 for --every and up to 3600 seconds")
    began = time.monotonic()
    print(f"kill: each {given.every}. point at which a run changes a file; at most {given.seconds:.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as root:
        points, tried, wrong = attempts(Path(root).resolve(), given.every, began + given.seconds)
    print(f"{points} points, {tried} tried, {len(wrong)} wrong: {time.monotonic() - began:.0f} s")
    for attempt in wrong:
        print(*attempt)
    if wrong:
        raise SystemExit(1)
