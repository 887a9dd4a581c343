"""The recorded runs that the page plays before anybody trains: `python -m mosld.ui.record` makes them anew, or those that are named.

Each is one file of `assets/runs/`, packed as the page packs its own runs and compressed: the run of a question or of a lesson, with the
answer that its own numbers give. Make them anew when settings or the wire change.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from pathlib import Path

from mosld.config import ConfigError, RunConfig

FOLDER = Path(__file__).parent / "assets" / "runs"
MOST_BYTES = 2_000_000  # of all files together
PROBES = 40  # kept of a recorded run


def packed(log, note: str = "", **more) -> str:
    """A run as one message for the page, with the sentence that stands beside it."""
    from mosld.ui.session import message
    from mosld.ui.wire import Packer, header

    packer = Packer(log, whole=True)
    return message(
        "run", run=0, replay=True, header=header(log), frames=[packer.pack(frame) for frame in log.frames], state="idle", note=note, **more
    )


def recorded(name: str) -> bytes | None:
    """The file of a recorded run, or None where there is none."""
    path = FOLDER / f"{name}.json.gz"
    return path.read_bytes() if path.is_file() else None


def runs() -> dict[str, tuple]:
    """Every recorded run by name: (configurations of the runs, the last of which is shown; evaluate; its lesson or None)."""
    from mosld.ui.learn.lessons import LESSONS
    from mosld.ui.watch.questions import QUESTIONS

    out = {name: ((q.config,), q.evaluate, None) for name, q in QUESTIONS.items()}
    return out | {f"lesson-{n}": (lesson.runs, lesson.evaluate, lesson) for n, lesson in enumerate(LESSONS, 1)}


def make(configs: tuple[RunConfig, ...], evaluate, lesson, folder: Path) -> bytes:
    """Train, evaluate, thin out and pack. Runs are written under `folder`."""
    from mosld.merging.sources import Run
    from mosld.studies.export_files import lighter
    from mosld.training import Trainer
    from mosld.ui.learn.room import beside

    found = []
    for number, config in enumerate(configs):
        trainer = Trainer(config, folder / str(number))
        for frame in trainer.frames():
            if frame.step % 25 == 0:
                print(f"step {frame.step} of {config.steps}", file=sys.stderr)
        trainer.save(folder / str(number))
        found.append(Run(folder / str(number), trainer.log))
    logs = [run.log for run in found]
    answer, sentence = evaluate(*(found if lesson and lesson.merges else logs))
    told = {"answer": answer, "sentence": sentence, "beside": beside(lesson, logs) if lesson else []}
    text = packed(lighter(logs[-1], PROBES), told=told)
    return gzip.compress(text.encode(), 9, mtime=0)


def main(names: list[str]) -> None:
    known = runs()
    for name in names or known:
        if name not in known:
            raise ConfigError(f"record: '{name[:40]}' is not known; the runs are {', '.join(known)}.")
        with tempfile.TemporaryDirectory() as folder:
            data = make(*known[name], Path(folder))
        FOLDER.mkdir(parents=True, exist_ok=True)
        (FOLDER / f"{name}.json.gz").write_bytes(data)
        print(f"{name}: {len(data):,} bytes", file=sys.stderr)
    total = sum(p.stat().st_size for p in FOLDER.glob("*.json.gz"))
    if total > MOST_BYTES:
        raise SystemExit(f"record: {total:,} bytes are too many; at most {MOST_BYTES:,} are shipped. Use fewer steps or probes.")


if __name__ == "__main__":
    try:
        parser = argparse.ArgumentParser(prog="python -m mosld.ui.record", description="Record the runs that the page plays before anybody trains.")
        parser.add_argument("names", nargs="*", metavar="NAME", help="runs to record anew; without any, all, which takes some minutes")
        main(parser.parse_args().names)
    except ConfigError as problem:
        raise SystemExit(str(problem)) from None
