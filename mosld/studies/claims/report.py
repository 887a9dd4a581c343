"""The report: verdicts as plain data, and one HTML and one Markdown page with pictures, from the stored results alone.

- `rows(folder)`: a dict a claim, ready for a page; quick, since it reads what the last report worked out.
- `live(ids, setting, runs)`: what other runs say, beside the stored verdicts.
- `html(folder)`: the HTML page as text. `write(folder)`: verdicts.json, report.md, report.html and the pictures.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from mosld.config import ConfigError
from mosld.studies.claims import CLAIMS
from mosld.studies.claims.claim import Setting
from mosld.studies.claims.results import FOLDER

VERDICTS = "verdicts.json"
BY_NUMBER = sorted(CLAIMS, key=lambda i: int(i[1:]))


def rows(folder: Path | None = None) -> list[dict]:
    """Every claim with its verdicts, C1 first. Before there are results every verdict is 'not run'.

    Keys: `id`, `title`, `says` (the paper), `printed` (its value or None), `plain` (for a newcomer), `differs`, `change`, `verdict` {recipe,
    tuned}, `caution` (a sentence where something beside it speaks against it, else ''), `figure` and `figure_tuned` (differences with intervals),
    `seeds`, `unit`, `parts` (label, mean, low, high, verdict, of the primary setting's recipe), `settings` (setting, title, reading, verdict,
    mean, low, high, seeds: every one that was run).
    """
    path = Path(folder or FOLDER) / VERDICTS
    stored = {r["id"]: r for r in json.loads(path.read_text(encoding="utf-8"))["claims"]} if path.is_file() else {}
    empty = {
        "verdict": {"recipe": "not run", "tuned": "not run"},
        "caution": "",
        "figure": "",
        "figure_tuned": "",
        "seeds": 0,
        "unit": "",
        "parts": [],
        "settings": [],
    }
    return [{**_words(i), **empty, **stored.get(i, {})} for i in BY_NUMBER]


def _words(i: str) -> dict:
    c = CLAIMS[i]
    return {"id": i, "title": c.title, "says": c.says, "printed": c.printed, "plain": c.plain, "differs": c.differs, "change": c.change}


def live(ids: Sequence[str], setting: Setting, runs: Mapping[str, dict]) -> list[dict]:
    """What `runs` say of some claims at the recipe's rate, a dict a contrast that decides: `id`, `reading`, `label`, `figure`, `verdict`, and
    `stored`, the verdict of the report. Verdicts of fewer than five seeds are not given: no test can settle anything then."""
    from mosld.studies.claims.analysis import outcome

    stored = {r["id"]: r for r in rows()}
    out = []
    for i in ids:
        if not CLAIMS[i].contrasts:
            continue
        for p in outcome(CLAIMS[i], setting, "recipe", runs, further=False).parts:
            said = p.verdict if len(p.values) >= 5 else f"{len(p.values)} seeds are too few"
            row = {"id": i, "reading": "recipe", "label": p.contrast.label, "figure": figure(p), "verdict": said}
            out.append(row | {"stored": f"{stored[i]['verdict']['recipe']} {stored[i]['figure']}".strip()})
    return out


def figure(p) -> str:
    """'+0.42 points [-0.10, 0.94], 20 seeds' of a part; empty where it was not run."""
    e = p.evidence
    if e is None:
        return f"{next(iter(p.values.values())):+.2f} {p.contrast.unit}, one seed" if p.values else ""
    return f"{e.mean:+.2f} {p.contrast.unit} [{e.interval[0]:.2f}, {e.interval[1]:.2f}], {e.n} seeds"


def plain_number(value: float, digits: int = 4) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)


def html(folder: Path | None = None) -> str:
    """The HTML report as it was written last. Raises ConfigError where there is none."""
    path = Path(folder or FOLDER) / "report.html"
    if not path.is_file():
        raise ConfigError("report: there is none yet; `python -m mosld claims report` writes it from the stored results.")
    return path.read_text(encoding="utf-8")


def write(folder: Path | None = None) -> list[Path]:
    """Write verdicts.json, report.md, report.html and the pictures into `folder`; returns their paths."""
    from mosld.studies.claims.writing import write as write_all

    return write_all(Path(folder or FOLDER))
