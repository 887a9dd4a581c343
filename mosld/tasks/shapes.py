"""The shapes in which people hold questions, recognised by their columns: records in, `Row`s out.

- `recognise(records)`: the `Shape` of a table. `Shape.row(values)`: one record as a `Row`, or the reason why not, a text.

Known are, by the names their columns have in public sets and spreadsheets:
    question and options    a list, a text divided by '|', a dict of letters, {"text": […], "label": […]}, or columns such as
                            option1 option2, A B C D, sol1 sol2, ending0 ending1; the answer as text, letter or number
    text and label          words or numbers, 2 to 100 classes; several text columns (title and body, premise and hypothesis) are joined
    question and answer     free answers: wrong options are the answers of other rows

Case, spaces and signs in column names do not matter. What is no part of the shape is left alone and named.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mosld.config import ConfigError
from mosld.tasks.files import Record
from mosld.tasks.rows import Row

MOST_CLASSES, MOST_OPTIONS = 100, 26
WRONG = 3  # options taken from other rows, for question and answer pairs
NO_ANSWER = "no answer"  # the reason of rows whose answer is kept secret: test parts of public sets

QUESTION = ("question", "questionstem", "stem", "goal", "query", "prompt", "problem", "ctx", "startphrase", "sentence", "sentence1", "sent1", "text")
BEFORE = ("context", "premise", "fact", "support")  # read before the question
AFTER = ("passage", "article", "story", "paragraph", "document", "sent2")  # long, so read after it: the question must fit
OPTIONS = ("options", "choices", "endings", "candidates", "answeroptions", "mcoptions", "answers")
ANSWER = ("answer", "answerkey", "correctanswer", "correct", "correctoption", "correctindex", "answeridx", "answerindex", "labelidx")
ANSWER += ("gold", "label", "labels", "target", "key", "ans", "solution", "cop")
COLUMN = re.compile(r"(option|opt|op|choice|answer|sol|solution|ending|candidate|)(\d{1,2}|[a-z])")
TEXT = ("text", "sentence", "content", "body", "review", "tweet", "comment", "message", "document", "article", "utterance", "phrase", "question")
TEXTS = (("title", "description"), ("title", "text"), ("title", "content"), ("title", "body"), ("headline", "shortdescription"), ("subject", "body"))
TEXTS += (("premise", "hypothesis"), ("sentence1", "sentence2"), ("question1", "question2"), ("text1", "text2"), ("question", "sentence"))
LONE = ("headline", "title", "subject", "description", "summary", "input", "query", "prompt")
LABEL = ("labeltext", "labelname", "classname", "category", "class", "sentiment", "emotion", "intent", "topic", "genre", "label", "labels")
LABEL += ("target", "classindex", "coarselabel", "finelabel", "polarity", "rating", "stars", "y", "airlinesentiment", "tag", "type")
PAIR = (("question", "prompt", "instruction", "query", "q", "input"), ("answer", "response", "output", "completion", "a", "target"))
YES = {"true": 0, "yes": 0, "false": 1, "no": 1}


@dataclass
class Shape:
    """What a table was taken for. `says`: one sentence for people; `used`: the columns read; `row`: one record as a Row, or why not."""

    says: str
    used: list[str]
    row: Callable[[dict], Row | str]
    notes: list[str] = field(default_factory=list)


def plain(name: str) -> str:
    """A column's name without case, spaces and signs."""
    return re.sub(r"[\W_]+", "", str(name).casefold())


def recognise(records: Sequence[Record]) -> Shape:
    """The shape of a table, from the columns that at least half of the records have. Raises ConfigError (without the file's name) for none."""
    seen = Counter(column for r in records for column in r.values if isinstance(column, str))
    names = {}  # plain -> as it stands in the file
    for column, count in seen.items():
        if 2 * count >= len(records):
            names.setdefault(plain(column), column)
    for find in (_choice, _yes_no, _classes, _pairs):
        shape = find(names, records)
        if shape is not None:
            return shape
    _few_or_many(names, records)
    have = ", ".join(list(names.values())[:12]) or "none"
    known = "question, options and answer, or text and label, or question and answer"
    raise ConfigError(f"its columns ({have[:120]}) are not understood; name them {known}.")


