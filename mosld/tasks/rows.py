"""Rows of a real task before they are split: what the converters give, how rows are cleaned, split by seed and kept on disk.

- `Row`: a question with its options, before it belongs to a part.
- `clean(rows)`: spaces tidied, long texts cut, rows that repeat or cannot be answered dropped; `tidied(row)` says why one is.
- `instructed(parts)`: the examples told what their instruction is.
- `split(rows, seed)`: training, validation and test rows, the same for the same seed; no group is in two of them.
- `dump` / `parse`: rows as JSON lines, for the cache.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace

from mosld.tasks.base import Example

LONGEST = 2000  # characters of a text: more than the 512 tokens a backbone may be given
MOST_TEST, MOST_VALIDATION = 500, 300


@dataclass(frozen=True)
class Row:
    """One question. `group`: rows of one group stay in one part (they share a passage, a review, a story); by default the question.
    `tested`: the publisher of the set keeps this row for testing, so it is never trained on.
    """

    question: str
    options: tuple[str, ...]
    answer: int
    group: str = ""
    tested: bool = False


def normalised(text: str) -> str:
    """Letters and digits in lower case: two texts that differ in case, spaces and punctuation only count as the same."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0]


def tidied(row: Row) -> Row | str:
    """The row with tidy texts, long ones cut, and its group as a short hash; or the reason why it cannot be used."""
    question, options = _cut(_tidy(row.question)), tuple(_cut(_tidy(option)) for option in row.options)
    distinct = {option.casefold() for option in options}
    if not question:
        return "the question is empty"
    if len(options) < 2 or "" in distinct:
        return "an option is empty" if "" in distinct else "there are fewer than two options"
    if len(distinct) < len(options):
        return "an option stands twice"
    if not 0 <= row.answer < len(options):
        return f"answer {row.answer} is not the place of an option"
    if any("\ud800" <= c <= "\udfff" for text in (question, *options) for c in text):  # half a character, which no tokenizer takes
        return "a text is not Unicode"
    # Only equality of groups matters, and a passage is long.
    group = hashlib.sha256((normalised(row.group) or normalised(question)).encode()).hexdigest()[:16]
    return Row(question, options, row.answer, group, row.tested)


def clean(rows: Iterable[Row]) -> list[Row]:
    """Rows with tidy texts. Dropped are: a question seen before, an empty or repeated option, fewer than two options."""
    out, seen = [], set()
    for row in map(tidied, rows):
        if isinstance(row, Row) and (key := normalised(row.question)) not in seen:
            seen.add(key)
            out.append(row)
    return out


def _part(rows: list[Row], most: int, rng: random.Random) -> tuple[list[Row], list[Row]]:
    """Whole groups, at random, until `most` rows are taken; and the rows of all other groups. What is over `most` is left out of both."""
    groups = sorted({row.group for row in rows})
    rng.shuffle(groups)
    size: dict[str, int] = {}
    for row in rows:
        size[row.group] = size.get(row.group, 0) + 1
    chosen, count = set(), 0
    for group in groups:
        if count >= most:
            break
        chosen.add(group)
        count += size[group]
    taken = [row for row in rows if row.group in chosen]
    rng.shuffle(taken)
    return taken[:most], [row for row in rows if row.group not in chosen]


def split(
    rows: list[Row], seed: int, shuffle_options: bool = False, validation: list[Row] | None = None
) -> tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]:
    """Training, validation and test part of cleaned rows: a fifth of the rows each for the last two, at most 300 and 500.

    Where the publisher holds rows out, the test part is drawn from these alone, and rows of their groups are not trained on; where
    the publisher names `validation` rows, that part is drawn from them.
    """
    rng = random.Random(f"split {seed}")
    tested = [row for row in rows if row.tested]
    if tested:
        fixed = {row.group for row in tested}
        test, _ = _part(tested, MOST_TEST, rng)
        rest = [row for row in rows if not row.tested and row.group not in fixed]
    else:
        test, rest = _part(rows, min(MOST_TEST, len(rows) // 5), rng)
    if validation:
        validation = [row for row in validation if row.group not in {r.group for r in tested}]
        kept, _ = _part(validation, MOST_VALIDATION, rng)
        train = [row for row in rest if row.group not in {r.group for r in validation}]
    else:
        kept, train = _part(rest, min(MOST_VALIDATION, len(rows) // 5), rng)
    rng.shuffle(train)
    return tuple(tuple(_example(row, rng if shuffle_options else None) for row in part) for part in (train, kept, test))


def _example(row: Row, rng: random.Random | None) -> Example:
    if rng is None:
        return Example(row.question, row.options, row.answer)
    order = rng.sample(range(len(row.options)), len(row.options))
    return Example(row.question, tuple(row.options[i] for i in order), order.index(row.answer))


def instructed(parts: tuple[tuple[Example, ...], ...], instruction: str = "") -> tuple[tuple[Example, ...], ...]:
    """The examples of the parts with their instruction named: the one given, or all of a question up to its first colon, where converters put it."""
    return tuple(tuple(replace(e, instruction=instruction or e.question.partition(":")[0] + ":") for e in part) for part in parts)


def dump(header: dict, rows: list[Row]) -> str:
    """JSON lines: the header with the number of rows, then one row a line."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in ({**header, "rows": len(rows)}, *map(asdict, rows)))


def parse(text: str) -> tuple[dict, list[Row]]:
    """What `dump` wrote. Raises ValueError for a file that is cut short or not of this form."""
    lines = text.split("\n")
    header = json.loads(lines[0])
    rows = [Row(**{**values, "options": tuple(values["options"])}) for values in map(json.loads, filter(None, lines[1:]))]
    if not isinstance(header, dict) or header.get("rows") != len(rows):
        raise ValueError("the file is cut short")
    return header, rows
