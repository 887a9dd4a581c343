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


# Runs of the default backbone, mixture and batch, scored on fewer questions: a preset should be over within about ten seconds.
SMALL = {"eval_rows": 50, "eval_every": 20}
# One expert a token and a high learning rate, chosen so that routers do collapse: the one setting tried, at one seed.
HARSH = {"steps": 60, "top_k": 1, "lr": 0.02, "dropout": 0}

PRESETS: dict[str, Preset] = {
    "dropout": Preset(
        "Dropout on and off",
        "Two arms see the same batches; one drops a tenth of the shared A at each step. A is then reached by fewer updates, −0.15 in "
        "definition 1, and hardly by smaller steps, 3 and 4; no task's accuracy differs by more than 0.02.",
        RunConfig(),
    ),
    "collapse": Preset(
        "Router collapse",
        "One expert a token, no balance loss, a high learning rate: the routers' evenness falls from 0.96 to 0.59 and 9 of 32 experts "
        "end idle. Accuracy ends at 0.21, but do not blame the collapse for it: the next preset ends there with even routers.",
        RunConfig(**SMALL, **HARSH, balance=0, arms=""),
    ),
    "balance": Preset(
        "Balance restored",
        "The same run twice: without the balance loss the evenness ends at 0.59, with a coefficient of 0.1 at 0.89 and no expert idle. "
        "Accuracy is not rescued: 0.21 and 0.20. At this learning rate nothing is learned, balanced or not.",
        RunConfig(**SMALL, **HARSH, arms="balance=0,0.1"),
    ),
    "specialise": Preset(
        "Experts for tasks?",
        "Do experts divide the tasks among them? Hardly: after 60 steps on six tasks the choice of an expert tells 0.01 bits about the "
        "task, of 2.6 that would settle it.",
        RunConfig(**SMALL, steps=60, lr=0.01, arms=""),
    ),
    "conflict": Preset(
        "Tasks that conflict",
        "Two pairs of tasks want opposite answers from the same sentences. Mood, at 1.00 (LoRA) and 0.98 (MoSLD) after as many questions "
        "alone, ends here at 0.78 and 0.82: experts do not settle it. Its opposite stays below guessing, 0.25, but does so alone too.",
        RunConfig(**SMALL, steps=60, tasks="world/mood,world/opposite,world/actor,world/acted_on", arms="method=lora,mosld"),
    ),
    "mixture": Preset(
        "LoRA in a mixture",
        "The paper says that mixing tasks hurts LoRA. Not here: with as many questions of each task, LoRA ends at 0.84 when each task "
        "is trained alone and at 0.95 in this mixture. The mixture also takes three times the steps, which may be the reason.",
        RunConfig(**SMALL, steps=60, tasks="world/mood,world/place,world/tense", arms="method=lora,mosld"),
    ),
    "optimisers": Preset(
        "AdamW against SGD",
        "At first B is zero, so A gets the smaller gradient. In steps 2 to 10 that is −3.2 (log2 of A over B) under AdamW, yet its "
        "steps are at 0.1, because it divides sizes away; SGD passes its −3.2 on unchanged.",
        RunConfig(**SMALL, steps=20, dropout=0, arms="optimiser=adamw,sgd;lr=0.003,0.5"),
    ),
    "everyone": Preset(
        "As many experts as are used",
        "Where every token goes to all experts there can be no imbalance of counts: with 2 experts of 2, definition 1 stays at 0; with "
        "2 of 8 it is log2(8/2) = 2. The other three definitions do not follow it.",
        RunConfig(**SMALL, steps=20, dropout=0, arms="experts=2,8"),
    ),
    "shared": Preset(
        "A shared or separate",
        "One A for all experts, or one each: the shared A needs 24,576 parameters fewer and ends at 0.57, with separate ones at 0.59.",
        RunConfig(**SMALL, steps=40, dropout=0, arms="share=A,none"),
    ),
}
