"""Inspect: type a text or pick a row, see which expert takes which word, mute or force an expert and see what changes.

- `place`: components and events. `Form`: what a visitor asks, checked. `look`: the answer of a trainer, as the picture's data.

The answer comes at once; the accuracy, which takes a pass over validation rows, follows as a second event.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import gradio as gr

from mosld.config import ConfigError
from mosld.ui.canvas import VIEWS
from mosld.ui.lab import AT_ONCE, QUIET, Lab
from mosld.ui.wire import short, to_json

TITLE = "Words"
TEXT, OPTIONS, OPTION = 2000, 12, 300  # at most so many characters, options, and characters of an option
EXPERTS = 32  # drawn at most
ROWS = {"encoder": 128, "decoder": 32}  # validation rows that accuracy is counted on
PATIENCE = 90  # seconds: on a busy machine the count of the answer before takes long, and nobody would ask for this one again
STEER = re.compile(r"(mute|force) (\d{1,4})")
NOBODY = "nobody"
PICKED = "(text, options, task, arm, linear, ...rest) => [text, options, task, ...MoSLD.fromPick(), ...rest]"


@dataclass(frozen=True)
class Form:
    """What is asked. Indices count from 0 and are cut to what the run has. Raises ConfigError for what cannot be read."""

    text: str
    options: tuple[str, ...]
    task: int
    arm: int
    linear: int
    steer: tuple[str, int] | None
    here: bool  # steer in the linear shown only

    @classmethod
    def read(cls, text, options, task, arm, linear, steer, here) -> Form:
        if not isinstance(text, str) or not isinstance(options, str):
            raise ConfigError("text: give a sentence, and options, one a line.")
        lines = tuple(line.strip() for line in options.splitlines() if line.strip())
        if len(text) > TEXT or len(lines) > OPTIONS or any(len(line) > OPTION for line in lines):
            raise ConfigError(f"text: it is too long; give at most {TEXT} characters, and {OPTIONS} options of {OPTION} characters each.")
        match = STEER.fullmatch(steer) if isinstance(steer, str) else None
        return cls(text.strip(), lines, *map(whole, (task, arm, linear)), match and (match[1], int(match[2]) - 1), here is True)


def whole(value) -> int:
    """A whole number from 0 out of a component, or 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


def look(trainer, form: Form, row: int | None = None) -> dict:
    """The answer to a form: `data` for the picture, and what the controls should offer.

    With `row`, text and options are those of that validation row of the task.
    """
    from mosld.training.inspector import Inspector, route_text  # imports torch

    task, arm = min(form.task, len(trainer.tasks) - 1), min(form.arm, len(trainer.arms) - 1)
    text, options, right = form.text, form.options, None
    if row is not None:
        rows = trainer.tasks[task].validation
        example = rows[row % len(rows)]
        text, options, right = example.question, example.options, example.answer
    inspector = Inspector(trainer, arm)
    sites = [a.site for a in inspector.routed]
    linear = min(form.linear, max(0, len(sites) - 1))
    steer, where = _steering(inspector, form, sites, linear)
    told = route_text(trainer, text, options, arm, trainer.tasks[task].name, **steer)
    data = {**_picture(told, linear), "steering": where, "accuracy": None}
    for i, option in enumerate(data["options"]):
        option["right"] = i == right
    return {
        "data": data,
        "text": text,
        "options": options,
        "right": right,
        "task": task,
        "tasks": [short(t.name) for t in trainer.tasks],
        "arm": arm,
        "steer": f"{form.steer[0]} {form.steer[1] + 1}" if steer else NOBODY,
        "experts": (sites[linear].experts if form.here else min(s.experts for s in sites)) if inspector.steerable else 0,
        "steered": steer,
    }


def _steering(inspector, form: Form, sites: list, linear: int) -> tuple[dict, str]:
    """Arguments for `route_text`, and words. Nobody is steered where the method, or the number of experts, does not allow it."""
    if form.steer is None or not inspector.steerable:
        return {}, ""
    how, expert = form.steer
    chosen = [sites[linear]] if form.here else sites
    if expert >= min(s.experts for s in chosen):
        return {}, ""
    words = f"expert {expert + 1} {'forced' if how == 'force' else 'muted'} {'in this linear' if form.here else 'in every linear'}"
    return {"expert": expert, "force": how == "force", "linears": [s.name for s in chosen]}, words


def _picture(told: dict, linear: int) -> dict:
    """`route_text`'s answer at one linear, tokens first, and no more experts than can be drawn."""
    where = f"{told['arm']}, step {told['step']}"
    out = {"where": where, "note": told["note"], "tokens": [clean(t) for t in told["tokens"]], "experts": [], "of": 0}
    out |= {"gates": [], "router": [], "steered": None, "options": told["options"]}
    if not told["linears"]:
        return out
    at = told["linears"][linear]
    kept = sorted(sorted(range(at["experts"]), key=lambda e: -sum(at["gates"][e]))[:EXPERTS])
    by_token = lambda rows: None if rows is None else [[round(rows[e][i], 4) for e in kept] for i in range(len(told["tokens"]))]  # noqa: E731
    out |= {"where": f"{where}, layer {at['layer'] + 1}, {at['target']}", "experts": kept, "of": at["experts"]}
    return {**out, "gates": by_token(at["gates"]), "router": by_token(at["probabilities"]), "steered": by_token(at["steered"])}


def clean(token: str) -> str:
    """A token without its tokenizer's mark for a space."""
    return token.replace("Ġ", "").replace("▁", "").replace("Ċ", "⏎") or "␣"


