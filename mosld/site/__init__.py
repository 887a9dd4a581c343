"""The lab without a server: `python -m mosld site --out DIR` writes a folder of plain files that opens from disk or on any static host.

    index.html    what is here           watch.html    the machine, playing the recorded run of every question
    learn.html    all lessons on recorded runs: guess, then reveal           claims.html    the report on the paper's claims
    lab.js, lab.css, runs/NAME.js    the page's own drawings and style; a recorded run is loaded when it is asked for

- `write(folder)`: all of it, at most `MOST_BYTES`. Nothing is trained, nothing is asked of another host.

A recorded run is a script and no data file, since a page that is opened from disk may load the one and not the other.
"""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path

from mosld.config import ConfigError
from mosld.studies.claims import report
from mosld.ui.canvas.base import script
from mosld.ui.canvas.page import MACHINE, SHARED, TIMELINE_HTML
from mosld.ui.learn.room import told
from mosld.ui.record import recorded, runs
from mosld.ui.watch.questions import offered

HERE = Path(__file__).parent
UI = HERE.parent / "ui"
MOST_BYTES = 15_000_000
PAGES = {"index": "MoSLD Lab", "learn": "Learn", "watch": "Watch", "claims": "Claims"}
LESS = "\\u003c"  # what "<" is in the data, so that no text in it can end its script
FRONT = """---
title: MoSLD Lab, recorded
emoji: 🔀
colorFrom: blue
colorTo: gray
sdk: static
license: apache-2.0
---

Recorded runs, lessons and claims of MoSLD Lab, without a server. Made by `python -m mosld site --out DIR`.
"""


def write(folder: str | Path, lab: str = "") -> list[Path]:
    """Write the site into `folder`, which is made; returns the files. `lab`: address of a running lab, linked where one can train.

    Raises ConfigError where the folder cannot be written, or a recorded run is missing.
    """
    folder = Path(folder)
    if lab and not lab.startswith(("http://", "https://")):
        raise ConfigError(f"lab: '{lab[:80]}' is not an address; give one that begins with http:// or https://.")
    files = {"README.md": FRONT, "lab.js": _scripts(lab), "lab.css": _styles()}
    for name in runs():
        data = recorded(name)
        if data is None:
            raise ConfigError(f"site: the recorded run '{name}' is missing; make it with: python -m mosld.ui.record {name}")
        files[f"runs/{name}.js"] = f'MoSLD.take("runs/{name}.json", "{base64.b64encode(data).decode()}");\n'
    try:
        files["claims.html"] = _claims(report.html())
    except ConfigError:  # before the study was run
        pages = {name: title for name, title in PAGES.items() if name != "claims"}
    else:
        pages = PAGES
    bodies = {"index": _index(pages), "learn": '<div class="lab-learn" id="learn"></div>', "watch": _watch()}
    files |= {f"{name}.html": _page(name, pages, body, lab) for name, body in bodies.items()}
    total = sum(len(text.encode()) for text in files.values())
    if total > MOST_BYTES:
        raise ConfigError(f"site: {total:,} bytes are too many; at most {MOST_BYTES:,} are written.")
    try:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"out: '{folder}' cannot be written ({error.strerror}).") from None
    return [folder / name for name in files]


def _scripts(lab: str) -> str:
    """The page's drawings, then what stands in for its server."""
    drawn = "\n".join(script(name) for name in (*SHARED, *MACHINE, "rooms", "learn"))
    return f"{drawn}\nwindow.MoSLD.lab = {json.dumps(lab)};\n{(HERE / 'site.js').read_text(encoding='utf-8')}"


def _styles() -> str:
    sheets = (UI / "assets" / "lab.css", UI / "assets" / "learn.css", UI / "export" / "export.css", HERE / "site.css")
    return "\n".join(sheet.read_text(encoding="utf-8") for sheet in sheets)


def _page(name: str, pages: dict[str, str], body: str, lab: str) -> str:
    """One page: head, rooms, body, and the data its room is drawn from."""
    nav = "".join(f'<a href="{n}.html"{_current(n == name)}>{escape(title)}</a>' for n, title in pages.items() if n != "index")
    train = f'<a href="{escape(lab)}">Train your own</a>' if lab else "Train your own: <code>python app.py</code>"
    data = json.dumps({"learn": told(), "watch": offered()}.get(name, [])).replace("<", LESS)
    keys = f'<p class="lab-keys">recorded runs · {train}</p>'
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<link rel="stylesheet" href="lab.css">
<title>{escape("MoSLD Lab" if name == "index" else f"{PAGES[name]}: MoSLD Lab")}</title>
</head>
<body class="gradio-container site" data-room="{name}">
<header class="lab-head"><h1><a href="index.html">MoSLD Lab</a></h1><nav aria-label="Pages">{nav}</nav>{keys}</header>
<noscript><p>The pictures need JavaScript.</p></noscript>
<main>{body}</main>
<script type="application/json" id="data">{data}</script>
<script src="lab.js"></script>
</body>
</html>
"""


def _current(here: bool) -> str:
    return ' aria-current="page"' if here else ""


def _watch() -> str:
    return (
        f'<div class="site-watch"><div class="lab-questions" id="questions"></div><div><div id="bar"><div id="timeline">{TIMELINE_HTML}</div></div>'
        '<div class="lab-watch" id="watch"></div></div></div>'
    )


def _index(pages: dict[str, str]) -> str:
    about = {
        "watch": "One adapted linear, drawn as what it is, alive with the numbers of a recorded run: choose a question, guess, and watch.",
        "learn": "Eight short lessons. Guess first; the recorded run then shows what happened.",
        "claims": "What the MoSLD paper claims, measured with seeds and intervals, and what holds here.",
    }
    cards = "".join(f'<a class="lab-card" href="{n}.html"><h2>{escape(pages[n])}</h2><p>{about[n]}</p></a>' for n in about if n in pages)
    lead = (
        "A mixture of LoRA experts adds a few small matrices to a frozen language model and a router that chooses among them, word by word. "
        "This is a recording of the lab where such mixtures are trained live."
    )
    questions = "".join(
        f'<li><a href="watch.html?question={q["name"]}">{escape(q["title"])}</a> <span>{escape(q["about"])}</span></li>' for q in offered()
    )
    lessons = "".join(f'<li><a href="learn.html?lesson={n}">{escape(lesson["title"])}</a></li>' for n, lesson in enumerate(told(), 1))
    lists = f"<div><h2>Questions to watch</h2><ul>{questions}</ul></div><div><h2>Lessons</h2><ol>{lessons}</ol></div>"
    return f'<p class="site-lead">{lead}</p><div class="site-cards">{cards}</div><div class="site-lists">{lists}</div>'


def _claims(report: str) -> str:
    """The report with the way back to the other pages."""
    links = "".join(f'<a href="{name}.html"{_current(name == "claims")}>{escape(title)}</a> ' for name, title in PAGES.items())
    style = "nav a{color:inherit;margin-right:1.2rem} nav a[aria-current]{font-weight:650;text-decoration:none}"
    return report.replace("<body>", f'<body>\n<nav aria-label="Pages"><style>{style}</style>{links}</nav>', 1)
