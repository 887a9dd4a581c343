"""Presets: settings that tell a story, each with what was measured at its own seed.

`tests/app/test_presets.py` runs every one of them and holds its text to the run: where an effect does not appear, the text says so.
No story without its numbers. "Evenness" is the entropy of the mean gate over log E, averaged over the adapted linears.
"""

from __future__ import annotations

from dataclasses import dataclass

from mosld.config import RunConfig


@dataclass(frozen=True)
class Preset:
    """A title, a text of one or two sentences, and the settings."""

    title: str
    text: str
    config: RunConfig


# Short runs on a small backbone: a preset should be over within half a minute.
SMALL = {"layers": 3, "batch": 8, "eval_rows": 50, "eval_every": 20}
SIX = "world/mood,world/place,world/time,world/tense,world/number,world/kind"

PRESETS: dict[str, Preset] = {
    "dropout": Preset(
        "Dropout on and off",
        "Two arms see the same batches; one drops a tenth of the shared A at each step. A is then reached by a tenth fewer updates, "
        "which shows in definition 1 and hardly in the others; accuracy stays close.",
        RunConfig(),
    ),
    "collapse": Preset(
        "No balance loss",
        "",
        RunConfig(**SMALL, steps=60, balance=0, dropout=0, arms=""),
    ),
    "balance": Preset(
        "Balance restored",
        "",
        RunConfig(**SMALL, steps=60, dropout=0, arms="balance=0,0.1"),
    ),
    "specialise": Preset(
        "Experts for tasks?",
        "",
        RunConfig(**SMALL, steps=80, tasks=SIX, arms=""),
    ),
    "conflict": Preset(
        "Tasks that conflict",
        "",
        RunConfig(**SMALL, steps=80, tasks="world/mood,world/opposite,world/actor,world/acted_on", arms="method=lora,mosld"),
    ),
    "mixture": Preset(
        "LoRA in a mixture",
        "",
        RunConfig(**SMALL, steps=60, arms="method=lora,mosld"),
    ),
    "optimisers": Preset(
        "AdamW against SGD",
        "",
        RunConfig(**SMALL, steps=40, dropout=0, arms="optimiser=adamw,sgd;lr=0.003,0.5"),
    ),
    "everyone": Preset(
        "As many experts as are used",
        "",
        RunConfig(**SMALL, steps=20, dropout=0, arms="experts=2,8"),
    ),
    "shared": Preset(
        "A shared or separate",
        "",
        RunConfig(**SMALL, steps=60, dropout=0, arms="share=A,none"),
    ),
}
