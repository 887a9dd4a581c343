"""The Merge tab: one adapter a task, trained here, then one model out of them.

First the sliders, one coefficient a task, that score the merge as they move; below them the merging methods, their table and what went on
inside. The work and what is kept of it is in `merge_work.py`; settings of merging are those of `MergeConfig` alone.
"""

from __future__ import annotations

from functools import partial

import gradio as gr

from mosld.config import ConfigError, RunConfig, knobs, to_text
from mosld.merging.config import MERGES, MergeConfig
from mosld.tasks import catalogue
from mosld.ui import STOP, TRAIN_ADAPTERS
from mosld.ui.canvas import VIEWS
from mosld.ui.compare.merge_work import MOST_TASKS, STEPS, Merging
from mosld.ui.controls import label, task_choices
from mosld.ui.evidence import share
from mosld.ui.folders import hidden
from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.session import Session, say
from mosld.ui.shown import BAR, shown, table
from mosld.ui.wire import short, to_json
from mosld.ui.work import Desk, Work

TITLE = "Merging"
KNOBS = {k.name: k for k in knobs(MergeConfig) if k.name != "methods" and k.group != "comparison"}
PROGRESS = (
    '<div class="merge-progress"><div class="merge-bar"><div data-if="busy" data-set="width:percent"></div></div>'
    '<p role="status" class="merge-told" data-text="text"></p></div>'
)
FIRST = f"LoRA of rank {RunConfig().rank} on nano, {STEPS} steps each: about 5 seconds an adapter on one core."
NOW = table(
    "merge-now",
    "One model for all tasks",
    "The merge, task by task",
    **{"Task": "name", "λ": "lam", "Merged": "merged", "0 to 100 %": BAR, "Own adapter": "own", "Untrained": "bare", "Guessing": "chance"},
)
NOW_WORDS = (
    "Each adapter was trained on one task; their updates are added up, each times its own λ. Right answers of the first 30 validation questions of "
    "each task; the red mark is the task's own adapter, the ring the untrained model, the dotted one guessing.",
    "Task Arithmetic: W + Σ λ τ, where τ = B A scaled, the update that one task's adapter adds to a frozen weight W. Not test questions: "
    "coefficients that were chosen by looking at them would make their accuracy say too much.",
)
WAYS = (
    '<section class="lab-figure lab-shelf" aria-labelledby="ways-title"><h2 id="ways-title">Ways to merge, on test questions</h2>'
    '<p class="lab-shows">One row a merge, newest last; under its name what it looked at. The red mark is the task\'s own adapter.</p>'
    '<div data-if="rows" class="lab-scroll" role="region" aria-label="Table of merges" tabindex="0"><table><thead><tr><th scope="col">Way</th>'
    '<th data-each="head" scope="col" data-text="."></th></tr></thead><tbody><tr data-each="rows"><th scope="row"><span data-text="label"></span>'
    f'<small data-text="under"></small></th><td data-each="cells"><span data-text="text"></span>{BAR}</td></tr></tbody></table></div>'
    "<details><summary>Definition</summary><p>Share of each task's test questions answered right; the mean is over the tasks. A merge is one model, "
    "single-task adapters are one model a task.</p><p>AdaMerging and Concrete learn from questions without answers. In their papers these are the "
    "test questions themselves; here they are validation questions unless you choose otherwise. Where a row says TEST questions, its accuracy is on "
    "questions the method has seen.</p><p>R-MTLLMF is built from its paper's abstract: hence 'after'. Its defence takes a few steps on labelled "
    "training questions. Seconds are of the merge alone.</p></details></section>"
)
SEEN = {"validation": "validation questions, without answers", "test": "the TEST questions, without answers, as in their papers"}


def place(lab: Lab) -> None:
    """Put the tab's components on the page and wire them."""
    MergeTab(lab).wire()


