"""Presets: settings that tell a story, each with what five seeds showed.

`tests/app/test_presets.py` runs every one of them and holds its text to the run: where an effect does not appear, the text says so. No text
states a digit of a run, which on another machine is another; the digits are in the pictures of the run in front of the reader. "Evenness" is
the entropy of the mean gate over log E, averaged over the adapted linears.
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
# One expert of eight a token and a high learning rate, chosen so that routers do collapse, with every one of the seeds 0 to 4.
HARSH = {"steps": 120, "experts": "8", "top_k": 1, "lr": 0.02, "dropout": 0}

PRESETS: dict[str, Preset] = {
    "dropout": Preset(
        "Dropout on and off",
        "Two arms see the same batches; one drops a tenth of the shared A at each step. A is then reached by a tenth fewer updates, "
        "log2(0.9) in definition 1, and hardly by smaller steps, 3 and 4. Look whether any task's accuracy follows.",
        RunConfig(),
    ),
    "collapse": Preset(
        "Router collapse",
        "One expert a token, no balance loss, a high learning rate: the routers' evenness, near 1 at first, falls and many experts end idle. "
        "Accuracy ends about where guessing would, but do not blame the collapse for it: the next preset ends there with even routers.",
        RunConfig(**SMALL, **HARSH, balance=0, arms=""),
    ),
    "balance": Preset(
        "Balance restored",
        "The same run twice: with a balance loss of coefficient 0.1 the routers stay far more even than without, and fewer experts end idle. "
        "Accuracy is not rescued: at this learning rate next to nothing is learned, balanced or not.",
        RunConfig(**SMALL, **HARSH, arms="balance=0,0.1"),
    ),
    "specialise": Preset(
        "Experts for tasks?",
        "Do experts divide the tasks among them? Hardly: after 60 steps on six tasks the choice of an expert tells less than a twentieth of "
        "the bits about the task that it could, which are log2(E / K) = log2(4 / 2) = 1.",
        RunConfig(**SMALL, steps=60, lr=0.01, arms=""),
    ),
    "conflict": Preset(
        "Tasks that conflict",
        "Two pairs of tasks want opposite answers from the same sentences. Mood ends lower here than after as many questions alone, with "
        "LoRA and with MoSLD: experts do not settle it. Its opposite is not learned here, but not alone either.",
        RunConfig(**SMALL, steps=60, tasks="world/mood,world/opposite,world/actor,world/acted_on", arms="method=lora,mosld"),
    ),
    "mixture": Preset(
        "LoRA in a mixture",
        "The paper says that mixing tasks hurts LoRA. Not here: with as many questions of each task, LoRA ends higher in this mixture than "
        "when each task is trained alone. The mixture also takes three times the steps, which may be the reason.",
        RunConfig(**SMALL, steps=60, tasks="world/mood,world/place,world/tense", arms="method=lora,mosld"),
    ),
    "optimisers": Preset(
        "AdamW against SGD",
        "At first B is zero, so A gets the smaller gradient, by far in the first ten steps (log2 of A over B). Under AdamW the steps of both "
        "are yet about as large, because it divides sizes away; SGD passes the imbalance of its gradients on unchanged.",
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
        "One A for all experts, or one each: the shared A needs 24,576 parameters fewer. After 40 steps neither is far ahead; look which one is.",
        RunConfig(**SMALL, steps=40, dropout=0, arms="share=A,none"),
    ),
}
