"""Compare: a shelf of this visitor's runs, and any two arms laid over one another.

- `place`: the table, and two choices with their picture.
- `shelf(session)`: the visitor's runs that can be read, by the name of their directory; what was read is kept until it changes.
- `table(shelf)`, `overlay(shelf, first, second)`: what the page shows, as plain data.
"""

from __future__ import annotations

import gradio as gr
from gradio.context import Context

from mosld.config import ConfigError
from mosld.registry import METHODS
from mosld.studies.shelf import DEFINITIONS, MEAN, Kept, baselines, differing, read
from mosld.ui import READ_RUNS, RUN
from mosld.ui.canvas import VIEWS
from mosld.ui.controls import label
from mosld.ui.folders import KEPT_RUNS, runs, shared
from mosld.ui.lab import QUIET, Lab
from mosld.ui.session import Session, say
from mosld.ui.shown import shown
from mosld.ui.wire import short, to_json

NOTE = f"Every run of this page is kept here, the last {KEPT_RUNS} of them; a row is an arm."
SHELF = (
    '<section class="lab-figure lab-shelf" aria-labelledby="shelf-title"><h2 id="shelf-title">The runs so far</h2>'
    '<p class="lab-shows" data-text="note"></p>'
    '<div data-if="rows" class="lab-scroll" role="region" aria-label="Table of runs" tabindex="0"><table><thead><tr>'
    '<th data-each="head" scope="col" data-set="class:kind"><span data-text="text"></span><small data-if="under" data-text="under"></small></th>'
    "</tr></thead><tbody>"
    '<tr data-each="rows" data-set="class:kind"><th scope="row"><span data-text="name"></span> '
    '<a data-if="link" data-set="href:link aria-label:says" target="_blank" rel="noopener">settings</a></th>'
    '<td data-each="cells" data-set="class:kind" data-text="text"></td></tr></tbody></table></div>'
    '<p data-each="words" data-text="."></p></section>'
)


def place(lab: Lab) -> gr.Button:
    """Put the tab's components on the page and wire them; returns the button that reads the runs again, which the browser presses too."""
    tab = Context.block  # the gr.Tab that the page has opened
    with gr.Row():
        again = gr.Button(READ_RUNS, size="md", elem_id="compare-again", scale=0, min_width=200)
    table_html = shown(SHELF, table({}), elem_id="shelf")
    with gr.Column(visible=False, elem_id="compare-rest", min_width=0) as rest:  # till there is a run
        with gr.Row(elem_id="compare-choice", elem_classes="lab-choice"):
            first = gr.Dropdown([], label="Compare", elem_id="compare-first")
            second = gr.Dropdown([], label="with", elem_id="compare-second")
        picture = lab.picture(VIEWS["overlay"])

    def refresh(request: gr.Request, one, other) -> tuple:
        """The table, the choices (kept where they are still there) and the picture."""
        session = lab.look(request)
        kept = shelf(session)
        choices = [(name, key) for key, (name, _, _) in arms(kept).items()]
        keys = [key for _, key in choices]
        one, other = (old if old in keys else new for old, new in zip((one, other), _suggested(keys), strict=True))
        text = overlay(kept, one, other) if keys else ""
        chosen = [gr.update(choices=choices, value=key) for key in (one, other)]
        return gr.skip(), table(kept), gr.update(visible=bool(keys)), *chosen, text

    def lay(request: gr.Request, one, other) -> tuple:
        try:
            return gr.skip(), overlay(shelf(lab.look(request)), one, other)
        except ConfigError as problem:
            return say(str(problem), error=True), gr.skip()

    for event in (tab.select, again.click):
        outputs = [lab.feed, table_html, rest, first, second, picture]
        event(refresh, [first, second], outputs, concurrency_id="shelf", concurrency_limit=2, trigger_mode="once", **QUIET)
    for part in (first, second):
        part.input(lay, [first, second], [lab.feed, picture], concurrency_id="shelf", concurrency_limit=2, trigger_mode="always_last", **QUIET)
    return again