def text_of(value) -> str | None:
    """A cell as text: strings, and numbers as they are written; None for anything else and for nothing."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, float) and not math.isfinite(value):  # how tables write that there is nothing
        return None
    if isinstance(value, float) and value == int(value if abs(value) < 1e15 else 0):
        value = int(value)
    return (str(value).strip() or None) if isinstance(value, (str, int, float)) else None


def _first(names: dict, wanted: Sequence[str]) -> str | None:
    return next((names[w] for w in wanted if w in names), None)


# options are given


def _choice(names: dict, records: Sequence[Record]) -> Shape | None:
    """Question, options and answer."""
    nested = _first(names, ("question",))
    if nested and "answerkey" in names and any(isinstance(r.values.get(nested), dict) for r in records[:5]):
        return _nested(nested, names["answerkey"])  # the form the AI2 sets are first published in
    listed, columns = _first(names, OPTIONS), _columns(names)
    taken = {plain(c) for c in columns} | {plain(listed or "")}
    answer = next((names[a] for a in ANSWER if a in names and a not in taken), None)
    question = next((names[q] for q in QUESTION if q in names and q not in taken), None)
    if listed and not any(_options(r.values.get(listed)) for r in records[:50]):
        listed = None
    before = next((names[b] for b in BEFORE if b in names and names[b] != question), None)
    if question is None:
        question, before = before, None
    if answer is None or question is None or not (listed or columns):
        return None
    after = next((names[a] for a in AFTER if a in names and names[a] != question), None)

    def options(values: dict) -> tuple[list[str], list[str]] | None:
        if listed:
            return _options(values.get(listed))
        texts = [text_of(values.get(c)) for c in columns]
        while texts and texts[-1] is None:  # spreadsheets leave the last ones empty
            texts.pop()
        return (texts, []) if len(texts) > 1 and None not in texts else None

    base, note = _base(records, options, answer)

    def row(values: dict) -> Row | str:
        parts = [text_of(values.get(c)) for c in (before, question, after) if c]
        asked, found = text_of(values.get(question)), options(values)
        if asked is None:
            return f"{question} is no text"
        if found is None:
            return f"{listed or columns[0]} holds no list of texts"
        place = _place(values.get(answer), *found, base)
        if isinstance(place, str):
            return place
        return Row(" ".join(filter(None, parts)), tuple(found[0]), place, text_of(values.get(after or before)) or "")

    used = [c for c in (before, question, after, listed, *(() if listed else columns), answer) if c]
    return Shape("a question with its options and the right one", used, row, note)


def _nested(question: str, key: str) -> Shape:
    def row(values: dict) -> Row | str:
        inner = values.get(question)
        found = _options(inner.get("choices")) if isinstance(inner, dict) else None
        stem = text_of(inner.get("stem")) if isinstance(inner, dict) else None
        if stem is None or found is None:
            return f"{question} holds no stem and choices"
        place = _place(values.get(key), *found, 0)
        return place if isinstance(place, str) else Row(stem, tuple(found[0]), place)

    return Shape("a question with its options and the right one", [question, key], row)


def _columns(names: dict) -> list[str]:
    """Columns that hold one option each, in order: a run from 0, 1 or a on, the longest there is."""
    best: list[str] = []
    kinds: dict[tuple[str, bool], dict[int, str]] = {}
    for name, column in names.items():
        match = COLUMN.fullmatch(name)
        if match and (match[1] or match[2].isalpha()):
            number = int(match[2]) if match[2].isdigit() else ord(match[2]) - ord("a")
            kinds.setdefault((match[1], match[2].isdigit()), {})[number] = column
    for numbered in kinds.values():
        start = min(numbered)
        run = [numbered[n] for n in range(start, start + len(numbered)) if n in numbered] if start < 2 else []
        if len(run) == len(numbered) > max(1, len(best)):
            best = run
    return best


def _options(value) -> tuple[list[str], list[str]] | None:
    """(texts, their labels or none) of one cell, or None where it holds no options."""
    if isinstance(value, str):
        if value.lstrip()[:1] in "[{":
            try:
                return _options(json.loads(value))
            except (ValueError, RecursionError):
                return None
        texts = [part.strip() for part in value.split("|")]
        return (texts, []) if len(texts) > 1 and all(texts) else None
    labels: list = []
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        value, labels = value["text"], value.get("label") or []
    elif isinstance(value, dict):
        labels, value = list(value), list(value.values())
    if not isinstance(value, list):
        return None
    if value and all(isinstance(v, dict) for v in value):
        labels, value = [v.get("label") for v in value], [v.get("text") for v in value]
    texts, labels = [text_of(v) for v in value], [text_of(v) for v in labels]
    if len(texts) < 2 or None in texts or (labels and (None in labels or len(labels) != len(texts))):
        return None
    return texts, labels


def _base(records: Sequence[Record], options: Callable, answer: str) -> tuple[int, list[str]]:
    """Whether numbered answers count from 0 or from 1, judged over the whole file, and a note where it cannot be told."""
    low = top = False
    for r in records:
        value, found = r.values.get(answer), options(r.values)
        number = _number(value)
        if found is None or number is None or text_of(value) in found[1] or (isinstance(value, str) and value.strip() in found[0]):
            continue
        low, top = low or number == 0, top or number == len(found[0])
        if low:
            return 0, []
    if top:
        return 1, []
    numbers = any(_number(r.values.get(answer)) is not None for r in records[:200])
    return 0, ["Answers are numbers that neither reach 0 nor the last option: they are taken as counted from 0."] if numbers else []


def _number(value) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(\.0)?", value.strip()):
        return int(float(value))
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1000 and value == int(value) else None


def _place(value, texts: list[str], labels: list[str], base: int) -> int | str:
    """The place of the right option, or why there is none. A text that is an option is that option; then labels, letters, numbers count."""
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    written = text_of(value)
    if written is None or (isinstance(value, (int, float)) and value == -1) or written == "-1":
        return f"answer {str(value).lower()} is neither text, letter nor number" if isinstance(value, (bool, list, dict)) else NO_ANSWER
    for known in (labels, texts) if labels else (texts,):
        if written in known and (isinstance(value, str) or known is labels):
            return known.index(written)
    letter = re.fullmatch(r"\(?([A-Za-z])[).:]?", written)
    if letter and not labels:
        place = ord(letter[1].upper()) - ord("A")
        return place if place < len(texts) else f"answer '{letter[1]}' is not among the {len(texts)} options"
    number = _number(value)
    if number is not None:
        place = number - base
        return place if 0 <= place < len(texts) else f"answer {number} is not the place of an option; give {base} to {len(texts) - 1 + base}"
    folded = [t.casefold() for t in texts]
    return folded.index(written.casefold()) if written.casefold() in folded else f"answer '{written[:40]}' is not among the options"


# options are the classes


def _yes_no(names: dict, records: Sequence[Record]) -> Shape | None:
    """A question, often with a passage, answered by yes or no."""
    question, answer = _first(names, ("question", "query")), _first(names, ("answer", "label"))
    if question is None or answer is None:
        return None
    values = {str(r.values.get(answer)).strip().casefold() for r in records}
    if not values or not values <= set(YES):
        return None
    passage = next((names[a] for a in (*AFTER, *BEFORE) if a in names), None)

    def row(values: dict) -> Row | str:
        asked, said = text_of(values.get(question)), YES.get(str(values.get(answer)).strip().casefold())
        if asked is None or said is None:
            return f"{question} is no text" if said is not None else NO_ANSWER
        more = text_of(values.get(passage)) if passage else None
        return Row(" ".join(filter(None, (asked.rstrip("?") + "?", more))), ("yes", "no"), said, more or "")

    return Shape("a question that is answered by yes or no", [c for c in (question, passage, answer) if c], row)


def _classes(names: dict, records: Sequence[Record]) -> Shape | None:
    """Texts and their classes."""
    texts = next(([names[a], names[b]] for a, b in TEXTS if a in names and b in names), None)
    texts = texts or [c for c in (_first(names, (*TEXT, *LONE)),) if c]
    free = [names[n] for n in LABEL if n in names and names[n] not in texts]
    if "answer" in names:
        free.append(names["answer"])
    for label in free:
        counts = Counter(filter(None, (_class(r.values.get(label)) for r in records)))
        if texts and 2 <= len(counts) <= MOST_CLASSES and 3 * len(counts) <= sum(counts.values()):
            break
    else:
        return None
    classes = tuple(sorted(counts, key=lambda c: (_number(c) is None, _number(c) or 0, c)))

    def row(values: dict) -> Row | str:
        said, parts = _class(values.get(label)), [text_of(values.get(c)) for c in texts]
        if said is None:
            return NO_ANSWER
        return Row(" ".join(filter(None, parts)), classes, classes.index(said)) if any(parts) else f"{texts[0]} is no text"

    notes = []
    if all(_number(c) is not None for c in classes):
        notes.append("The classes are numbers, which tell a frozen model nothing; a column label_text with their names would help it.")
    return Shape(f"texts of {len(classes)} classes", [*texts, label], row, notes)


def _few_or_many(names: dict, records: Sequence[Record]) -> None:
    """Refuse texts with labels that are no classes, with the reason. Raises ConfigError; nothing where there are no such columns."""
    text = _first(names, (*TEXT, *LONE))
    label = next((names[n] for n in LABEL if n in names and names[n] != text), None)
    if text is None or label is None or any(n in names for n in (*OPTIONS, "answer", "answerkey")):
        return
    found = [c for c in (_class(r.values.get(label)) for r in records) if c is not None]
    count = len(set(found))
    if count < 2:
        raise ConfigError(f"column '{label}' has {'one class only' if count else 'no label'}; at least 2 classes are needed.")
    if count > MOST_CLASSES:
        raise ConfigError(f"column '{label}' has {count:,} classes; at most {MOST_CLASSES} are allowed.")
    raise ConfigError(f"column '{label}' has {count} classes in {len(found):,} rows; three rows a class are needed at least.")


def _class(value) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    said = re.sub(r"^(-?\d+)\.0$", r"\1", text_of(value) or "")  # a column of integers with a gap in it is written so
    return None if said in ("", "-1") else " ".join(said.replace("_", " ").split())


# options are the answers of other rows


def _pairs(names: dict, records: Sequence[Record]) -> Shape | None:
    """Questions and free answers."""
    question, answer = _first(names, PAIR[0]), _first(names, PAIR[1])
    if question is None or answer is None or question == answer:
        return None
    pool = list(dict.fromkeys(filter(None, (text_of(r.values.get(answer)) for r in records))))
    if len(pool) <= WRONG:
        return None
    before = next((names[c] for c in (*BEFORE, *AFTER) if c in names), None)

    def row(values: dict) -> Row | str:
        asked, said = text_of(values.get(question)), text_of(values.get(answer))
        if asked is None or said is None:
            return f"{question} is no text" if asked is None else NO_ANSWER
        rng = random.Random(f"wrong {asked}")  # the same row gets the same wrong answers wherever it stands
        wrong = [w for w in rng.sample(pool, min(len(pool), WRONG + 1)) if w.casefold() != said.casefold()][:WRONG]
        more = text_of(values.get(before)) if before else None
        return Row(" ".join(filter(None, (asked, more))), (said, *wrong), 0, more or "")

    note = f"A row has no wrong options of its own: {WRONG} answers of other rows are put beside the right one."
    return Shape("questions and answers", [c for c in (question, before, answer) if c], row, [note])
