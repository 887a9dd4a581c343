"""What the Merge tab's events do: everything given is checked, what a visitor did wrong is one sentence on the feed.

`Parts` holds the tab's components; handlers answer with a dict from component to its new value.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import gradio as gr

from mosld.config import ConfigError, knobs
from mosld.merging.config import MergeConfig
from mosld.ui.compare.merge_work import MOST_TASKS, Merging
from mosld.ui.lab import Lab
from mosld.ui.session import say
from mosld.ui.wire import short, to_json
from mosld.ui.work import Stopped

log = logging.getLogger(__name__)
KNOBS = {k.name: k for k in knobs(MergeConfig) if k.name != "methods" and k.group != "comparison"}


@dataclass
class Press:
    """A button that starts long work, its Stop and its progress."""

    go: gr.Button
    stop: gr.Button
    told: gr.HTML


@dataclass
class Parts:
    """The tab's components."""

    tasks: gr.Dropdown
    steps: gr.Number
    train: Press
    now: gr.HTML
    all: gr.Slider
    sliders: list[gr.Slider]
    panel: gr.Column  # of the sliders
    ways: gr.Column  # of the merging methods
    method: gr.Dropdown
    merge: Press
    table: gr.HTML
    into: gr.Dropdown
    course: gr.HTML
    inside: gr.Column  # of the course
    settings: dict[str, gr.components.Component]

    @property
    def live(self) -> list:
        """What changes while long work goes on. Gradio makes each of an event's outputs anew at every answer: the fewer the better."""
        return [self.train.told, self.merge.told, self.table, self.into, self.course, self.inside]

    @property
    def pressed(self) -> list:
        """What changes at once when long work is asked for."""
        return [part for p in (self.train, self.merge) for part in (p.go, p.stop, p.told)]

    @property
    def shown(self) -> list:
        """All that long work may change in the end."""
        return [*dict.fromkeys([*self.pressed, *self.live]), self.now, self.panel, self.ways, self.all, *self.sliders]


