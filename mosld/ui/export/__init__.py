"""A run as ONE self-contained HTML file: the page's own pictures, time line and hover, from disk or any static host, without a server.

- `page(log)`: the text of the file, at most `MOST_BYTES` long.

It holds the scripts of the machine and the live pictures, the page's style sheets, `export.css` and the packed run, and asks for nothing else (its
own content security policy forbids it). The run is text that only `JSON.parse` reads; everything else of it is escaped.
"""

from __future__ import annotations

import datetime
import json
from html import escape
from pathlib import Path

from mosld.config import knobs, to_text
from mosld.studies.export_files import lighter, portable
from mosld.studies.summary import summary
from mosld.training.runlog import RunLog
from mosld.ui.canvas import VIEWS, script
from mosld.ui.canvas.page import MACHINE, SHARED, TIMELINE_HTML
from mosld.ui.record import packed
from mosld.ui.wire import short

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
MOST_BYTES = 1_900_000
MOST_FRAMES = 1500  # as many as a chart has columns on a screen
LIVE = {name: view for name, view in VIEWS.items() if view.live}
SCRIPTS = [name for name in (*SHARED, *MACHINE) if name != "recorded"]  # the file's own run is all that it plays
STYLE = "\n".join(path.read_text(encoding="utf-8") for path in (ASSETS / "lab.css", ASSETS / "look.css", HERE / "export.css"))
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def page(log: RunLog, date: datetime.date | None = None) -> str:
    """The file's text. `log` needs at least one Frame. Of a run that is too long for the file, frames and probes are kept at even distances."""
    log, date = portable(log), date or datetime.date.today()
    frames = probes = MOST_FRAMES
    kept = lighter(log, probes, frames)
    while len(text := _assembled(log, kept, date).encode()) > MOST_BYTES:
        share = min(0.8, MOST_BYTES / len(text))
        probes = int(min(probes, sum(_probed(f) for f in kept.frames)) * share)
        frames = max(2, int(min(frames, len(kept.frames)) * max(share, 0.7)))
        kept = lighter(log, max(2, probes), frames)
    return text.decode()


def _probed(frame) -> bool:
    return any(a.linears for a in frame.arms)


def _assembled(log: RunLog, kept: RunLog, date: datetime.date) -> str:
    names = ", ".join(log.arms)
    run = packed(kept, _note(log)).replace("<", "\\u003c")  # so that no name can end the script it stands in
    figures = "\n".join(view.html() for view in LIVE.values())
    scripts = "\n".join(dict.fromkeys([*map(script, SCRIPTS), *(view.script() for view in LIVE.values())]))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>MoSLD Lab: {escape(names)}</title>
<style>
{STYLE}
</style>
</head>
<body class="gradio-container">
<script>
{(HERE / "theme.js").read_text(encoding="utf-8")}
</script>
<main>
<header class="lab-head"><h1>A run of MoSLD Lab</h1><p>{escape(_about(log))}</p></header>
<noscript><p>The pictures need JavaScript; the tables below do not.</p></noscript>
{_scores(log)}
<div id="bar"><div id="timeline">{TIMELINE_HTML}</div></div>
<div class="lab-watch" id="watch"></div>
{figures}
{_settings(log, kept, date)}
</main>
<script type="application/json" id="run">{run}</script>
<script>
{scripts}
window.MoSLD.receive(document.getElementById("run").textContent);
window.MoSLD.timeline(document.getElementById("timeline"));
window.MoSLD.watch(document.getElementById("watch"));
for (const name of {json.dumps(list(LIVE))}) window.MoSLD.mount(name, document.getElementById("figure-" + name));
</script>
</body>
</html>
"""


def _about(log: RunLog) -> str:
    labels = list(dict.fromkeys(log.config.arm(i).label for i in range(len(log.arms))))
    tasks = ", ".join(map(short, log.tasks)) + (f"; held out: {', '.join(map(short, log.held_out))}" if log.held_out else "")
    return f"{' and '.join(labels)} on the backbone {log.config.backbone}, trained on {tasks}."


def _note(log: RunLog) -> str:
    last, steps = log.frames[-1], log.config.steps
    begun = f"{last.step} of {steps} steps"
    how = {"end": f"All {steps} steps", "diverged": f"Diverged after {begun}", "stopped": f"Stopped after {begun}"}.get(last.event, begun)
    return f"{how}, {last.seconds:.0f} seconds of training, replayed."


def _scores(log: RunLog) -> str:
    """The last accuracies: a row for chance and one an arm, a column a task."""
    sentence, rows = summary(log)
    if not rows:
        return f"<p>{escape(sentence)}</p>"
    lines = list(zip(*rows, strict=True))
    head = "".join(f'<th scope="col">{escape(short(cell))}</th>' for cell in lines[0][1:])
    body = "".join(f'<tr><th scope="row">{escape(n)}</th>{"".join(f"<td>{escape(c)}</td>" for c in cells)}</tr>' for n, *cells in lines[1:])
    return (
        f'<div class="lab-scores" role="region" tabindex="0" aria-label="Accuracies"><table><caption>{escape(sentence)}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _settings(log: RunLog, kept: RunLog, date: datetime.date) -> str:
    """Every setting, versions, what was left out, and the link's text; folded."""
    rows = [(k.name, to_text(k.name, getattr(log.config, k.name)) or "–", k.help) for k in knobs()]
    cells = "".join(f'<tr><th scope="row">{n}</th><td>{escape(v)}</td><td>{escape(text)}</td></tr>' for n, v, text in rows)
    versions = ", ".join(f"{name} {value}" for name, value in log.versions.items())
    parameters = " and ".join(f"{n:,}" for n in dict.fromkeys(log.parameters))
    all_probes, probes = (sum(map(_probed, which.frames)) for which in (log, kept))
    less = ""
    if len(kept.frames) < len(log.frames) or probes < all_probes:
        less = f"<p>To keep this file small, {len(kept.frames):,} of {len(log.frames):,} steps and {probes:,} of {all_probes:,} probes are in it.</p>"
    return (
        f'<section class="lab-figure lab-settings"><h2>Settings</h2><p>{parameters} trainable parameters. Exported on {date.isoformat()}; '
        f"made with {escape(versions)}.</p>{less}<p>Added to the address of a MoSLD Lab, this restores the settings:</p>"
        f'<p><code>?c={escape(log.config.to_url())}</code></p><details><summary>All settings</summary><div class="lab-scores" role="region" '
        f'tabindex="0" aria-label="All settings"><table><thead><tr><th scope="col">setting</th><th scope="col">value</th>'
        f'<th scope="col">meaning</th></tr></thead><tbody>{cells}</tbody></table></div></details></section>'
    )
