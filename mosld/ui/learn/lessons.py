"""Eight lessons. Each has a question to predict, some runs, and a function that reads the answer from what those runs did.

- `Lesson`: texts, settings, question, answers, the picture beside them, and one thing to try; `LESSONS`: all eight, in order.
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
from mosld.ui.evidence import CLOSE, EVEN, against, ends, imbalances, means, reading, share, signed, told
from mosld.ui.watch.sentence import mean, yardstick
from mosld.ui.wire import short

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog


@dataclass(frozen=True)
class Lesson:
    """One page. `runs` are made one after the other, the last one is shown in the picture `seen` (of `canvas/learn.js`).

    `marks`: what each answer looks like in that picture, as the script reads it. `beside`: the task whose result of the runs before the last
    is drawn beside it. `tries`: the one setting offered at the end, and values of it. `merges`: `evaluate` gets runs with their folders.
    `claims`: those of the study that it touches; their verdicts stand with the answer.
    """

    title: str
    text: tuple[str, ...]
    runs: tuple[RunConfig, ...]
    question: str
    answers: tuple[str, ...]
    seen: str
    marks: tuple[dict | None, ...]
    tries: tuple[str, tuple[str, ...]]
    evaluate: Callable[..., tuple[int, str]]
    beside: str = ""
    merges: bool = False
    claims: tuple[str, ...] = ()


def described(config: RunConfig) -> str:
    """A run in half a sentence."""
    names = " against ".join(config.arm_names()) if len(config.arms) > 1 else config.label
    tasks = ", ".join(short(t) for t in config.tasks)
    return f"{names} on {tasks}; {config.steps} steps of {config.batch} questions"


# The evaluations, in the order of the lessons.


def _what_lora_changes(log: RunLog) -> tuple[int, str]:
    before, after = mean(log.untrained[t] for t in log.tasks), mean(ends(log)[0].values())
    cut = 1 - (1 - after) / (1 - before)
    weights = SHAPES[log.config.backbone].weights
    norms = log.norms().groupby(["quantity", "step"]).norm.mean()
    a, b = norms["A"], norms["B"]
    return (0 if cut < 0.25 else 1 if cut <= 0.75 else 2), (
        f"The frozen model answers {share(before)} of the test questions right, with the trained detour {share(after)}: the errors "
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
    rest = ", ".join(f"{short(t)} {share(v)} (guessing {share(mixture.chance[t])})" for t, v in others.items())
    return {1: 0, -1: 1, 0: 2}[verdict], (
        f"{short(task).capitalize()} ends at {share(p)} alone and at {share(q)} in the mixture, of {rows} test questions; a difference of up to "
        f"{share(yardstick(p, q, rows))} could be chance. {says}. The others in the mixture end at: {rest}."
    )


def _router(log: RunLog) -> tuple[int, str]:
    table = log.routing()
    end = table[table.step == table.step.max()]
    ((word, bits, most),) = told(log)
    part, experts = bits / most, log.linears[0][0].experts
    return (0 if part < 0.05 else 1 if part <= 0.5 else 2), (
        f"At the end the choice of an expert tells {max(0, bits):.3f} bits about the task, {max(0, part):.1%} of the {most:.2f} bits it could, "
        f"and {word:.2f} about the word (mean over {len(end)} routers, test questions). {end.idle.sum():.0f} of {experts * len(end)} experts idle. "
        f"The evenness of the routers is {end.evenness.mean():.2f}, where 1 is even."
    )


def _sharing(log: RunLog) -> tuple[int, str]:
    right, questions = means(log)
    first, second = sorted(range(len(right)), key=lambda i: -right[i])[:2]
    clear = against(right[first], right[second], questions)
    names = ("shared A", "shared B", "nothing shared")
    listed = ", ".join(f"{name} {share(m)} with {n:,} parameters" for name, m, n in zip(names, right, log.parameters, strict=True))
    return (first if clear else 3), (
        f"Mean accuracy over {questions} test questions: {listed}. The first two are {100 * (right[first] - right[second]):.1f} points apart; "
        f"up to {100 * yardstick(right[first], right[second], questions):.1f} could be chance."
    )


def _dropout(log: RunLog) -> tuple[int, str]:
    (none, tenth, half), questions = means(log)
    counts = [signed(arm["updates"]) for arm in imbalances(log)]
    beside = {1: "0.1 is above", -1: "0.1 is below", 0: "too close to tell"}[against(tenth, none, questions)]
    return {1: 0, -1: 1, 0: 2}[against(half, tenth, questions)], (
        f"Imbalance of counts: {counts[0]} without dropout, {counts[1]} at 0.1, {counts[2]} at 0.5. Mean accuracy over {questions} test "
        f"questions: {share(none)}, {share(tenth)} and {share(half)}. Between 0.5 and 0.1, up to {share(yardstick(half, tenth, questions))} could be "
        f"chance. "
        f"Between the paper's 0.1 and no dropout: {beside}."
    )


def _who(log: RunLog) -> tuple[int, str]:
    arms = imbalances(log)
    names = {"updates": "updates", "gradient": "gradients", "step": "steps", "relative step": "relative steps"}
    listed = [", ".join(f"{word} {signed(arm[name])}" for name, word in names.items()) for arm in arms]
    sides = {0 if abs(v) <= EVEN else math.copysign(1, v) for v in arms[0].values()}
    answer = {(1.0,): 0, (-1.0,): 1, (0,): 3}.get(tuple(sides), 2)
    return answer, (
        f"Over the last half of the run, as log2 of A over B, under AdamW: {listed[0]}. Under SGD: {listed[1]}. Within {EVEN} of 0 counts as even."
    )


def _what_is_read(log: RunLog) -> tuple[int, str]:
    kinds, bits = reading(log)
    answer = {("word", "task"): 2, ("word", "word"): 0, ("task", "task"): 1}.get(tuple(kinds), 3)
    return answer, f"Bits that the expert tells, {bits}. Right answers: {' and '.join(map(share, means(log)[0]))}."


def _merging(*runs) -> tuple[int, str]:
    from mosld.merging import task_arithmetic
    from mosld.merging.sources import open_bench

    *alone, mixture = runs
    bench = open_bench(alone)
    merged = mean(bench.accuracy(task_arithmetic.merge(bench.vectors, [HALF] * len(alone)), rows=bench.eval_rows).values())
    single, mixed = mean(r.accuracy[0][r.log.tasks[0]] for r in alone), mean(mixture.accuracy[0].values())
    questions = bench.eval_rows * len(alone)
    return {1: 0, -1: 1, 0: 2}[against(merged, mixed, questions)], (
        f"Each alone with an adapter of its own: {share(single)} right. The adapters merged into one model, {HALF:g} of each: {share(merged)}. "
        f"One adapter trained on the mixture: {share(mixed)}. Between the last two, {share(yardstick(merged, mixed, questions))} could be chance."
    )


HALF = 0.5  # weight of each adapter where two are merged
# Three tasks that all are learned within a run. A run should be over within about ten seconds.
THREE = {"tasks": "world/mood,world/place,world/tense", "probe_every": 4}
ARMS = {**THREE, "steps": 60, "eval_rows": 200, "eval_every": 30}
ALONE = RunConfig(method="lora", tasks="world/mood", batch=4, steps=60, arms="", eval_rows=200, eval_every=40, probe_every=4)

READING = {"steps": 100, "eval_rows": 100, "eval_every": 20, "dropout": 0, "arms": "router=token,instruction;router_lr=1,10"}

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
        "answers",
        ({"cut": [-1, 0.25]}, {"cut": [0.25, 0.75]}, {"cut": [0.75, 1]}),
        ("rank", ("1", "2", "32")),
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
        "answers",
        ({"beside": 1}, {"beside": -1}, {"beside": 0}),
        ("method", ("mosld", "mtl-lora")),
        _one_for_many,
        beside="world/mood",
        claims=("C10",),
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
        "reads",
        ({"bits": [0, 0.05]}, {"bits": [0.05, 0.5]}, {"bits": [0.5, 1]}),
        ("top_k", ("1", "4")),
        _router,
        claims=("C11",),
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
        "answers",
        ({"arm": 0}, {"arm": 1}, {"arm": 2}, None),
        ("experts", ("2", "8")),
        _sharing,
        claims=("C5",),
    ),
    Lesson(
        "Dropout on A",
        (
            "Every token reaches the shared A; with 2 of 4 experts a token, each B is reached by half of them. By this count A is updated "
            "twice as often: 1 as a log2. The paper sets a tenth of the entries of A to zero in each step, at random, to even that out.",
            "A tenth thins the updates of A by a tenth. To even out the count, dropout would have to be one half.",
            "The paper prints 71.56 with dropout 0.1 and 70.88 without, and a general downward trend beyond 0.1.",
        ),
        (RunConfig(**ARMS, arms="dropout=0,0.1,0.5"),),
        "Dropout 0.5 makes the counts equal. Will that arm end with a higher accuracy than the paper's 0.1?",
        ("Yes, higher", "No, lower", CLOSE),
        "answers",
        ({"arm": 2}, {"arm": 1}, None),
        ("dropout_on", ("B", "activations")),
        _dropout,
        claims=("C3", "C6"),
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
        ("A, by all four definitions", "B, by all four definitions", "The definitions disagree", "Neither: all four are near 0"),
        "scale",
        ({"side": 1}, {"side": -1}, None, {"side": 0}),
        ("experts", ("2", "8")),
        _who,
        claims=("C4",),
    ),
    Lesson(
        "What does a router read?",
        (
            "A router turns a vector into gates. Which vector? In the papers it is the token itself, so each word of a text is sent on its own. "
            "It could as well be the mean of the text, or of the words that say what is asked: the instruction.",
            "What a router has learned shows in what its choice tells: of the word at hand, of its place in the text, of the task. "
            "An untrained router tells of words, too: similar vectors get similar gates.",
            "Here two arms train on the same batches: one router reads each token, the other the instruction.",
        ),
        (RunConfig(**READING),),
        "At the end, what does the expert tell most about, in each arm?",
        ("The word in both", "The task in both", "First the word, then the task", "Something else"),
        "reads",
        ({"reads": "word"}, {"reads": "task"}, None, None),
        ("top_k", ("1", "4")),
        _what_is_read,
        claims=("C11",),
    ),
    Lesson(
        "Merging or mixing?",
        (
            "There are two ways to one model for two tasks. Mixing trains one adapter on both. Merging trains an adapter for each, "
            "then adds their updates, here a half of each (task arithmetic): nobody has to bring the data together.",
            "An adapter alone knows its own task best. Added up, each is diluted, and what one needs the other may undo.",
            "Three runs: mood alone, place alone, then both mixed, with as many questions of each.",
        ),
        (ALONE.replace(steps=40), ALONE.replace(steps=40, tasks="world/place"), ALONE.replace(steps=40, tasks="world/mood,world/place", batch=8)),
        "Which model ends with more right answers on both tasks?",
        ("The merged one", "The mixed one", CLOSE),
        "answers",
        ({"beside": 1}, {"beside": -1}, {"beside": 0}),
        ("rank", ("1", "32")),
        _merging,
        beside="*",
        merges=True,
    ),
)