def shelf(session: Session) -> dict[str, Kept]:
    """The visitor's runs that can be read now, oldest first."""
    before = session.tabs.get("compare", {})
    now = {}
    for folder in runs(session.folder):
        files = [folder / name for name in ("run.json", "frames.jsonl")]
        try:
            stamp = [(f.stat().st_mtime_ns, f.stat().st_size) for f in files]
            known = before.get(folder.name)
            now[folder.name] = known if known and known[0] == stamp else (stamp, read(folder))
        except (ConfigError, OSError):  # no step yet, or swept away for a newer one
            continue
    session.tabs["compare"] = now
    return {name: kept for name, (_, kept) in now.items()}


def arms(kept: dict[str, Kept]) -> dict[str, tuple[str, str, int]]:
    """Every arm on the shelf: key ('run-0001/0') to (name as shown, run, arm)."""
    return {
        f"{name}/{i}": (f"Run {_number(name)}, {row.label}" if len(run.rows) > 1 else f"Run {_number(name)}", name, i)
        for name, run in kept.items()
        for i, row in enumerate(run.rows)
    }


def _number(name: str) -> int:
    return int(name.rpartition("-")[2])


def _suggested(keys: list[str]) -> tuple[str | None, str | None]:
    """Two arms to begin with: the last two."""
    return (keys[-2] if len(keys) > 1 else keys[0], keys[-1]) if keys else (None, None)


def table(kept: dict[str, Kept]) -> dict:
    """Head, rows and sentences for SHELF; a visitor's own files stay out of the links."""
    if not kept:
        return {"note": f"{NOTE} There is none yet: press {RUN} in Watch.", "head": [], "rows": [], "words": []}
    all_runs = list(kept.values())
    knobs = differing(all_runs)
    tasks = list(dict.fromkeys(t for run in all_runs for t in run.tasks))
    held = list(dict.fromkeys(t for run in all_runs for t in run.held_out))
    columns = [(t, "") for t in tasks] + [(t, "held out") for t in held]
    head = [_cell("Run and arm", "name"), *(_cell(label(name), "text") for name in knobs), _cell("Mean", under="mixture")]
    head += [_cell(short(t), under=under or None) for t, under in columns]
    head += [_cell("Parameters", under="trainable"), _cell("Scored on", "text"), _cell("Seconds"), _cell("ms a step", under="all arms")]
    rows = []
    for text, of in baselines(all_runs).items():
        cells = [_cell("", "text") for _ in knobs]
        cells += [_cell(_range(of.get(t))) for t in (MEAN, *(t for t, _ in columns))] + [_cell("")] * 4
        rows.append({"kind": "baseline", "name": text, "cells": cells, "link": ""})
    for name, run, arm in arms(kept).values():
        log, row = kept[run], kept[run].rows[arm]
        at = list(kept).index(run)
        cells = [_cell(_shown(knob, texts[at][arm]), "text") for knob, texts in knobs.items()]
        cells.append(_cell(_range(row.over(log.tasks)[:1] * 2)))
        for task, under in columns:
            there = log.held_out if under else log.tasks
            cells.append(_cell(_range(row.accuracy.get(task, [])[:1] * 2 if task in there else None)))
        ms = "–" if log.step_ms != log.step_ms else f"{log.step_ms:.0f}"
        scored = (log.scored or "not yet") + (f"; diverged at step {log.step}" if log.event == "diverged" else "")
        cells += [_cell(f"{row.parameters:,}"), _cell(scored, "text"), _cell(f"{log.seconds:.1f}"), _cell(ms)]
        rows.append({"kind": "arm", "name": name, "cells": cells, "says": f"settings of {name}", "link": "?c=" + shared(log.config)})
    return {"note": NOTE, "head": head, "rows": rows, "words": _words(all_runs)}