class MergeTab:
    """Components and events. What it keeps for a visitor is `session.tabs["merge"]`."""

    def __init__(self, lab: Lab):
        self.lab, default, lam = lab, RunConfig(), KNOBS["lam"]
        with gr.Row(elem_id="merge-front"):
            listed, names = task_choices(catalogue()), list(default.tasks)
            about = {"label": f"Tasks to merge, 2 to {MOST_TASKS}", "elem_id": "merge-tasks", "scale": 5}
            self.tasks = gr.Dropdown(listed, value=names, multiselect=True, max_choices=MOST_TASKS, **about)
            self.steps = gr.Number(STEPS, label="Steps an adapter", precision=0, elem_id="merge-steps", min_width=120, scale=1)
        train = _press(TRAIN_ADAPTERS, "train", FIRST)
        with gr.Row(elem_id="merge-play"):
            with gr.Column(visible=False, elem_id="merge-sliders", min_width=0) as self.panel:
                common = {"minimum": lam.low, "maximum": lam.high, "value": lam.default, "step": 0.05, "buttons": []}
                self.all = gr.Slider(label="λ of all", elem_id="merge-all", **common)
                self.sliders = [gr.Slider(label=f"λ {i + 1}", visible=False, elem_id=f"merge-lam-{i}", **common) for i in range(MOST_TASKS)]
            with gr.Column(elem_id="merge-now", min_width=0):
                self.now = shown(NOW, {"note": f"Press {TRAIN_ADAPTERS}: this shows their merge.", "words": NOW_WORDS})
        with gr.Column(visible=False, elem_id="merge-ways", min_width=0) as self.ways:
            with gr.Row(elem_id="merge-choose"):
                ways = [(m.label, name) for name, m in MERGES.items()]
                self.method = gr.Dropdown(ways, value="task-arithmetic", label="Way to merge", elem_id="merge-method")
                unlabelled = _setting("unlabelled")
            merge = _press("Merge", "merge")
            self.table = shown(WAYS, elem_id="merge-table")
            self.course = lab.picture(VIEWS["merge_course"])
            with gr.Accordion("Settings of merging", open=False, elem_id="merge-settings"), gr.Row(elem_id="merge-knobs"):
                self.settings = [unlabelled if name == "unlabelled" else _setting(name) for name in KNOBS]
        self.go, stop, told = zip(train, merge, strict=True)
        self.desk = Desk(lab, "merge-work", self.draw, [*told, self.table, self.course], self.go, stop)
        self.opened = [self.now, self.panel, self.ways, self.all, *self.sliders]

    def wire(self) -> None:
        train, merge = (button.click for button in self.go)
        for end in self.desk.wire(
            (train, [self.tasks, self.steps], self.plan_train),
            (merge, [self.method, *self.settings], self.plan_merge),
        ):
            end.then(self.open, None, self.opened, **AT_ONCE)
        given = {"trigger_mode": "always_last", **AT_ONCE}
        for slider in self.sliders:
            slider.input(self.rescore, self.sliders, [self.lab.feed, self.now], **given)
        self.all.input(self.together, self.all, [self.lab.feed, self.now, *self.sliders], **given)
        chosen = self.lab.handlers.controls.parts["tasks"]
        chosen.change(self.follow, chosen, self.tasks, **AT_ONCE)

    @staticmethod
    def of(session: Session) -> Merging:
        return session.tabs.setdefault("merge", Merging(session))

    def follow(self, request: gr.Request, names) -> dict:
        """Take the tasks of the page's controls, as many as can be merged, and a visitor's own files among the choices."""
        own = self.lab.look(request).own
        names = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
        choices = [*self.lab.handlers.controls.tasks, *((f"{short(p)} — own", p) for p in own)]
        return gr.update(choices=choices, value=names[:MOST_TASKS])

    # Long work.

    def plan_train(self, session: Session, _, names, steps) -> Work:
        state = self.of(session)
        runs = state.adapters(names, int(steps) if isinstance(steps, float) and steps.is_integer() else steps)
        return self._work(state, 0, partial(state.train, runs, MergeConfig().lam))

    def plan_merge(self, session: Session, _, method, *settings) -> Work:
        state, config = self.of(session), read(*settings)
        state.check_merge(method, config)
        return self._work(state, 1, partial(state.merge, method, config))

    def _work(self, state: Merging, place: int, do) -> Work:
        work = Work(do, state.session.limits.seconds)
        work.state, work.place, work.version = state, place, state.version  # the button that was pressed, and what of the results is on the page
        return work

    def draw(self, work: Work, sentence: str, share: float | None) -> tuple:
        """Progress beside the button that was pressed, and new results as they come."""
        told, state = [gr.skip(), gr.skip()], work.state
        busy = share is not None
        told[work.place] = {"text": sentence, "percent": round(100 * min(1.0, share)) if busy else 0, "busy": busy}
        new, work.version = work.version != state.version, state.version
        return (*told, ways(state), courses(state)) if new else (*told, gr.skip(), gr.skip())

    def open(self, request: gr.Request) -> tuple:
        """The sliders of the tasks that are here, at the coefficient they were scored with."""
        state = self.of(self.lab.look(request))
        if state.now is None or state.bench is state.shown:
            return (gr.skip(),) * len(self.opened)
        state.shown, tasks, there = state.bench, state.now["tasks"], gr.update(visible=True)
        sliders = [gr.update(visible=True, label=f"λ {task['name']}", value=task["lam"]) for task in tasks]
        return now(state), there, there, tasks[0]["lam"], *sliders, *[gr.update(visible=False)] * (MOST_TASKS - len(tasks))

    # Quick answers.

    def rescore(self, request: gr.Request, *lams) -> tuple:
        """The merge with the sliders' coefficients."""
        try:
            state = self.of(self.lab.visitor(request))
            state.rescore(list(lams))
        except ConfigError as problem:
            return say(hidden(str(problem)), error=True), gr.skip()
        return gr.skip(), now(state)

    def together(self, request: gr.Request, lam) -> tuple:
        """One coefficient for all tasks."""
        return *self.rescore(request, *[lam] * MOST_TASKS), *[lam] * MOST_TASKS


