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
        "which shows in definition 1 and hardly in the size of its steps, 3 and 4; accuracy stays close.",
        RunConfig(),
    ),
    "collapse": Preset(
        "No balance loss",
        "Router collapse is what the balance loss is meant to prevent. In this run, without it, the routers only grow a little less "
        "even, from 0.96 to 0.93, and no expert is left idle: no collapse within 60 steps.",
        RunConfig(**SMALL, steps=60, balance=0, dropout=0, arms=""),
    ),
    "balance": Preset(
        "Balance restored",
        "The same run twice: without the balance loss the routers end at an evenness of 0.93, with a coefficient of 0.1 at 0.985. "
        "Watch the Router tab; the accuracies do not differ by much.",
        RunConfig(**SMALL, steps=60, dropout=0, arms="balance=0,0.1"),
    ),
    "specialise": Preset(
        "Experts for tasks?",
        "Do experts divide the tasks among them? Hardly: after 80 steps on six tasks the choice of an expert tells 0.01 bits about the "
        "task, of 2.6 that would settle it. Experts differ by word rather than by task here.",
        RunConfig(**SMALL, steps=80, tasks=SIX, arms=""),
    ),
    "conflict": Preset(
        "Tasks that conflict",
        "Two pairs of tasks want opposite answers from the same sentences. In 80 steps both methods learn mood; on who acts and who is "
        "acted on, which answer each other's question, they fall from the untrained backbone's 0.54 to 0.40 (LoRA) and 0.38 (MoSLD).",
        RunConfig(**SMALL, steps=80, tasks="world/mood,world/opposite,world/actor,world/acted_on", arms="method=lora,mosld"),
    ),
    "mixture": Preset(
        "LoRA in a mixture",
        "The paper says that mixing tasks hurts LoRA. Not here: with as many questions of each task, LoRA ends at 0.69 when each task "
        "is trained alone and at 0.71 in this mixture. These tasks are easier together.",
        RunConfig(**SMALL, steps=60, arms="method=lora,mosld"),
    ),
    "optimisers": Preset(
        "AdamW against SGD",
        "At first B is zero, so A gets the smaller gradient. In steps 2 to 10 that is −1.5 (log2 of A over B) under AdamW, yet its "
        "steps are at 0.1, because it divides sizes away; SGD passes its −2.3 on unchanged.",
        RunConfig(**SMALL, steps=40, dropout=0, arms="optimiser=adamw,sgd;lr=0.003,0.5"),
    ),
    "everyone": Preset(
        "As many experts as are used",
        "Where every token goes to all experts there can be no imbalance of counts: with 2 experts of 2, definition 1 stays at 0; with "
        "2 of 8 it is log2(8/2) = 2. The other three definitions do not follow it.",
        RunConfig(**SMALL, steps=20, dropout=0, arms="experts=2,8"),
    ),
    "shared": Preset(
        "A shared or separate",
        "One A for all experts, or one each: the shared A needs 55,296 parameters fewer and ends within a few points of the same accuracy.",
        RunConfig(**SMALL, steps=60, dropout=0, arms="share=A,none"),
    ),
}
