"""Knob values as texts: what is typed on the command line or stands in a link, read and written in one place; tables as text.

`read_*` take a text (or a value that is already right) and raise ValueError; `to_text` is their inverse. `table` is Markdown.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any

NUMBER = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?"
QUOTED = 160  # letters of a user's text that a sentence quotes
LONGEST = 2000  # letters of a sentence
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(sentence: str) -> str:
    """A sentence that can be shown anywhere: on one line, no character that moves a cursor or turns the writing round, quotes cut short."""
    sentence = _UNSHOWN.sub(lambda found: found[0].encode("unicode_escape").decode(), str(sentence)[: 100 * LONGEST])
    sentence = re.sub(rf"'([^']{{{QUOTED + 1},}})'", lambda found: f"'{_short(found[1], QUOTED)}'", sentence)
    return _short(sentence, LONGEST)


def shown(value: Any, most: int = 60) -> str:
    """A user's value as a sentence quotes it; any value at all can be given."""
    try:
        text = repr(value[:1000] if isinstance(value, (str, bytes)) else value)
    except (ValueError, RecursionError, RuntimeError):  # a number of thousands of digits, a list within itself a thousand times
        return f"this {type(value).__name__}"
    return _short(text, most)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 21]}…{text[-20:]}"


def unfit(name: str, marks: str, empty: bool = False) -> str:
    """Why a name cannot be written into a link and read back: what is allowed, or nothing where it can.

    Args:
        marks: the characters that separate names. empty: whether a text without letters, and with blanks around it, may be.
    """
    if found := _UNSHOWN.search(name):
        return f"it has the character {found[0].encode('unicode_escape').decode()}, which cannot be shown"
    if not empty and name != name.strip():
        return "leave out the blanks around it"
    if not empty and not name:
        return "give a name that is not empty"
    used = [mark for mark in marks if mark in name]
    return f"a name cannot have '{used[0]}' in it" if used else ""


def _pairs(text: str, what: str) -> dict[str, str]:
    out: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, eq, value = part.partition("=")
        if not eq:
            raise ValueError(f"'{part}' is not of the form {what}")
        out[name.strip()] = value.strip()
    return out


def read_experts(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return "-".join(str(v) for v in value)
    return str(value) if isinstance(value, int) else value


def read_names(value: Any) -> Any:
    """Names with commas or plus signs between them; `re:` begins a regular expression, which goes on to the end of the text."""
    if isinstance(value, str):
        plain, regex = (m.group(1), m.group(2)) if (m := re.fullmatch(r"(.*?)(?:^|[,+])\s*(re:.*)", value, re.S)) else (value, "")
        return tuple(p.strip() for p in plain.replace("+", ",").split(",") if p.strip()) + ((regex.strip(),) if regex else ())
    return value


def read_tasks(value: Any) -> Any:
    """`a,b:2` or a list of names or a dict, to a dict of name to weight. A weight follows the last colon."""
    if isinstance(value, str):
        value = [p.strip() for p in value.split(",") if p.strip()]
    if isinstance(value, (list, tuple)):
        out: dict[str, Any] = {}
        for item in value:
            if not isinstance(item, str):
                raise ValueError(f"{shown(item)} is not a name")
            name, weight = _weighed(item)
            if name in out:
                raise ValueError(f"'{name}' is named twice")
            out[name] = weight
        return out
    return value


def _weighed(item: str) -> tuple[str, float]:
    """`name:2` as name and weight; a colon that belongs to a path is none of ours."""
    name, colon, weight = item.rpartition(":")
    if not colon or not re.fullmatch(NUMBER, weight.strip()):
        return item, 1.0
    return name.strip(), float(weight)


def read_options(value: Any) -> Any:
    return _pairs(value.replace("+", ","), "name=value") if isinstance(value, str) else value


def read_arms(value: Any) -> Any:
    """`dropout=0,0.1;method=mosld,mola`: the n-th values of every field make the n-th arm."""
    if not isinstance(value, str):
        return value
    columns: dict[str, list[str]] = {}
    for part in filter(None, (p.strip() for p in value.split(";"))):
        name, eq, values = part.partition("=")
        if not eq:
            raise ValueError(f"'{part}' is not of the form field=value,value")
        if name.strip() in columns:
            raise ValueError(f"'{name.strip()}' is named twice")
        columns[name.strip()] = [v.strip() for v in values.split(",")]
    if not columns:
        return ({},)
    if len({len(v) for v in columns.values()}) > 1:
        raise ValueError("every field needs the same number of values, one an arm")
    if "balance" in columns:
        columns["balance"] = [None if v == "own" else v for v in columns["balance"]]
    return tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def to_text(name: str, value: Any) -> str:
    """A knob's value as typed on the command line: the inverse of what the schema reads."""
    if value is None:
        return "own"
    if name == "tasks":
        return ",".join(n if w == 1 and _weighed(n) == (n, 1.0) else f"{n}:{to_text('weight', float(w))}" for n, w in value.items())
    if name == "arms":
        if value == ({},):
            return ""
        names = list(dict.fromkeys(k for arm in value for k in arm))
        return ";".join(f"{n}={','.join(to_text(n, arm.get(n, '')).replace(',', '+') for arm in value)}" for n in names)
    if isinstance(value, dict):
        return ",".join(f"{k}={to_text(k, v)}" for k, v in value.items())
    if isinstance(value, (tuple, list)):
        return ",".join(str(v) for v in value)
    if isinstance(value, float):
        return repr(int(value)) if value == int(value) and math.fabs(value) < 1e15 else repr(value)
    return str(value)


def choose(value: str, names) -> str:
    """What a refusal says is allowed: the close names where one was mistyped, and all of them."""
    close = difflib.get_close_matches(str(value)[:80], list(names), n=2)
    return (f"did you mean {' or '.join(close)}? " if close else "") + f"choose one of {', '.join(names)}"


def table(rows: list[list[str]]) -> str:
    """Rows of text, the first a heading, as an aligned Markdown table; columns of numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, c)) for c in columns]
    right = [all(cell[:1] in "0123456789-+" for cell in c[1:]) for c in columns]
    cells = [[c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)] for row in rows]
    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])
