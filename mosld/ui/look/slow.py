"""Slow motion: the next batch of the visitor's run walks through one adapted linear, stage by stage, in actual numbers.

- `place`: components and events. `look`: what a trainer answers, as the picture's data.

The stages are walked through in the browser (`canvas/walk.js`); the server is asked once a choice.
"""

from __future__ import annotations

import gradio as gr

from mosld.config import ConfigError
from mosld.ui.canvas import VIEWS
from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.look.inspect import clean, picked, whole
from mosld.ui.look.slow_hints import hints
from mosld.ui.wire import short, to_json

TITLE = "Slow motion"
MODES = (("training", True), ("evaluation", False))
PICKED = "(arm, linear, ...rest) => [...MoSLD.fromPick(), ...rest]"


def look(trainer, arm: int | None, linear: int, row: int, training: bool) -> dict:
    """The picture's data and the questions that can be chosen. No arm chosen: the first one that drops something. Indices are cut to fit."""
    from mosld.training.walk import walk, walkable  # imports torch

    arms = trainer.arms
    if arm is None:
        arm = next((i for i, a in enumerate(arms) if a.handle.dropout > 0), 0)
    arm = min(arm, len(arms) - 1)
    sites = [a.site for a in walkable(trainer, arm)]
    linear = min(linear, max(0, len(sites) - 1))
    seen = walk(trainer, arm, linear, training)
    row = min(row, len(seen.texts) - 1)
    data = seen.shown(row)
    data["hints"] = hints(data, arms[arm].config, arms[arm].handle.dropout)
    data |= {"arm": arm, "of": linear}  # the page selects what is shown
    data["sentence"] = [clean(t) for t in data["sentence"]]
    for token in data["tokens"]:
        token["text"] = clean(token["text"])
    questions = [f"{short(t['task'])}: {t['text']}" for t in data.pop("texts")]
    return {
        "data": data,
        "rows": [q if len(q) < 90 else q[:88] + " …" for q in questions],
        "row": row,
    }


class Slow:
    """The tab's events. What it keeps for a visitor is `session.tabs["slow"]`: the number of the run that the choices belong to."""

    def __init__(self, lab: Lab):
        self.lab = lab

    def take(self, request: gr.Request, arm, linear, row, training) -> tuple:
        """Walk the next batch through."""
        try:
            session = self.lab.look(request)
            same = session.tabs.get("slow") == session.run
            chosen = whole(arm) if same else None
            seen = session.ask(lambda trainer: look(trainer, chosen, whole(linear), whole(row), training is not False))
        except ConfigError as problem:
            return self.lab.refused(problem, 2)
        session.tabs["slow"] = session.run
        rows = gr.update(choices=[(n, i) for i, n in enumerate(seen["rows"])], value=seen["row"])
        return gr.skip(), to_json(seen["data"]), rows


def place(lab: Lab) -> None:
    """The choices, the picture, and their events."""
    h = Slow(lab)
    with gr.Column(elem_id="slow"):
        with gr.Row(elem_id="slow-choices"):
            row = gr.Dropdown([("…", 0)], value=0, label="Question of the batch", elem_id="slow-row", min_width=160, scale=4)
            mode = gr.Dropdown(list(MODES), value=True, label="As in", elem_id="slow-mode", min_width=120, scale=1)
            take = gr.Button("Take a batch", size="md", elem_id="slow-take", scale=0, min_width=120)
        picture = lab.picture(VIEWS["walk"])
    events = [take.click, row.input, mode.input]
    gr.on(events, h.take, [*picked(), row, mode], [lab.feed, picture, row], js=PICKED, trigger_mode="always_last", **AT_ONCE)
