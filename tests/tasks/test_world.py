"""The world suite: splits, determinism, true overlap against values worked out by hand, and what a bag of words can and cannot do."""

import math
import os
import random
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mosld.tasks import world
from mosld.tasks.grammar import FEELINGS, OPPOSITE, PLACES, ROLES, draw, realise

LOADED = {}


def task(name):
    if name not in LOADED:
        LOADED[name] = world.load(f"world/{name}", seed=3)
    return LOADED[name]


def words(text):
    return re.findall(r"[a-z'-]+", text.lower())


@pytest.mark.parametrize("name", [n.split("/")[1] for n in world.TASKS])
def test_rows_are_split_balanced_and_well_formed(name):
    t = task(name)
    assert (len(t.train), len(t.validation), len(t.test)) == (2000, 300, 300)
    rows = t.train + t.validation + t.test
    assert len({e.question for e in rows}) == 2600
    for e in rows:
        assert e.question.startswith(world.TASKS[t.name].instruction)
        assert len(set(e.options)) == len(e.options) and 0 <= e.answer < len(e.options)
        assert max(map(len, e.options)) <= 30
    assert {len(e.options) for e in rows} == {len(t.train[0].options)}
    counts = Counter(e.options[e.answer] if t.info.kind == "labels" else e.answer for e in rows)
    share = 1 / len(t.train[0].options)
    bound = 1 if t.info.kind == "labels" else 4 * math.sqrt(2600 * share * (1 - share))  # in turn, or placed by chance
    assert all(abs(n - 2600 * share) <= bound for n in counts.values()) and len(counts) == len(t.train[0].options)


def test_both_question_types_are_there():
    kinds = Counter(t.info.kind for t in world.TASKS.values())
    assert kinds["labels"] >= 8 and {len(task(n).train[0].options) for n in ("odd", "opposite", "next")} == {4}


def test_another_process_gives_the_same_rows():
    code = "from mosld.tasks import world; print(*[world.load(f'world/{n}', 3).digest() for n in ('mood', 'odd', 'next')])"
    for hash_seed in ("1", "2"):
        env = {**os.environ, "PYTHONHASHSEED": hash_seed}
        out = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout.split()
        assert out == [task(n).digest() for n in ("mood", "odd", "next")]
    assert world.load("world/mood", 4).digest() != task("mood").digest()


def entropy(*shares):
    return -sum(p * math.log2(p) for p in shares)


def test_overlap_has_the_values_the_grammar_implies():
    names, matrix = world.overlap()
    at = {(a.split("/")[1], b.split("/")[1]): matrix[i, j] for i, a in enumerate(names) for j, b in enumerate(names)}
    assert np.array_equal(matrix, matrix.T) and np.all(np.diag(matrix) == 1)
    # Opposed: the same options, never or mostly not the same answer. Irony turns 4 equally likely feelings round 6 times in 10.
    assert at["mood", "opposite"] == pytest.approx(-1, abs=0.01)
    assert at["actor", "acted_on"] == pytest.approx(-1, abs=0.01)
    assert at["mood", "meant"] == pytest.approx(-(2 - entropy(0.6, 0.4)) / 2, abs=0.01)
    assert at["kind", "odd"] == pytest.approx(-(2 - math.log2(3)) / 2, abs=0.01)
    # Shared: the second is a function of the first, which has more answers.
    assert at["mood", "reply"] == pytest.approx(1 / math.sqrt(2 * 1), abs=0.01)
    assert at["place", "indoors"] == pytest.approx(1 / math.sqrt(math.log2(6) * 1), abs=0.01)
    assert at["happened", "next"] == pytest.approx(1 / math.sqrt(1 * entropy(0.5, *[1 / 12] * 6)), abs=0.01)
    # Unrelated.
    for pair in (("mood", "place"), ("sincere", "mood"), ("sincere", "meant"), ("tense", "actor"), ("number", "kind")):
        assert abs(at[pair]) < 0.003


