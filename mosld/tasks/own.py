"""A user's own task: a JSONL or CSV file of question, options, answer.

- JSONL: one object a line, such as {"question": "2 + 2?", "options": ["4", "5"], "answer": 0}. The answer is the place of the right
  option, from 0, or its text.
- CSV: a header `question,options,answer`; options are separated by '|'; the answer is an option's text, or else its place from 0.

`load` reads such a file, and nothing in it is ever executed. Limits are the constants below; every fault is one sentence with
the file's name and the line.
"""

from __future__ import annotations

import csv
import io
import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

from mosld.config import ConfigError
from mosld.tasks.base import Example, Task, TaskInfo

SUFFIXES = (".jsonl", ".csv")
MAX_BYTES = 1_000_000
MIN_ROWS, MAX_ROWS = 12, 20_000
MIN_OPTIONS, MAX_OPTIONS = 2, 10
MAX_QUESTION, MAX_OPTION = 2000, 500  # characters
TEST_SHARE = 0.15  # of the questions; as many again for validation
COLUMNS = ("question", "options", "answer")


def is_path(name: str) -> bool:
    """Whether a task name is the path of an own file rather than a name in the catalogue."""
    return name.lower().endswith(SUFFIXES)


def check(path: str) -> None:
    """Refuse a path that is not a file or is too large. Raises ConfigError."""
    if not os.path.isfile(path):  # unlike Path.is_file, this is quiet about names that no file can have
        raise ConfigError(f"tasks: '{path[-80:]}' is not a file; give the path of a .jsonl or .csv file.")
    if os.path.getsize(path) > MAX_BYTES:
        raise _too_large(Path(path))


def load(path: str, seed: int = 0) -> Task:
    """The task in a file, split by the seed into training, validation and test rows.

    White space is evened out; a repeated row counts once and a repeated option counts once. Rows with the same question go into the
    same part. Where all rows have the same options the kind is 'labels'; else options are shuffled by the seed, so that their place
    tells nothing. The file's name, as an instruction, is put before each question. Raises ConfigError with file name and line.
    """
    check(path)
    file = Path(path)
    text = _text(file)
    rows: dict[Example, None] = {}
    records = _csv(file, text) if file.suffix.lower() == ".csv" else _jsonl(file, text)
    for count, (line, values) in enumerate(records, 1):
        if count > MAX_ROWS:
            raise _fault(file, line, f"there are too many rows; at most {MAX_ROWS} are allowed")
        rows[_example(file, line, *values)] = None
    groups: dict[str, list[Example]] = {}
    for row in rows:
        groups.setdefault(row.question.casefold(), []).append(row)
    if len(groups) < MIN_ROWS:
        last = text.rstrip().count("\n") + 1
        raise _fault(file, last, f"the file ends with {len(groups)} different questions; at least {MIN_ROWS} are needed")

    title = " ".join("".join(c if c.isalnum() else " " for c in file.stem).split())[:40] or "own task"
    kind = "labels" if len({frozenset(row.options) for row in rows}) == 1 else "options"
    info = TaskInfo(str(path), "own", title, f"{len(rows)} rows of your file {file.name}.", kind, "as you hold it", file.name)
    labels = next(iter(rows)).options
    rng = random.Random(f"own {seed}")
    order = list(groups.values())
    rng.shuffle(order)
    held = max(1, round(TEST_SHARE * len(order)))
    parts = (order[2 * held :], order[:held], order[held : 2 * held])
    return Task(info, *(tuple(_finish(row, title, kind, labels, rng) for group in part for row in group) for part in parts))


def _finish(row: Example, title: str, kind: str, labels: tuple[str, ...], rng: random.Random) -> Example:
    """The row as it is trained on: instruction in front; labels in one order everywhere, other options shuffled."""
    options = labels if kind == "labels" else tuple(rng.sample(row.options, len(row.options)))
    return Example(f"{title}: {row.question}", options, options.index(row.options[row.answer]))


