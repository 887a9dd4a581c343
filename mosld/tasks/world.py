"""The world suite: tasks about sentences of our own grammar (`grammar.py`), whose true overlap is known.

- `TASKS`: the tasks by full name. All ask about the same kind of sentence; each reads one thing from the latent state.
- `load(name, seed)`: a task's seeded rows. Nothing is downloaded.
- `overlap()`: how far the answers of two tasks go together, signed: negative where the same text asks for another answer.
"""

from __future__ import annotations

import functools
import math
import random
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np

from mosld.tasks.base import Example, Task, TaskInfo
from mosld.tasks.grammar import EVENTS, FEELINGS, KINDS, OPPOSITE, OUTDOORS, PLACES, ROLES, TENSES, THINGS, State, a, draw, realise

TRAIN, VALIDATION, TEST = 2000, 300, 300  # rows of each task
OVERLAP_STATES = 20_000  # scenes that `overlap` is worked out on

FEELING_LABELS = {"happy": "a happy feeling", "sad": "a sad feeling", "brave": "a brave feeling", "afraid": "an anxious feeling"}
FEELING_NOUNS = {
    "happy": ("joy", "delight", "cheerfulness"),
    "sad": ("sorrow", "grief", "misery"),
    "brave": ("courage", "bravery", "boldness"),
    "afraid": ("fear", "terror", "dread"),
}
PLACE_LABELS = {p: f"{'on' if p == 'farm' else 'at' if p == 'beach' else 'in'} {'the' if p == 'beach' else 'a'} {p}" for p in PLACES}
TIME_LABELS = {"morning": "in the morning", "midday": "at midday", "evening": "in the evening", "night": "late at night"}
KIND_LABELS = {"animal": "an animal", "tool": "a tool", "food": "food", "clothing": "clothes"}
NOTHING = "nothing"
FOLLOW_UPS = {
    "give": ("saying thank you", "a word of thanks"),
    "steal": ("calling the police", "reporting a theft"),
    "sell": ("paying the price", "handing over the money"),
    "show": ("taking a close look", "looking and admiring"),
    "lend": ("bringing it back next week", "returning it when done"),
    "hide": ("searching everywhere", "hunting for what is missing"),
    NOTHING: ("nothing at all", "nothing follows"),
}


@dataclass(frozen=True)
class WorldTask:
    """One question about a scene.

    answer: State -> the answer, coded so that tasks with the same `space` can be compared.
    space: what the answer is about. Tasks of one space offer the same answers for the same text.
    options: the text of each answer for a labels task; else (State, rng) -> option texts, the right one first.
    cycle: answers in the shares wanted in the data; empty takes scenes as they come.
    """

    info: TaskInfo
    instruction: str
    space: str
    answer: Callable[[State], Hashable]
    options: dict[Hashable, str] | Callable[[State, random.Random], list[str]]
    cycle: tuple[Hashable, ...] = ()

    def ask(self, state: State, rng: random.Random) -> Example:
        """The question about one scene, in one of its sentences."""
        question = f"{self.instruction} {realise(state, rng)}"
        if isinstance(self.options, dict):
            return Example(question, tuple(self.options.values()), list(self.options).index(self.answer(state)), self.instruction)
        texts = self.options(state, rng)
        right = texts[0]
        rng.shuffle(texts)
        return Example(question, tuple(texts), texts.index(right), self.instruction)


@functools.lru_cache(maxsize=64)
def load(name: str, seed: int = 0) -> Task:
    """A task's rows: `TRAIN`, `VALIDATION` and `TEST` of them, no question twice. The same for the same seed, in every process.

    Answers come in equal shares (in those of `cycle` where it is set).
    """
    task = TASKS[name]
    rng = random.Random(f"{name} {seed}")  # a text seed goes through sha512, so it does not depend on the process
    cycle = task.cycle or (tuple(task.options) if isinstance(task.options, dict) else ())
    rows: dict[str, Example] = {}
    while len(rows) < TRAIN + VALIDATION + TEST:
        state = draw(rng)
        while cycle and task.answer(state) != cycle[len(rows) % len(cycle)]:
            state = draw(rng)
        example = task.ask(state, rng)
        rows.setdefault(example.question, example)
    order = list(rows.values())
    rng.shuffle(order)
    return Task(task.info, tuple(order[:TRAIN]), tuple(order[TRAIN : TRAIN + VALIDATION]), tuple(order[TRAIN + VALIDATION :]))


def example(name: str) -> Example:
    """One question of a task, without making its rows: the same in every process."""
    rng = random.Random(f"example {name}")
    return TASKS[name].ask(draw(rng), rng)