class MergeHandlers:
    def __init__(self, lab: Lab, parts: Parts):
        self.lab, self.p = lab, parts

    def _of(self, request: gr.Request) -> Merging:
        session = self.lab.visitor(request)
        return session.tabs.setdefault("merge", Merging(session))

    def _refused(self, problem: ConfigError) -> dict:
        return {self.lab.feed: say(_hidden(problem), error=True)}

    def follow(self, request: gr.Request, names) -> dict:
        """Take the tasks of the page's controls, as many as can be merged, and a visitor's own files among the choices."""
        own = self.lab.look(request).own
        names = [n for n in names if isinstance(n, str)] if isinstance(names, list) else []
        choices = [*self.lab.handlers.controls.tasks, *((f"{short(p)} — own", p) for p in own)]
        return {self.p.tasks: gr.update(choices=choices, value=names[:MOST_TASKS])}

    # long work: plan, stream

    def plan_train(self, request: gr.Request, names, steps) -> dict:
        try:
            state = self._of(request)
            runs = state.adapters(names, int(steps) if isinstance(steps, float) and steps.is_integer() else steps)
            state.plan(partial(state.train, runs, MergeConfig().lam))
        except ConfigError as problem:
            return self._refused(problem)
        state.pressed = self.p.train
        return self._told(state, "Waiting for a free place …", busy=True)

    def plan_merge(self, request: gr.Request, method, *settings) -> dict:
        try:
            state, config = self._of(request), self.config(*settings)
            state.check_merge(method, config)
            state.plan(partial(state.merge, method, config))
        except ConfigError as problem:
            return self._refused(problem)
        state.pressed = self.p.merge
        return self._told(state, "Waiting for a free place …", busy=True)

    def stream(self, request: gr.Request) -> Iterator[dict]:
        """Progress of what was planned, and new results as they come; what else has changed is for `settle`."""
        state = self._of(request)
        bench, version, ending = state.bench, state.version, {self.lab.feed: gr.skip()}  # an empty dict is no answer to Gradio
        try:
            for text, part in state.stream():
                new, version = state.bench is bench and state.version != version, state.version
                yield {state.pressed.told: _progress(text, part), **(self._rows(state) if new else {})}
        except Stopped as stopped:
            state.told = f"{stopped}. Adapters keep what they have learned; a merge that was not done is dropped."
        except ConfigError as problem:
            ending = self._refused(problem)
        except Exception as problem:  # the visitor gets one sentence, the server's log the traceback
            log.exception("merging failed")
            ending = self._refused(ConfigError(f"merge: it broke off inside the lab ({type(problem).__name__}); press again to go on."))
        yield ending

    def settle(self, request: gr.Request) -> dict:
        """Everything as it is once the work has ended."""
        state = self._of(request)
        if state.busy:
            return {self.p.train.told: gr.skip()}
        out = self._told(state, state.told)
        if state.bench and state.now:
            out |= self._rows(state)
            if state.bench is not state.shown:
                out |= self._opened(state)
                state.shown = state.bench
        return out

    def stop(self, request: gr.Request) -> dict:
        try:
            state = self._of(request)
        except ConfigError as problem:
            return self._refused(problem)
        state.stop()
        return self._told(state, "Stopping after this step …", busy=True) if state.busy else self._told(state)

    def _told(self, state: Merging, sentence: str = "", busy: bool = False) -> dict:
        """A sentence beside the button that was pressed last, and which buttons can be pressed."""
        pressed = state.pressed or self.p.train
        out = {part.go: gr.update(interactive=not busy) for part in (self.p.train, self.p.merge)}
        return {**out, pressed.stop: gr.update(interactive=busy), pressed.told: _progress(sentence, None)}

    def _opened(self, state: Merging) -> dict:
        """The sliders of the tasks that are here, at the coefficient they were scored with."""
        p, tasks = self.p, state.now["tasks"]
        out = {p.now: to_json(state.now), p.panel: gr.update(visible=True), p.ways: gr.update(visible=True), p.all: tasks[0]["lam"]}
        for i, slider in enumerate(p.sliders):
            here = i < len(tasks)
            out[slider] = gr.update(visible=here, label=f"λ {tasks[i]['name']}", value=tasks[i]["lam"]) if here else gr.update(visible=False)
        return out

    def _rows(self, state: Merging) -> dict:
        """The table, and the course of the newest merge that has one."""
        p, names = self.p, [short(n) for n in state.names]
        rows = [{k: v for k, v in row.items() if k != "course"} for row in [*state.base, *state.results]]
        looks = _courses(state)
        out = {p.table: to_json({"tasks": names, "rows": rows}), p.inside: gr.update(visible=bool(looks))}
        if looks:
            newest = list(looks)[-1]
            out |= {p.into: gr.update(choices=list(looks), value=newest), p.course: to_json(looks[newest])}
        return out

    # quick answers

    def rescore(self, request: gr.Request, *lams) -> dict:
        """The merge with the sliders' coefficients."""
        try:
            return {self.p.now: to_json(self._of(request).rescore(list(lams)))}
        except ConfigError as problem:
            return self._refused(problem)

    def together(self, request: gr.Request, lam) -> dict:
        """One coefficient for all tasks."""
        sliders = self.p.sliders
        return {**dict.fromkeys(sliders, lam), **self.rescore(request, *[lam] * len(sliders))}

    def look(self, request: gr.Request, label) -> dict:
        """The course of another merge."""
        try:
            found = _courses(self._of(request)).get(str(label))
        except ConfigError as problem:
            return self._refused(problem)
        return {self.p.course: to_json(found) if found else gr.skip()}

    def config(self, *settings) -> MergeConfig:
        """A checked MergeConfig from the settings' components. Raises ConfigError."""
        values = {}
        for (name, knob), value in zip(KNOBS.items(), settings, strict=True):
            if value is None or value == "":
                if knob.default is not None:
                    raise ConfigError(f"{name}: it is empty; {knob.help[0].lower()}{knob.help[1:]}")
                continue
            values[name] = int(value) if knob.kind == "int" and isinstance(value, float) and value.is_integer() else value
        return MergeConfig(**values)


def _courses(state: Merging) -> dict[str, dict]:
    """What can be looked into, by label; a merge in one step has no course."""
    out = {}
    for row in state.results:
        course = row["course"]
        if course["losses"] or course["jam"]:
            words = [row["label"], *filter(None, [row["note"]])]
            words += ["on test questions"] if row["sees"].startswith("TEST") else []
            out[", ".join(words)] = {"label": row["label"], **course}
    return out


def _progress(text: str, part: float | None) -> dict:
    return {"text": text, "percent": 0 if part is None else round(100 * min(1.0, part)), "busy": part is not None}


def _hidden(problem: ConfigError) -> str:
    """The sentence without folders: paths never leave the server."""
    return re.sub(r"(?<![\w.])/[^\s']*/", "", str(problem))