def _text(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file.name}: the file cannot be read ({error.strerror}).") from None
    if len(data) > MAX_BYTES:
        raise _too_large(file)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _fault(file, data.count(b"\n", 0, error.start) + 1, "this is not UTF-8 text") from None


def _jsonl(file: Path, text: str) -> Iterator[tuple[int, tuple]]:
    """(line, (question, options, answer)) of each line that is not blank."""
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):  # bad syntax, a number of thousands of digits, nesting without end
            raise _fault(file, line, "this is not one JSON object; write one object a line") from None
        if not isinstance(row, dict):
            raise _fault(file, line, "this is not a JSON object; write one object a line")
        missing = [c for c in COLUMNS if c not in row]
        if missing:
            raise _fault(file, line, f"'{missing[0]}' is missing; a row needs {', '.join(COLUMNS)}")
        if not isinstance(row["options"], list):
            raise _fault(file, line, "options is not a list of texts")
        yield line, tuple(row[c] for c in COLUMNS)


def _csv(file: Path, text: str) -> Iterator[tuple[int, tuple]]:
    """(first line of the record, (question, options, answer)) of each record that is not blank."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        header = [c.strip().lower() for c in next(reader, [])]
        if sorted(header) != sorted(COLUMNS):
            raise _fault(file, line, f"the header must be {','.join(COLUMNS)}")
        line = reader.line_num + 1
        for record in reader:
            if any(c.strip() for c in record):
                yield line, _record(file, line, header, record)
            line = reader.line_num + 1  # a quoted text may hold line ends; a record is named by the line it starts on
    except csv.Error as error:
        raise _fault(file, line, f"this is not CSV ({error})") from None


def _record(file: Path, line: int, header: list[str], record: list[str]) -> tuple:
    if len(record) != len(COLUMNS):
        raise _fault(file, line, f"there are {len(record)} columns; {len(COLUMNS)} are needed, with quotes round a text with commas")
    row = dict(zip(header, record, strict=True))
    options, answer = row["options"].split("|"), row["answer"].strip()
    # Options may themselves be numbers, so a text that is an option is that option.
    if answer.isascii() and answer.isdigit() and len(answer) <= 2 and answer not in map(str.strip, options):
        answer = int(answer)
    return row["question"], options, answer


def _example(file: Path, line: int, question, options, answer) -> Example:
    """A checked row, without instruction."""
    question = _clean(file, line, "question", question, MAX_QUESTION)
    options = [_clean(file, line, "option", o, MAX_OPTION) for o in options]
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(options):
            raise _fault(file, line, f"answer {answer} is not the place of an option; give a number from 0 to {len(options) - 1}")
        answer = options[answer]
    else:
        answer = _clean(file, line, "answer", answer, MAX_OPTION)
        if answer not in options:
            raise _fault(file, line, f"answer '{answer[:40]}' is not among the options")
    options = tuple(dict.fromkeys(options))
    if not MIN_OPTIONS <= len(options) <= MAX_OPTIONS:
        raise _fault(file, line, f"options: the row has {len(options)} different ones; {MIN_OPTIONS} to {MAX_OPTIONS} are allowed")
    return Example(question, options, options.index(answer))


def _clean(file: Path, line: int, what: str, value, limit: int) -> str:
    if not isinstance(value, str):
        raise _fault(file, line, f"{what} must be a text" + (" or a whole number" if what == "answer" else ""))
    value = " ".join(value.split())
    if not 1 <= len(value) <= limit:
        raise _fault(file, line, f"{what} has {len(value)} characters; 1 to {limit} are allowed")
    if any("\ud800" <= c <= "\udfff" for c in value):  # JSON can escape half a character, which no tokenizer takes
        raise _fault(file, line, f"{what} is not Unicode text")
    return value


def _too_large(file: Path) -> ConfigError:
    return ConfigError(f"{file.name}: the file is too large; at most {MAX_BYTES:,} bytes are allowed.")


def _fault(file: Path, line: int, what: str) -> ConfigError:
    return ConfigError(f"{file.name}, line {line}: {what}.")
