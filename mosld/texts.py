"""Knob values as texts: what is typed on the command line or stands in a link, read and written in one place; tables as text.

`read_*` take a text (or a value that is already right) and raise ValueError; `to_text` is their inverse. `table` is Markdown.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import Any


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
            name, colon, weight = str(item).rpartition(":")
            try:
                name, weight = (name, float(weight)) if colon else (item, 1.0)
            except ValueError:
                name, weight = item, 1.0  # a colon that belongs to a path
            if name in out:
                raise ValueError(f"'{name}' is named twice")
            out[name] = weight
        return out
    return value


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
        columns[name.strip()] = [v.strip() for v in values.split(",")]
    if not columns:
        return ({},)
    if len({len(v) for v in columns.values()}) > 1:
        raise ValueError("every field needs the same number of values, one an arm")
    return tuple(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))


def to_text(name: str, value: Any) -> str:
    """A knob's value as typed on the command line: the inverse of what the schema reads."""
    if value is None:
        return "own"
    if name == "tasks":
        return ",".join(n if w == 1 else f"{n}:{w:g}" for n, w in value.items())
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
    """What a refusal says is allowed: the close name where one was mistyped, and all of them."""
    close = difflib.get_close_matches(str(value)[:80], list(names), n=1)
    return (f"did you mean {close[0]}? " if close else "") + f"choose one of {', '.join(names)}"


def table(rows: list[list[str]]) -> str:
    """Rows of text, the first a heading, as an aligned Markdown table; columns of numbers to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, c)) for c in columns]
    right = [all(cell[:1] in "0123456789-+" for cell in c[1:]) for c in columns]
    cells = [[c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True)] for row in rows]
    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [cells[0], rule, *cells[1:]])
