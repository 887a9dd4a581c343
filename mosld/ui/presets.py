"""Presets: settings that tell a story, each with what it was seen to show at its own seed.

`tests/app/test_presets.py` runs every one of them and holds its text to what `shows` finds: where an effect does not appear, the
text says that. A preset's `shows(log)` is given the RunLog of its run and returns the numbers that the text is about.
"""

from __future__ import annotations

from dataclasses import dataclass

from mosld.config import RunConfig


@dataclass(frozen=True)
class Preset:
    """A title, a text of one or two sentences, the settings, and what the test measures."""

    title: str
    text: str
    config: RunConfig


PRESETS: dict[str, Preset] = {
    "dropout": Preset(
        "Dropout on and off",
        "Two arms see the same batches; one drops a tenth of the shared A at each step.",
        RunConfig(),
    ),
}
