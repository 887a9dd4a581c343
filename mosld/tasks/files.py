"""A table of a user's own, read as records: JSON lines, a JSON array, CSV by comma, semicolon, tab or bar, Parquet; each also packed with gzip.

- `SUFFIXES`, `is_path(name)`: which names are files. `check(path)`: is it there, and not too large.
- `read(path)`: its `Record`s, each with the place it stands at, and the places that are no record, with the reason.

Texts may be UTF-8, UTF-16 or Windows-1252, with or without a byte order mark. Nothing in a file is executed, and a packed file is unpacked
no further than the bound on bytes.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from mosld.config import ConfigError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
MAX_BYTES = 25_000_000  # also of a packed file once unpacked
WRAPPERS = ("data", "rows", "examples", "questions", "items")  # keys under which a JSON object holds its array
SEPARATORS = ",;\t|"
csv.field_size_limit(MAX_BYTES)


@dataclass(frozen=True)
class Record:
    """One row: where it stands ('line 7'; 'row 7' where lines mean nothing) and its values by column name."""

    where: str
    values: dict


@dataclass(frozen=True)
class Unread:
    """A place in the file that is no record, and why."""

    where: str
    reason: str


def is_path(name: str) -> bool:
    """Whether a task name is the path of an own file rather than a name in the catalogue."""
    return _suffix(name) in SUFFIXES


def _suffix(name: str | Path) -> str:
    text = str(name).lower().removesuffix(".gz")
    return os.path.splitext(text)[1]


def check(path: str | Path) -> None:
    """Refuse a path that is not a file or is too large. Raises ConfigError."""
    if not os.path.isfile(path):  # unlike Path.is_file, this is quiet about names that no file can have
        raise ConfigError(f"tasks: '{str(path)[-80:]}' is not a file; give the path of one that ends in {', '.join(SUFFIXES)}.")
    if os.path.getsize(path) > MAX_BYTES:
        raise _too_large(Path(path))


def read(path: str | Path) -> tuple[list[Record], list[Unread]]:
    """All records of a file and the places that are none. Raises ConfigError for a file that is not of its kind at all."""
    check(path)
    file = Path(path)
    data = _bytes(file)
    kind = _suffix(file)
    if kind == ".parquet":
        return _parquet(file, data), []
    text = _text(file, data)
    if kind in (".csv", ".tsv"):
        return _csv(file, text)
    if kind == ".json" or text.lstrip()[:1] == "[":
        whole = _array(text)
        if whole is not None:
            records = [Record(f"row {n}", row) for n, row in enumerate(whole, 1) if isinstance(row, dict)]
            return records, [Unread(f"row {n}", "this is not a JSON object") for n, row in enumerate(whole, 1) if not isinstance(row, dict)]
    return _jsonl(text)


def _bytes(file: Path) -> bytes:
    try:
        with gzip.open(file) if file.suffix.lower() == ".gz" else file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise ConfigError(f"{file.name}: this is not a whole gzip file; pack it anew, or give it unpacked.") from None
    except OSError as error:
        raise ConfigError(f"{file.name}: the file cannot be read ({error.strerror}).") from None
    if len(data) > MAX_BYTES:
        raise _too_large(file)
    return data


def _text(file: Path, data: bytes) -> str:
    """The text of a file, its encoding told by its first bytes, else UTF-8, else Windows-1252, as Excel writes them."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encodings = ("utf-16",)
    elif data[1:2] == b"\0" or data[:1] == b"\0":  # UTF-16 of a Latin text without a mark
        encodings = ("utf-16-le" if data[1:2] == b"\0" else "utf-16-be",)
    else:
        encodings = ("utf-8-sig", "cp1252")
    for encoding in encodings:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            continue
        if "\0" not in text:
            return text
        line = text.count("\n", 0, text.index("\0")) + 1
    raise ConfigError(f"{file.name}, line {line}: this is not text; save the file as UTF-8.")


def _array(text: str) -> list | None:
    """The rows of a JSON array, or of an object that holds one; None where the text is something else, such as JSON lines."""
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(whole, dict):
        inside = next((whole[key] for key in WRAPPERS if isinstance(whole.get(key), list)), None)
        whole = _by_columns(whole) if inside is None else inside
    return whole if isinstance(whole, list) else None


def _by_columns(table: dict) -> list | None:
    """The rows of {column: {row: cell}}, as pandas writes a table; None where it is something else."""
    columns = list(table.values())
    if len(columns) < 2 or not all(isinstance(c, dict) and c.keys() == columns[0].keys() for c in columns):
        return None
    return [{name: column[row] for name, column in table.items()} for row in columns[0]]


def _jsonl(text: str) -> tuple[list[Record], list[Unread]]:
    records, unread = [], []
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        try:
            row = json.loads(content.strip().rstrip(","))
        except (ValueError, RecursionError):  # bad syntax, a number of thousands of digits, nesting without end
            unread.append(Unread(f"line {line}", "this is not one JSON object; write one object a line"))
            continue
        if isinstance(row, dict):
            records.append(Record(f"line {line}", row))
        else:
            unread.append(Unread(f"line {line}", "this is not a JSON object; write one object a line"))
    return records, unread


def _csv(file: Path, text: str) -> tuple[list[Record], list[Unread]]:
    """Records under the header of the first line. A record is named by the line it starts on, since a quoted text may hold line ends."""
    text = re.sub(r"^sep=.\r?\n", "\n", text)  # told to spreadsheets by some programs
    first = text.lstrip("\r\n").split("\n", 1)[0]
    separator = max(SEPARATORS, key=lambda c: (first.count(c), -SEPARATORS.index(c)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    records, unread, header, line = [], [], None, 1
    try:
        for cells in reader:
            if any(c.strip() for c in cells):
                if header is None:
                    header = [c.strip() for c in cells]
                elif len(cells) > len(header) and any(c.strip() for c in cells[len(header) :]):
                    reason = f"there are {len(cells)} columns; the header has {len(header)}: put quotes round a text that holds '{separator}'"
                    unread.append(Unread(f"line {line}", reason))
                else:
                    records.append(Record(f"line {line}", dict(zip(header, cells, strict=False))))
            line = reader.line_num + 1
    except csv.Error as error:
        raise ConfigError(f"{file.name}, line {line}: this is not CSV ({error}).") from None
    return records, unread


def _parquet(file: Path, data: bytes) -> list[Record]:
    import pandas

    try:
        table = pandas.read_parquet(io.BytesIO(data))
    except Exception as error:  # pyarrow has errors of many kinds
        raise ConfigError(f"{file.name}: this is not a Parquet file ({type(error).__name__}).") from None
    # Through JSON: arrays become lists and missing values None, whatever type the columns have.
    return [Record(f"row {n}", row) for n, row in enumerate(json.loads(table.to_json(orient="records", date_format="iso")), 1)]


def _too_large(file: Path) -> ConfigError:
    return ConfigError(f"{file.name}: the file is too large; at most {MAX_BYTES:,} bytes are allowed.")