def test_opposed_tasks_ask_for_different_answers_to_one_text():
    rng = random.Random(5)
    for first, second in (("actor", "acted_on"), ("mood", "meant")):
        different = 0
        for _ in range(200):
            state, seed = draw(rng), rng.random()
            a, b = (world.TASKS[f"world/{n}"].ask(state, random.Random(seed)) for n in (first, second))
            assert a.question.split("? ")[1] == b.question.split("? ")[1]
            assert {a.options[a.answer], b.options[b.answer]} <= set(a.options) & set(b.options)
            different += a.options[a.answer] != b.options[b.answer]
        assert different == 200 if first == "actor" else 90 < different < 150


def test_sentences_are_short_varied_and_give_no_label_away():
    rng = random.Random(6)
    state = draw(rng)
    assert len({realise(state, rng) for _ in range(200)}) > 150
    texts = [realise(draw(rng), rng) for _ in range(2000)]
    lengths = [len(words(t)) for t in texts]
    assert min(lengths) >= 10 and max(lengths) <= 28 and np.mean(lengths) < 21
    labels = {
        *PLACES,
        *FEELINGS,
        "anxious",
        "morning",
        "midday",
        "evening",
        "night",
        "past",
        "present",
        "future",
        "animal",
        "tool",
        "food",
        "clothes",
    }
    assert not labels & {w for t in texts for w in words(t)}
    assert all(t.endswith(".") and ",," not in t and ",." not in t and "  " not in t for t in texts)


def naive_bayes(t):
    """Test accuracy of naive Bayes over the words that occur, choosing among the options offered."""
    seen, used = Counter(e.options[e.answer] for e in t.train), Counter()
    for e in t.train:
        used.update((e.options[e.answer], w) for w in set(words(e.question)))
    vocabulary = {w for _, w in used}

    def score(label, present):
        return math.log(seen[label] + 0.5) + sum(math.log((used[label, w] + 0.5) / (seen[label] + 1)) for w in present)

    right = 0
    for e in t.test:
        present = set(words(e.question)) & vocabulary
        right += max(e.options, key=lambda o: score(o, present)) == e.options[e.answer]
    return right / len(t.test)


def read_happened(text):
    turns = len(re.findall(r"\bnot\b|\bfail(?:s|ed)?\b|\bforg[eo]ts?\b", text))
    return "yes, it happens" if turns % 2 == 0 else "no, it does not"


def read_meant(text):
    said = next(f for f, adjectives in FEELINGS.items() if set(adjectives) & set(words(text)))
    meant = OPPOSITE[said] if re.search(r"\b(?:oh so|supposedly|allegedly|seemingly) ", text) else said
    return world.FEELING_LABELS[meant]


def read_persons(text):
    """Who acts, and who is acted on: the one after "by" in a passive, else the one named first."""
    roles = "|".join(ROLES)
    first, second = dict.fromkeys(re.findall(rf"\b(?:{roles})\b", text))
    passive = re.search(rf"\bby the (?:(?:oh so|\w+) \w+ )?(?:{roles})\b", text)
    return (f"the {second}", f"the {first}") if passive else (f"the {first}", f"the {second}")


@pytest.mark.parametrize(
    "name, read, most",
    [
        ("happened", read_happened, 0.8),
        ("meant", read_meant, 0.65),
        ("actor", lambda text: read_persons(text)[0], 0.65),
        ("acted_on", lambda text: read_persons(text)[1], 0.65),
    ],
)
def test_a_rule_of_structure_is_right_where_a_bag_of_words_is_not(name, read, most):
    t = task(name)
    assert all(read(e.question.split("? ", 1)[1]) == e.options[e.answer] for e in t.test)
    assert t.chance - 0.1 < naive_bayes(t) < most


def test_the_bag_of_words_is_a_fair_one():
    assert naive_bayes(task("mood")) > 0.95 and naive_bayes(task("place")) > 0.95