class Inspect:
    """The tab's events. What it keeps for a visitor is `session.tabs["inspect"]`: the last answer, the row, and accuracies counted."""

    def __init__(self, lab: Lab):
        self.lab = lab

    def ask(self, request: gr.Request, *values) -> tuple:
        """Answer the form."""
        return self._answer(request, values, None)

    def task(self, request: gr.Request, *values) -> tuple:
        """The first row of a task just chosen."""
        return self._answer(request, values, lambda _: 0)

    def another(self, request: gr.Request, *values) -> tuple:
        """The next row of the task."""
        return self._answer(request, values, lambda kept: kept.get("row", -1) + 1)

    def _answer(self, request: gr.Request, values, row) -> tuple:
        try:
            session = self.lab.look(request)
            kept = session.tabs.setdefault("inspect", {})
            form, number = Form.read(*values), row and row(kept)
            if number is None and (form.text, form.options) == kept.get("asked"):
                number = kept["row"] if form.task == kept.get("task") and kept.get("run") == session.run else None
            seen = session.ask(lambda trainer: look(trainer, form, number))
        except ConfigError as problem:
            return self.lab.refused(problem, 5)
        if number is not None:
            kept["row"] = number
        known = number is not None
        kept |= {
            "run": session.run,
            "task": seen["task"],
            "seen": seen,
            "asked": (seen["text"], tuple(seen["options"])) if known else None,
            "due": True,
        }
        return gr.skip(), to_json(seen["data"]), *self._controls(seen)

    @staticmethod
    def _controls(seen: dict) -> tuple:
        """Text, options, task and steering, as the run has them."""
        tasks = gr.update(choices=[(n, i) for i, n in enumerate(seen["tasks"])], value=seen["task"])
        steer = [(NOBODY, NOBODY), *((f"{how} expert {e + 1}", f"{how} {e + 1}") for how in ("mute", "force") for e in range(seen["experts"]))]
        return seen["text"], "\n".join(seen["options"]), tasks, gr.update(choices=steer, value=seen["steer"])

    def count(self, request: gr.Request) -> str:
        """The same answer with the accuracy of its task, unsteered and steered."""
        try:
            session = self.lab.look(request)
            kept = session.tabs.get("inspect", {})
            if "seen" not in kept or kept["run"] != session.run:
                return gr.skip()
            seen = kept["seen"]
            session.ask(lambda trainer: _accuracy(trainer, seen, kept.setdefault("counted", {}), kept["run"]), PATIENCE)
        except ConfigError:
            return gr.skip()  # the run is gone, or busy with a long step: the picture stays as it is
        return to_json(seen["data"]) if kept["seen"] is seen else gr.skip()


def _accuracy(trainer, seen: dict, counted: dict, run: int) -> None:
    """Put the accuracy of the task on its first validation rows into an answer. What was counted at this step is not counted again."""
    from mosld.training.inspector import Inspector

    if seen["data"]["accuracy"] is not None:
        return
    inspector, task = Inspector(trainer, seen["arm"]), trainer.tasks[seen["task"]]
    rows = min(ROWS[trainer.backbone.kind], len(task.validation))
    key = (run, trainer.step, seen["arm"], seen["task"])
    if key not in counted:
        counted.clear()
        counted[key] = inspector.accuracy(task.name, rows)
    steered = None
    if seen["steered"]:
        with inspector.steered(**seen["steered"]):
            steered = inspector.accuracy(task.name, rows)
    seen["data"]["accuracy"] = {"task": short(task.name), "rows": rows, "step": trainer.step, "free": counted[key], "steered": steered}


def place(lab: Lab) -> None:
    """The form, the picture, and their events."""
    h = Inspect(lab)
    with gr.Column(elem_id="inspect"):
        with gr.Row(elem_id="inspect-form", equal_height=True):
            text = gr.Textbox(label="Text", lines=4, max_lines=4, max_length=TEXT, elem_id="inspect-text", scale=5, placeholder="Type a question …")
            options = gr.Textbox(label="Options, one a line", lines=4, max_lines=4, elem_id="inspect-options", scale=3, max_length=OPTIONS * OPTION)
            with gr.Column(scale=1, min_width=120, elem_id="inspect-buttons"):
                ask = gr.Button("Ask", variant="primary", size="md", elem_id="inspect-ask")
                another = gr.Button("Another row", size="md", elem_id="inspect-another")
        with gr.Row(elem_id="inspect-choices"):
            common = {"min_width": 120, "allow_custom_value": True}
            task = gr.Dropdown([("…", 0)], value=0, label="Task", elem_id="inspect-task", **common)
            steer = gr.Dropdown([(NOBODY, NOBODY)], value=NOBODY, label="Steer an expert", elem_id="inspect-steer", **common)
            here = gr.Checkbox(label="In this linear only", elem_id="inspect-here", min_width=120)
        picture = lab.picture(VIEWS["inspect"])
    inputs = [text, options, task, *picked(), steer, here]
    outputs = [lab.feed, picture, text, options, task, steer]
    for triggers, handler in (
        ([ask.click, text.submit, steer.input, here.input], h.ask),
        ([task.input], h.task),
        ([another.click], h.another),
    ):
        given = {"trigger_mode": "always_last", "js": PICKED, **AT_ONCE}
        asked = gr.on(triggers, handler, inputs, outputs, **given)
        asked.then(h.count, None, picture, concurrency_id="inspect", concurrency_limit=2, **QUIET)


def picked() -> tuple[gr.Number, gr.Number]:
    """Arm and linear among a handler's inputs: those selected on the page, which the browser puts there (`PICKED`)."""
    return gr.Number(0, visible=False, precision=0), gr.Number(0, visible=False, precision=0)
