"""A user's own task: a file of questions in whatever shape it has.

- `load(path, seed, instruction)`: the task, split by the seed. `look(path, instruction)`: what was understood, with two rows as they are
  trained on.
- `check`, `is_path` and the bound on bytes are those of `files.py`; the shapes that are known are those of `shapes.py`.

The name of a file is no part of what is trained on: an instruction is put before each question only where one is given. Up to a tenth of
the rows may be faulty: they are left out, counted and named. Every refusal is one sentence with the file's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mosld.config import ConfigError
from mosld.fetch import Progress
from mosld.tasks.base import Example, Task, TaskInfo
from mosld.tasks.files import MAX_BYTES, SUFFIXES, Record, Unread, check, is_path, read
from mosld.tasks.rows import LONGEST, Row, instructed, normalised, split, tidied
from mosld.tasks.shapes import MOST_OPTIONS, NO_ANSWER, Shape, plain, recognise

__all__ = ["MAX_BYTES", "SUFFIXES", "Look", "check", "is_path", "load", "look"]

MIN_ROWS, MAX_ROWS = 12, 200_000
MAX_QUESTION, MAX_OPTION, MAX_OPTIONS = LONGEST, LONGEST, MOST_OPTIONS  # what a text typed into the lab may have
NAMED = 5  # faulty rows named one by one
SPLITS = ("split", "set", "partition", "fold", "subset")
PARTS = {"train": "train", "training": "train", "test": "test", "testing": "test", "eval": "test"}
PARTS |= dict.fromkeys(("validation", "valid", "val", "dev", "development"), "validation")


@dataclass(frozen=True)
class Look:
    """What was understood of a file. `examples`: two rows of the training part, as they are trained on."""

    says: str
    used: tuple[str, ...]
    unused: tuple[str, ...]
    notes: tuple[str, ...]
    rows: tuple[int, int, int]  # training, validation, test
    options: tuple[str, ...]  # of every question, where all have the same; else empty
    examples: tuple[Example, ...]

    def text(self) -> str:
        """All of it in lines, for the terminal and the page."""
        train, validation, test = self.rows
        lines = [
            f"Understood as {self.says}, from the columns {', '.join(self.used)}.",
            f"Rows: {train:,} to train on, {validation:,} for validation, {test:,} for the test.",
        ]
        if self.unused:
            lines.append(f"Not used: {', '.join(self.unused)}.")
        lines += self.notes
        for n, e in enumerate(self.examples, 1):
            shown = " | ".join(e.options[:8]) + (" | …" if len(e.options) > 8 else "")
            lines.append(f"Example {n}: {e.question[:300]} → {shown[:300]}   (right: {e.options[e.answer][:80]})")
        return "\n".join(lines)


def load(path: str | Path, seed: int = 0, instruction: str = "", progress: Progress | None = None) -> Task:
    """The task in a file, split by the seed into training, validation and test rows.

    White space is evened out, long texts are cut, and a row that stands twice counts once. Rows with the same question or passage go into
    the same part; a column `split` is honoured. Where all rows have the same options the kind is 'labels'; else options are shuffled by the
    seed, so that their place tells nothing. `progress` hears what was left out. Raises ConfigError, one sentence with the file's name.
    """
    return _read(path, seed, instruction, progress)[0]


def look(path: str | Path, instruction: str = "", seed: int = 0) -> Look:
    """What `load` makes of a file. Raises ConfigError as it does."""
    task, shape, unused, notes = _read(path, seed, instruction, None)
    sizes = (len(task.train), len(task.validation), len(task.test))
    options = task.train[0].options if task.info.kind == "labels" else ()
    return Look(shape.says, tuple(shape.used), unused, notes, sizes, options, task.train[:2])


def _read(path: str | Path, seed: int, instruction: str, progress: Progress | None) -> tuple[Task, Shape, tuple[str, ...], tuple[str, ...]]:
    file = Path(path)
    records, unread = read(file)
    if not records:
        first = f"{unread[0].where}: {unread[0].reason}" if unread else "it holds no row"
        raise ConfigError(f"{file.name}: no row of the file can be read; {first}.")
    if len(records) > MAX_ROWS:
        raise ConfigError(f"{file.name}: there are {len(records):,} rows; at most {MAX_ROWS:,} are allowed.")
    try:
        shape = recognise(records)
    except ConfigError as problem:
        raise ConfigError(f"{file.name}: {problem}") from None
    parts, notes = _rows(file, records, unread, shape)
    notes = (*shape.notes, *notes)
    train, validation, test = parts["train"], parts["validation"], parts["test"]
    if not test:  # where the test answers are kept secret, the published validation rows are tested on
        validation, test = [], validation
    rows = train + [Row(r.question, r.options, r.answer, r.group, True) for r in test]
    every = rows + validation
    left = len({normalised(r.question) for r in every})
    if left < MIN_ROWS:
        raise ConfigError(f"{file.name}: {left} different question{' is' if left == 1 else 's are'} left; at least {MIN_ROWS} are needed.")
    sets = {frozenset(r.options) for r in every}
    kind = "labels" if len(sets) == 1 else "options"
    labels = every[0].options if kind == "labels" else None
    done = split([_finish(r, instruction, labels) for r in rows], seed, kind == "options", [_finish(r, instruction, labels) for r in validation])
    if instruction.strip():
        done = instructed(done, _before(instruction))
    for name, part in zip(("training", "validation", "test"), done, strict=True):
        if not part:
            raise ConfigError(f"{file.name}: no row is left for the {name} part; give more rows, or another split.")
    if len({e.options[e.answer] if kind == "labels" else e.answer for e in (*done[0], *done[2])}) == 1 and kind == "labels":
        notes = (*notes, f"Every answer is '{done[0][0].options[done[0][0].answer]}': there is nothing to learn.")
    info = TaskInfo(str(path), "own", file.name[:60], f"{shape.says[0].upper()}{shape.says[1:]}.", kind, "as you hold it", file.name)
    for note in notes if progress is not None else ():
        progress(f"{file.name}: {note}", None)
    used = {plain(c) for c in shape.used}
    unused = tuple(dict.fromkeys(str(c)[:40] for r in records[:50] for c in r.values if plain(c) not in ("", *used, *SPLITS)))
    return Task(info, *done), shape, unused, notes


def _finish(row: Row, instruction: str, labels: tuple[str, ...] | None) -> Row:
    """The row as it is trained on: the instruction in front, labels in one order everywhere."""
    question = f"{_before(instruction)} {row.question}" if instruction.strip() else row.question
    options = labels or row.options
    return Row(question, options, options.index(row.options[row.answer]), row.group, row.tested)


def _before(instruction: str) -> str:
    """An instruction as it stands before a question."""
    return f"{instruction.strip().rstrip(':')}:"


def _rows(file: Path, records: list[Record], unread: list[Unread], shape: Shape) -> tuple[dict[str, list[Row]], list[str]]:
    """Rows of each part that the file names ('train' where it names none), and notes on what was left out. Raises ConfigError."""
    by = next((c for c in records[0].values if plain(c) in SPLITS and plain(c) not in map(plain, shape.used)), None)
    parts: dict[str, dict[Row, None]] = {"train": {}, "validation": {}, "test": {}}
    faults, secret, answers = list(unread), 0, {}
    for record in records:
        row = shape.row(record.values)
        row = tidied(row) if isinstance(row, Row) else row
        if isinstance(row, Row) and len(row.options) > MOST_OPTIONS and not shape.says.startswith("texts"):
            row = f"there are {len(row.options)} options; at most {MOST_OPTIONS} are allowed"
        if row == NO_ANSWER:
            secret += 1
        elif isinstance(row, str):
            faults.append(Unread(record.where, row))
        else:
            parts[PARTS.get(str(record.values.get(by)).strip().casefold(), "train")][row] = None
            answers.setdefault((normalised(row.question), frozenset(row.options)), set()).add(row.options[row.answer])
    notes, total = [], len(records) + len(unread)
    if secret:
        notes.append(f"Left out for want of an answer: {secret:,} of {total:,} rows.")
    if faults:
        faults.sort(key=lambda f: int(f.where.split()[1]))
        kind, numbers = faults[0].where.split()[0], ", ".join(f.where.split()[1] for f in faults[:NAMED])
        where = f"{kind if len(faults) == 1 else kind + 's'} {numbers}{', …' if len(faults) > NAMED else ''}"
        if 10 * len(faults) > total - secret:
            raise ConfigError(f"{file.name}: {len(faults):,} of {total:,} rows cannot be used ({where}); {faults[0].where}: {faults[0].reason}.")
        notes.append(f"Left out: {len(faults):,} of {total:,} rows ({where}); {faults[0].where}: {faults[0].reason}.")
    both = sum(len(a) > 1 for a in answers.values())
    if both:
        notes.append(f"{both:,} {'question stands' if both == 1 else 'questions stand'} in the file with different answers.")
    whole = {name: list(rows) for name, rows in parts.items()}
    if not whole["train"]:  # one part alone: it is split as if none were named
        whole = {"train": whole["validation"] + whole["test"], "validation": [], "test": []}
    return whole, notes
