"""Six lessons. Each has a question to predict, one or two runs, and a function that reads the answer from what those runs did.

- `Lesson`: texts, settings, question, answers, and where the answer is seen; `LESSONS`: all six, in order.
- `Lesson.evaluate(*logs)`: (index of the answer that the runs support, sentence with their numbers).

No text holds a run's result. Where two shares of right answers are compared, a difference counts once it exceeds two standard errors
of the questions scored (`yardstick`); that takes in the choice of questions, not that of the seed. `tests/app/test_lessons.py` runs them all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mosld.config import RunConfig
from mosld.counting import SHAPES
from mosld.ui.wire import short

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog

CLOSE = "Too close to tell"
BALANCED = 0.1  # a log2 ratio within this of 0 counts as balance: 7 % more of one than of the other


@dataclass(frozen=True)
class Lesson:
    """One page. `runs` are made one after the other; `seen` is the tab and the view that show the answer."""

    title: str
    text: tuple[str, ...]
    runs: tuple[RunConfig, ...]
    question: str
    answers: tuple[str, ...]
    seen: tuple[str, str]
    evaluate: Callable[..., tuple[int, str]]


def described(config: RunConfig) -> str:
    """A run in half a sentence."""
    names = " against ".join(config.arm_names()) if len(config.arms) > 1 else config.label
    tasks = ", ".join(short(t) for t in config.tasks)
    return f"{names} on {tasks}; {config.steps} steps of {config.batch} questions"


# What evaluations share.


def ends(log: RunLog) -> list[dict[str, float]]:
    """Accuracy of each task of the mixture on the test questions at the end of a run, for every arm."""
    return [{t: arm.accuracy[t] for t in log.tasks} for arm in log.frames[-1].arms]


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def yardstick(p: float, q: float, questions: int) -> float:
    """Two standard errors of the difference of two shares, each of so many questions: a smaller difference may be chance."""
    return 2 * math.sqrt((p * (1 - p) + q * (1 - q)) / questions)


def against(p: float, q: float, questions: int) -> int:
    """1 where p is above q by more than the yardstick, -1 where it is below, 0 where it is too close to tell."""
    return 0 if abs(p - q) <= yardstick(p, q, questions) else (1 if p > q else -1)


def imbalances(log: RunLog) -> list[dict[str, float]]:
    """For every arm: each definition of imbalance as its mean over the linears and the probes of the last half of the run."""
    table = log.imbalance()
    late = table[table.step > log.config.steps / 2].groupby(["arm", "definition"]).log2_ratio.mean()
    return [late[arm].to_dict() for arm in log.arms]


def signed(value: float) -> str:
    return "0.00" if abs(value) < 0.005 else f"{value:+.2f}".replace("-", "−")


# The evaluations, in the order of the lessons.


def _what_lora_changes(log: RunLog) -> tuple[int, str]:
    before, after = mean(log.untrained[t] for t in log.tasks), mean(ends(log)[0].values())
    cut = 1 - (1 - after) / (1 - before)
    weights = SHAPES[log.config.backbone].weights
    norms = log.norms().groupby(["quantity", "step"]).norm.mean()
    a, b = norms["A"], norms["B"]
    return (0 if cut < 0.25 else 1 if cut <= 0.75 else 2), (
        f"The frozen model answers {before:.2f} of the test questions right, with the trained detour {after:.2f}: the errors "
        f"{'fell' if cut >= 0 else 'rose'} by {abs(cut):.0%}. {log.parameters[0]:,} numbers were trained beside {weights:,} frozen ones "
        f"({log.parameters[0] / weights:.1%}). From the first step to the last, the norm of A went from {a.iloc[0]:.2f} to {a.iloc[-1]:.2f} "
        f"and that of B from {b.iloc[0]:.2f} to {b.iloc[-1]:.2f} (mean over linears)."
    )


def _one_for_many(alone: RunLog, mixture: RunLog) -> tuple[int, str]:
    task, rows = alone.tasks[0], alone.config.eval_rows
    others = ends(mixture)[0]
    p, q = ends(alone)[0][task], others.pop(task)
    verdict = against(p, q, rows)
    says = {1: "The mixture cost it accuracy here", -1: "The mixture helped it here", 0: "No effect of the mixture on it shows here"}[verdict]
    rest = ", ".join(f"{short(t)} {v:.2f} (guessing {mixture.chance[t]:.2f})" for t, v in others.items())
    return {1: 0, -1: 1, 0: 2}[verdict], (
        f"{short(task).capitalize()} ends at {p:.2f} alone and at {q:.2f} in the mixture, of {rows} test questions; a difference of up to "
        f"{yardstick(p, q, rows):.2f} could be chance. {says}. The others in the mixture end at: {rest}."
    )


def _router(log: RunLog) -> tuple[int, str]:
    table = log.routing()
    late = table[table.step > log.config.steps - 10]
    end = table[table.step == table.step.max()]
    told, experts = late.information.mean(), log.linears[0][0].experts
    most = min(math.log2(len(log.tasks)), math.log2(experts / log.config.effective().top_k))
    share = told / most
    return (0 if share < 0.05 else 1 if share <= 0.5 else 2), (
        f"Over the last ten steps the choice of an expert tells {told:.3f} bits about the task, {share:.1%} of the {most:.2f} bits it "
        f"could (mean over {len(end)} routers). At the end {end.idle.sum():.0f} of {experts * len(end)} experts are idle, and the evenness of the "
        f"routers is {end.balance.mean():.2f}, where 1 is even."
    )


def _sharing(log: RunLog) -> tuple[int, str]:
    means = [mean(arm.values()) for arm in ends(log)]
    first, second = sorted(range(len(means)), key=lambda i: -means[i])[:2]
    questions = log.config.eval_rows * len(log.tasks)
    clear = against(means[first], means[second], questions)
    names = ("shared A", "shared B", "nothing shared")
    listed = ", ".join(f"{name} {m:.2f} with {n:,} parameters" for name, m, n in zip(names, means, log.parameters, strict=True))
    return (first if clear else 3), (
        f"Mean accuracy over {questions} test questions: {listed}. The first two are {means[first] - means[second]:.3f} apart; "
        f"up to {yardstick(means[first], means[second], questions):.3f} could be chance."
    )


def _dropout(log: RunLog) -> tuple[int, str]:
    none, tenth, half = (mean(arm.values()) for arm in ends(log))
    counts = [signed(arm["updates"]) for arm in imbalances(log)]
    questions = log.config.eval_rows * len(log.tasks)
    beside = {1: "0.1 is above", -1: "0.1 is below", 0: "too close to tell"}[against(tenth, none, questions)]
    return {1: 0, -1: 1, 0: 2}[against(half, tenth, questions)], (
        f"Imbalance of counts: {counts[0]} without dropout, {counts[1]} at 0.1, {counts[2]} at 0.5. Mean accuracy over {questions} test "
        f"questions: {none:.3f}, {tenth:.3f} and {half:.3f}. Between 0.5 and 0.1, up to {yardstick(half, tenth, questions):.3f} could be chance. "
        f"Between the paper's 0.1 and no dropout: {beside}."
    )


def _who(log: RunLog) -> tuple[int, str]:
    arms = imbalances(log)
    names = {"updates": "updates", "gradient": "gradients", "step": "steps", "relative step": "relative steps"}
    listed = [", ".join(f"{word} {signed(arm[name])}" for name, word in names.items()) for arm in arms]
    sides = {0 if abs(v) <= BALANCED else math.copysign(1, v) for v in arms[0].values()}
    answer = {(1.0,): 0, (-1.0,): 1, (0,): 3}.get(tuple(sides), 2)
    return answer, (
        f"Over the last half of the run, as log2 of A over B, under AdamW: {listed[0]}. Under SGD: {listed[1]}. "
        f"Within {BALANCED} of 0 counts as balance."
    )


# Three tasks that all are learned within a run. A run should be over within about ten seconds.
THREE = {"tasks": "world/mood,world/place,world/tense", "probe_every": 4}
ARMS = {**THREE, "steps": 60, "eval_rows": 200, "eval_every": 30}
ALONE = RunConfig(method="lora", tasks="world/mood", batch=4, steps=60, arms="", eval_rows=200, eval_every=40, probe_every=4)

LESSONS: tuple[Lesson, ...] = (
    Lesson(
        "What LoRA changes",
        (
            "A trained model is a stack of weight matrices W. LoRA (low-rank adaptation) freezes them all and puts a detour beside some: "
            "a thin matrix A squeezes the input x to r numbers, a thin B widens them again. The layer then gives W x + (alpha/r) B A x.",
            "A starts at random and B at zero, so at first the detour adds nothing. Training moves A and B alone: "
            "less than one number for every hundred frozen ones.",
        ),
        (RunConfig(**THREE, method="lora", arms="", steps=60, eval_rows=100, eval_every=20),),
        "Questions that the frozen model gets wrong: how far will such a small detour bring their number down?",
        ("By less than a quarter, if at all", "By a quarter to three quarters", "By more than three quarters"),
        ("Overview", "accuracy"),
        _what_lora_changes,
    ),
    Lesson(
        "One adapter for many tasks",
        (
            "In a mixture every task pulls on the same A and B. Where two tasks ask for opposite changes they are in each other's way "
            "(interference); where they have something in common they may help one another (transfer).",
            "The paper prints 69.57 for LoRA trained on one task at a time and 69.15 in the mixture. What a mixture does depends on its tasks.",
            "Here LoRA is trained twice. First on mood alone; then on mood and three more, one of which, opposite, asks for the opposite "
            "of the mood of such sentences. Mood has the same number of steps in both, and on average as many questions in each.",
        ),
        (ALONE, ALONE.replace(tasks="world/mood,world/opposite,world/place,world/tense", batch=16)),
        "Where does mood end with more right answers?",
        ("Trained alone", "In the mixture", CLOSE),
        ("Overview", "accuracy"),
        _one_for_many,
    ),
    Lesson(
        "The router",
        (
            "A mixture of experts has several B beside each W. A router, one small matrix for each, looks at every token and gives each expert "
            "a weight, its gate: softmax(W x). The two largest are kept and scaled to sum to 1; the token goes to those experts only.",
            "The router learns along with the rest. Nothing tells it which task a token is from; the balance loss only asks that all experts "
            "get work. Experts are often hoped to become specialists for tasks.",
            "The mutual information between expert and task measures that, in bits: 0 where the choice of an expert tells nothing about "
            "the task. With 2 of 4 experts a token it is at most 1.",
        ),
        (RunConfig(arms="", steps=60, eval_rows=50, eval_every=20),),
        "At the end of the run: how much of that bit does the choice of an expert tell about the task?",
        ("Hardly anything: less than 5 %", "Something: 5 to 50 %", "Most of it: more than 50 %"),
        ("Router", "router"),
        _router,
    ),
    Lesson(
        "Sharing A",
        (
            "Each expert could have an A and a B of its own. MoSLD lets all experts of a linear share one A, meant for what is common to the "
            "tasks, and leaves each its B. As well one could share B and leave each its A.",
            "The paper prints 71.56 for its method on A and 70.73 for the same on B. Later work disagrees: ALoRA prefers to share B, "
            "and MASA calls one shared A a bottleneck.",
            "Here q and v are square matrices, so sharing either saves the same number of parameters. The three arms get the same batches; "
            "none has dropout.",
        ),
        (RunConfig(**ARMS, dropout=0, arms="share=A,B,none"),),
        "Which arm ends with the highest mean accuracy?",
        ("The one that shares A", "The one that shares B", "The one that shares nothing", CLOSE),
        ("Overview", "accuracy"),
        _sharing,
    ),
    Lesson(
        "Dropout on A",
        (
            "Every token reaches the shared A; with 2 of 4 experts a token, each B is reached by half of them. By this count A is updated "
            "twice as often: 1 as a log2. The paper sets a tenth of the entries of A to zero in each step, at random, to balance that.",
            "A tenth thins the updates of A by a tenth. To balance the count, dropout would have to be one half.",
            "The paper prints 71.56 with dropout 0.1 and 70.88 without, and a general downward trend beyond 0.1.",
        ),
        (RunConfig(**ARMS, arms="dropout=0,0.1,0.5"),),
        "Dropout 0.5 makes the counts equal. Will that arm end with a higher accuracy than the paper's 0.1?",
        ("Yes, higher", "No, lower", CLOSE),
        ("Overview", "accuracy"),
        _dropout,
    ),
    Lesson(
        "Who is updated more?",
        (
            "'A is updated more than B' can mean four things: more tokens reach it (updates), its gradient is larger (gradients), "
            "the optimiser moves it further (steps), or further for its size (relative steps). Each is a ratio of A to the mean of the B, as a log2: "
            "above 0 is more for A.",
            "B starts at zero, so the first gradient of A is zero, too. AdamW divides the size of gradients away; "
            "the step of SGD is the gradient times the learning rate. Both optimisers are arms of the run.",
        ),
        (RunConfig(**{**ARMS, "eval_rows": 50}, arms="optimiser=adamw,sgd;lr=0.003,0.5"),),
        "Over the last half of the run, under AdamW: which one is updated more?",
        ("A, by all four definitions", "B, by all four definitions", "The definitions disagree", "Neither: all four are near balance"),
        ("Overview", "imbalance"),
        _who,
    ),
)
