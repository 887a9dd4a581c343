"""The run that a visitor sees replayed before pressing anything: `python -m mosld.ui.record` makes it anew.

By default it is a run of the settings that the page starts with, packed as the page packs its own; a link's settings as the argument make
another. Make it anew when the settings change.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mosld.config import RunConfig
from mosld.ui.session import message
from mosld.ui.wire import Packer, header

FILE = Path(__file__).parent / "assets" / "replay.json"
MOST_BYTES = 300_000
NOTE = "This is a finished run of {steps} steps, replayed. Press Run to train your own."


def packed(log, note: str = NOTE) -> str:
    """A run as one message for the page, with the sentence that stands beside it."""
    packer = Packer(log)
    frames = [packer.pack(frame) for frame in log.frames]
    return message("run", run=0, replay=True, header=header(log), frames=frames, state="idle", note=note.format(steps=log.config.steps))


def shipped() -> str | None:
    """The recorded run, or None where there is none."""
    return FILE.read_text(encoding="utf-8") if FILE.is_file() else None


def main(config: RunConfig) -> None:
    from mosld.training import Trainer

    trainer = Trainer(config)
    for frame in trainer.frames():
        print(f"\rstep {frame.step} of {config.steps}", end="", file=sys.stderr)
    text = packed(trainer.log)
    if len(text) > MOST_BYTES:
        raise SystemExit(f"record: {len(text):,} bytes are too many; at most {MOST_BYTES:,} are shipped. Use fewer steps or probes.")
    FILE.write_text(text, encoding="utf-8")
    print(f"\n{FILE.name}: {len(trainer.log.frames)} frames, {len(text):,} bytes", file=sys.stderr)


if __name__ == "__main__":
    main(RunConfig.from_url(sys.argv[1]) if len(sys.argv) > 1 else RunConfig())