def _press(words: str, name: str, text: str = "") -> tuple:
    """A row with a button that starts long work, Stop, and its progress."""
    with gr.Row(elem_id=f"merge-do-{name}", elem_classes="merge-do"):
        go = gr.Button(words, variant="primary", size="md", elem_id=f"merge-{name}")
        stop = gr.Button(STOP, size="md", interactive=False, elem_id=f"merge-stop-{name}")
        told = shown(PROGRESS, {"text": text, "percent": 0, "busy": False}, elem_id=f"merge-told-{name}")
    return go, stop, told


def _setting(name: str) -> gr.components.Component:
    """The component of one of MergeConfig's knobs."""
    knob = KNOBS[name]
    common = {"label": label(name), "info": knob.help, "elem_id": f"merge-{name.replace('_', '-')}", "min_width": 200}
    if knob.choices:
        return gr.Dropdown([(SEEN.get(c, c), c) for c in knob.choices], value=knob.default, **common)
    if knob.kind in ("int", "float") and knob.default is not None:  # a Number cannot be empty: it would be 0
        return gr.Number(knob.default, precision=0 if knob.kind == "int" else None, **common)
    return gr.Textbox("" if knob.default is None else to_text(name, knob.default), max_length=400, **common)


def read(*settings) -> MergeConfig:
    """A checked MergeConfig from the settings' components. Raises ConfigError."""
    values = {}
    for (name, knob), value in zip(KNOBS.items(), settings, strict=True):
        if value is None or value == "":
            if knob.default is not None:
                raise ConfigError(f"{name}: it is empty; {knob.help[0].lower()}{knob.help[1:]}")
            continue
        values[name] = int(value) if knob.kind == "int" and isinstance(value, float) and value.is_integer() else value
    return MergeConfig(**values)


def now(state: Merging) -> dict:
    """The sliders' merge: the mean, then a row a task."""
    tasks, rows = state.now["tasks"], []
    means = {name: sum(t[name] for t in tasks) / len(tasks) for name in ("chance", "bare", "own")}
    for task in ({"name": "mean", "merged": state.now["mean"], **means}, *tasks):
        marks = [{"kind": kind, "at": 100 * task[kind]} for kind in ("chance", "bare", "own")]
        shares = {name: share(task[name]) for name in ("merged", "own", "bare", "chance")}
        rows.append(
            {"name": task["name"], "lam": f"{task['lam']:.2f}" if "lam" in task else "", "percent": 100 * task["merged"], "marks": marks, **shares}
        )
    return {"note": f"Merged and scored in {state.now['seconds']:.2f} s.", "rows": rows, "words": NOW_WORDS}


def ways(state: Merging) -> dict:
    """The table: the bare backbone, single-task adapters, then every merge."""
    own, rows = state.base[1], []
    for i, row in enumerate([*state.base, *state.results]):
        saw = "looked at nothing but adapters" if row["sees"] == "-" else f"looked at {row['sees']}"
        took = "" if row["seconds"] is None else "under 0.1 s" if row["seconds"] < 0.1 else f"{row['seconds']:.1f} s"
        under = "no adapter" if i == 0 else " · ".join(filter(None, ["a model a task" if i == 1 else "", saw, row["note"], took]))
        pairs = zip((row["mean"], *row["accuracy"]), (own["mean"], *own["accuracy"]), strict=True)
        cells = [{"text": share(v, 1), "percent": 100 * v, "marks": [{"kind": "own", "at": 100 * o}]} for v, o in pairs]
        rows.append({"label": row["label"], "under": under, "cells": cells})
    return {"head": ["Mean", *map(short, state.names)], "rows": rows}


def courses(state: Merging) -> str:
    """What can be looked into, newest first; a merge in one step has no course."""
    looks, offers = [], []
    for row in reversed(state.results):
        if row["course"]["parts"]:
            title = ", ".join(filter(None, [row["label"], row["note"], "on test questions" if row["sees"].startswith("TEST") else ""]))
            offers.append([str(len(looks)), title])
            looks.append({"title": title, **row["course"]})
    return to_json({"looks": looks, "offers": {"into": offers}}) if looks else ""