@functools.cache
def overlap() -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the T tasks and the matrix [T, T] of their true overlap, in [-1, 1], symmetric, with diagonal 1.

    Over the answers X and Y to both tasks on the same scenes the size is I(X; Y) / sqrt(H(X) H(Y)): 0 where the answers are
    independent, 1 where each gives away the other. The sign is minus where both tasks choose among the same answers and agree
    on less than half of the scenes: one text, the same options, mostly another answer. Estimated on `OVERLAP_STATES` scenes as the
    grammar draws them (answers of a task's own rows are balanced on top of that); chance makes values near 0 uncertain by
    about 0.002. The matrix is read-only.
    """
    rng = random.Random("overlap")
    states = [draw(rng) for _ in range(OVERLAP_STATES)]
    tasks = list(TASKS.values())
    answers = [[t.answer(s) for s in states] for t in tasks]
    entropy = [_entropy(x) for x in answers]
    matrix = np.eye(len(tasks))
    for i, j in zip(*np.triu_indices(len(tasks), 1), strict=True):
        shared = entropy[i] + entropy[j] - _entropy(zip(answers[i], answers[j], strict=True))
        size = max(0.0, shared) / math.sqrt(entropy[i] * entropy[j])
        agree = sum(x == y for x, y in zip(answers[i], answers[j], strict=True)) / len(states)
        conflict = tasks[i].space == tasks[j].space and agree < 0.5
        matrix[i, j] = matrix[j, i] = -size if conflict else size
    matrix.setflags(write=False)
    return tuple(TASKS), matrix


def _entropy(values) -> float:
    """Entropy of the empirical distribution, in nats."""
    counts = Counter(values).values()
    total = sum(counts)
    return -sum(n / total * math.log(n / total) for n in counts)


def _opposites(s: State, rng: random.Random) -> list[str]:
    right = OPPOSITE[s.said]
    return [rng.choice(FEELING_NOUNS[f]) for f in (right, *(f for f in FEELINGS if f != right))]


def _persons(right: str, other: str, rng: random.Random) -> list[str]:
    """The two persons of the sentence and two who are not in it."""
    return [f"the {r}" for r in (right, other, *rng.sample([r for r in ROLES if r not in (right, other)], 2))]


def _actors(s: State, rng: random.Random) -> list[str]:
    return _persons(s.agent, s.patient, rng)


def _patients(s: State, rng: random.Random) -> list[str]:
    return _persons(s.patient, s.agent, rng)


def _odd(s: State, rng: random.Random) -> list[str]:
    alike = rng.sample([t for t in THINGS[s.kind] if t != s.thing], 3)
    return [a(t) for t in (rng.choice(tuple(THINGS[s.odd_kind])), *alike)]


def _next(s: State) -> str:
    return s.event if s.happened else NOTHING


def _follow_ups(s: State, rng: random.Random) -> list[str]:
    """The right one, and always both what would follow the event and what follows where nothing happened."""
    rest = rng.sample([e for e in EVENTS if e != s.event], 2)
    other = NOTHING if s.happened else s.event
    return [rng.choice(FOLLOW_UPS[e]) for e in (_next(s), other, *rest)]


def _task(name, title, summary, instruction, answer, options, space="", cycle=()) -> WorldTask:
    kind = "labels" if isinstance(options, dict) else "options"
    info = TaskInfo(f"world/{name}", "world", title, summary, kind, "Apache-2.0", "generated by this project")
    return WorldTask(info, instruction, space or name, answer, options, cycle)


_ALL = (
    _task(
        "mood",
        "Mood, as said",
        "What the one who acts feels, as the words say it.",
        "Mood in the words?",
        lambda s: s.said,
        FEELING_LABELS,
        "feeling",
    ),
    _task(
        "meant",
        "Mood, as meant",
        "The feeling that is meant: irony turns the words round.",
        "Mood really meant?",
        lambda s: s.meant,
        FEELING_LABELS,
        "feeling",
    ),
    _task(
        "opposite",
        "Opposite mood",
        "The opposite of the feeling in the words.",
        "Opposite of the mood?",
        lambda s: OPPOSITE[s.said],
        _opposites,
        "feeling",
        tuple(FEELINGS),
    ),
    _task(
        "reply",
        "Comfort or congratulate",
        "What one says to somebody who feels as the words say.",
        "Comfort or congratulate?",
        lambda s: s.said in ("happy", "brave"),
        {False: "comfort them", True: "congratulate them"},
    ),
    _task(
        "sincere",
        "Sincere or ironic",
        "Whether the feeling is meant as it is said.",
        "Sincere or ironic?",
        lambda s: not s.ironic,
        {True: "this is sincere", False: "this is ironic"},
    ),
    _task("place", "Place", "Where it happens, from a cue such as 'by the waves'.", "Place?", lambda s: s.place, PLACE_LABELS),
    _task(
        "indoors",
        "Indoors or outdoors",
        "Whether the place is under a roof.",
        "Indoors or outdoors?",
        lambda s: s.place not in OUTDOORS,
        {True: "inside a building", False: "out in the open"},
    ),
    _task("time", "Time of day", "When in the day, from a cue such as 'at dusk'.", "Time of day?", lambda s: s.time, TIME_LABELS),
    _task("tense", "Tense", "Past, present or future of the main clause.", "Tense?", lambda s: s.tense, {t: f"in the {t}" for t in TENSES}),
    _task("number", "Number", "Whether it is about one thing or more.", "How many?", lambda s: s.many, {False: "only one", True: "more than one"}),
    _task("kind", "Kind of thing", "Animal, tool, food or clothes.", "Kind of thing?", lambda s: s.kind, KIND_LABELS),
    _task(
        "odd", "Odd one out", "Which of four things is not like the thing in the sentence.", "Odd one out?", lambda s: s.odd_kind, _odd, "kind", KINDS
    ),
    # Answers about persons are coded as "the first of the two in the alphabet", since the sentence settles which two they are.
    _task("actor", "Who acts", "The one who does it, in the active or the passive.", "Who acts?", lambda s: s.agent < s.patient, _actors, "person"),
    _task("acted_on", "Who is acted on", "The one to whom it is done.", "Who is acted on?", lambda s: s.patient < s.agent, _patients, "person"),
    _task(
        "happened",
        "Did it happen",
        "Whether it was done, through 'not', 'fail to', 'manage to' and their like.",
        "Did it happen?",
        lambda s: s.happened,
        {True: "yes, it happens", False: "no, it does not"},
    ),
    _task(
        "next",
        "What happens next",
        "What follows; nothing, where it was not done.",
        "What happens next?",
        _next,
        _follow_ups,
        "next",
        (*EVENTS, NOTHING, NOTHING),
    ),
)
TASKS: dict[str, WorldTask] = {t.info.name: t for t in _ALL}
