"""Questions to try, in place of presets: each has two or three answers to guess among, settings, and a function that reads the answer from a run.

- `QUESTIONS`: all of them by name, the page's own settings first. `Question.evaluate(log)`: (index of the answer, sentence with the run's numbers).
- `offered()`: what the page is given of them.

No text here holds a number of a run. A recorded run of each is shipped (`mosld.ui.record`); it plays as soon as the question is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mosld.config import RunConfig
from mosld.ui.evidence import CLOSE, WORDS, against, idle, imbalances, means, quoted, reading, share, signed, told
from mosld.ui.watch.sentence import ALIKE, TELLS, number, yardstick

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog


@dataclass(frozen=True)
class Question:
    """A question, half a sentence on the run that answers it, the answers, and the settings."""

    title: str
    about: str
    answers: tuple[str, ...]
    config: RunConfig
    evaluate: Callable[[RunLog], tuple[int, str]]
    claims: tuple[str, ...] = ()  # of the study, whose verdicts stand with the answer


def _dropout(log: RunLog) -> tuple[int, str]:
    first, other = imbalances(log)[0], imbalances(log)[-1]
    moved = [d for d in WORDS if abs(first[d]) - abs(other[d]) >= ALIKE]
    listed = ", ".join(f"{WORDS[d]} {signed(first[d])} to {signed(other[d])}" for d in WORDS)
    return (0 if len(moved) == len(WORDS) else 1 if moved else 2), f"A over B as log2, without and with: {listed}. 0 is even."


def _reads(log: RunLog) -> tuple[int, str]:
    kinds, bits = reading(log)
    return (2 if {"task", "word"} <= {*kinds} else 1 if "task" in kinds else 0), f"Bits, {bits}."


def _specialists(log: RunLog) -> tuple[int, str]:
    found = told(log)
    best = max(task / most for _, task, most in found)
    listed = "; ".join(f"{name}: {number(t)}" for name, (_, t, _) in zip(log.arms, found, strict=True))
    return (0 if best < 0.05 else 1 if best < 0.5 else 2), f"Bits that the expert tells of the task, of {number(found[0][2])} possible: {listed}."


def _collapse(log: RunLog) -> tuple[int, str]:
    without, with_it = (i / n for i, n in idle(log))
    listed = "; ".join(f"{name}: {i} of {n} experts idle" for name, (i, n) in zip(log.arms, idle(log), strict=True))
    right, _ = means(log)
    answer = 2 if without < TELLS else 0 if with_it < without / 2 else 1
    return answer, f"{listed}. Right answers: {' and '.join(map(share, right))}."


def _first_or_second(names: tuple[str, str]) -> Callable[[RunLog], tuple[int, str]]:
    def evaluate(log: RunLog) -> tuple[int, str]:
        (p, q), questions = means(log)
        listed = f"{names[0]} {share(p)}, {names[1]} {share(q)} of {questions} test questions"
        return {1: 0, -1: 1, 0: 2}[against(p, q, questions)], f"{listed}; up to {share(yardstick(p, q, questions))} could be chance."

    return evaluate


def _optimisers(log: RunLog) -> tuple[int, str]:
    adamw, sgd = imbalances(log)
    listed = "; ".join(f"{name}: gradients {signed(arm['gradient'])}, steps {signed(arm['step'])}" for name, arm in (("AdamW", adamw), ("SGD", sgd)))
    hidden = abs(adamw["step"]) < abs(adamw["gradient"]) / 2 and abs(sgd["step"] - sgd["gradient"]) < 0.1
    return (0 if hidden else 1), f"A over B as log2: {listed}."


# Runs of the default backbone and batch, with fewer probes: a recorded run should be small, and one's own over within about ten seconds.
SMALL = {"eval_every": 20, "probe_every": 2, "eval_rows": 100}

QUESTIONS: dict[str, Question] = {
    "dropout": Question(
        "Does dropout on A even out A's and B's updates?",
        "two arms: dropout 0 and 0.1",
        ("By every definition", "By some only", "By none"),
        RunConfig(),
        _dropout,
        ("C4",),
    ),
    "reads": Question(
        "What does a router look at?",
        "it reads the token, the text or the instruction",
        ("The word, always", "The task, always", "It depends on what it is given"),
        RunConfig(**SMALL, steps=100, dropout=0, arms="router=token,text,instruction;router_lr=1,1,10"),
        _reads,
        ("C11",),
    ),
    "specialise": Question(
        "Do experts become specialists for tasks?",
        "with and without the balance loss",
        ("Hardly", "Somewhat", "Mostly"),
        RunConfig(**SMALL, steps=100, dropout=0, arms="balance=0,0.01"),
        _specialists,
        ("C11",),
    ),
    "collapse": Question(
        "Can a router collapse?",
        "one expert a token, a high learning rate",
        ("Yes, the balance loss prevents it", "Yes, in spite of the balance loss", "No"),
        RunConfig(**SMALL, steps=60, top_k=1, lr=0.02, dropout=0, arms="balance=0,0.1"),
        _collapse,
    ),
    "share": Question(
        "One shared A, or one each?",
        "the same batches, two arms",
        ("Shared ends ahead", "One each ends ahead", CLOSE),
        RunConfig(**SMALL, steps=80, dropout=0, arms="share=A,none"),
        _first_or_second(("one shared A", "one each")),
        ("C2",),
    ),
    "conflict": Question(
        "Do experts help tasks that conflict?",
        "LoRA and MoSLD on opposite tasks",
        ("LoRA ends ahead", "MoSLD ends ahead", CLOSE),
        RunConfig(**SMALL, steps=80, tasks="world/mood,world/opposite,world/actor,world/acted_on", arms="method=lora,mosld"),
        _first_or_second(("LoRA", "MoSLD")),
        ("C2", "C10"),
    ),
    "optimisers": Question(
        "Does AdamW hide who is updated more?",
        "AdamW and SGD, two arms",
        ("Yes: SGD shows what AdamW hides", "No: both show the same"),
        RunConfig(**SMALL, steps=60, dropout=0, arms="optimiser=adamw,sgd;lr=0.003,0.5"),
        _optimisers,
        ("C4",),
    ),
}


def offered() -> list[dict]:
    """The questions as the page draws them."""
    return [{"name": n, "title": q.title, "about": q.about, "answers": q.answers, "claims": quoted(q.claims)} for n, q in QUESTIONS.items()]