def _cell(text: str, kind: str = "number", under: str | None = None) -> dict:
    return {"text": text, "kind": kind, "under": under}


def _shown(knob: str, text: str) -> str:
    """A knob's value in a table: methods by their labels, tasks without their suites and folders."""
    if knob == "method":
        return METHODS[text].label
    return ", ".join(short(t) for t in text.split(",")) if knob in ("tasks", "held_out") else text or "none"


def _range(values) -> str:
    """One number, or both ends where they differ; a dash for none."""
    if not values:
        return "–"
    low, high = (f"{v:.3f}" for v in values)
    return low if low == high else f"{low}–{high}"


def _words(all_runs: list[Kept]) -> list[str]:
    """What a reader should know of the table."""
    words = ["Accuracy is the share of questions answered right at the run's last scoring: on test rows once all steps are made."]
    if any(run.held_out for run in all_runs):
        words.append("Held out: a task that the run never trained on, so its accuracy is out of domain.")
    if len({frozenset(run.tasks) for run in all_runs}) > 1:
        words.append("The mixtures differ, and so do the tasks that their means are over.")
    if len({run.config.seed for run in all_runs}) > 1:
        words.append("Seeds differ, and with them the rows; where that changes chance, both ends are shown.")
    if len(all_runs) > 1 or len(all_runs[0].rows) > 1:
        words.append("One run each: a difference of a few hundredths can be chance. Milliseconds depend on what else the machine does.")
    return words


def overlay(kept: dict[str, Kept], first, second) -> str:
    """JSON text for the picture of two arms. Raises ConfigError for one that is not on the shelf."""
    there = arms(kept)
    for key in (first, second):
        if not isinstance(key, str) or key not in there:
            raise ConfigError(f"run: '{str(key)[:40]}' is not on the shelf; press '{READ_RUNS}'.")
    chosen = [there[key] for key in (first, second)]
    both = [kept[run] for _, run, _ in chosen]
    curves, steps = [kept[run].curves[arm] for _, run, arm in chosen], max(run.step for run in both)

    def chart(title: str, name: str, kind: str, define: str, chance: float | None = None) -> dict:
        series, apart = [c.get(name, []) for c in curves], [None] * len(curves)
        if kind == "percent":  # the last accuracy of a run that has ended is of other questions: it stands apart
            ended = [run.event == "end" and bool(points) for run, points in zip(both, series, strict=True)]
            apart = [points[-1][1] if end else None for points, end in zip(series, ended, strict=True)]
            series = [points[:-1] if end else points for points, end in zip(series, ended, strict=True)]
        return {"title": title, "kind": kind, "define": define, "chance": chance, "steps": steps, "series": series, "apart": apart}

    charts = [
        chart("loss", "loss", "nats", "Cross-entropy of the batch in nats, extra losses left out."),
        chart("mean accuracy", "mean accuracy", "percent", "Mean over the tasks of the run's mixture."),
        chart(
            "evenness of the gates", "evenness", "share", "Entropy of the mean gate over log E, mean over linears: 1 is an even use of all experts."
        ),
    ]
    charts += [chart(f"imbalance: {n}", f"imbalance {n}", "log2", "log2 of A over the mean of B, mean over linears: 0 is even.") for n in DEFINITIONS]
    for task in dict.fromkeys(t for run in both for t in [*run.tasks, *run.held_out]):
        held = [task in run.held_out for run in both if task in [*run.tasks, *run.held_out]]
        mark = " (held out)" if all(held) else " (held out of one)" if any(held) else ""
        chance = next(run.baselines["chance"][task] for run in both if task in run.baselines["chance"])
        charts.append(chart(short(task) + mark, f"accuracy {task}", "percent", "Share of validation questions answered right.", chance))
    part = {"names": [name for name, _, _ in chosen], "charts": charts}
    return to_json({"title": "Two arms over the steps", "parts": [part]})
