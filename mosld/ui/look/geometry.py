"""Geometry: how alike the experts of the visitor's run are, and whether its tasks pull A and B in opposite directions.

- `place`: two pictures and a button; the page presses it once the tab is in sight and the run has gone on (`canvas/rooms.js`).
- `pictures(session)`: what both draw, again after each slice of the work, so that the run goes on between and no task is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import gradio as gr

from mosld.config import ConfigError
from mosld.ui.canvas import VIEWS
from mosld.ui.lab import QUIET, Lab
from mosld.ui.session import Session
from mosld.ui.wire import short, to_json

if TYPE_CHECKING:
    from mosld.training.geometry import Looking

TITLE = "Geometry"
SECONDS = 60  # to wait for the answer of a run that is training
DIGITS = 3


def place(lab: Lab) -> None:
    """Put the tab's components on the page and wire them."""
    with gr.Row():
        look = gr.Button("Look into the run as it is now", size="md", elem_id="geometry-look", scale=0, min_width=260)
    outputs = [lab.feed, lab.picture(VIEWS["updates"]), lab.picture(VIEWS["conflict"])]

    def looked(request: gr.Request) -> Iterator[tuple]:
        try:
            for first, second in pictures(lab.look(request)):
                yield gr.skip(), first, second
        except ConfigError as problem:
            yield lab.refused(problem, 2)

    lab.refusable(look.click(looked, None, outputs, concurrency_id="geometry", concurrency_limit=2, trigger_mode="always_last", **QUIET))


def pictures(session: Session) -> Iterator[tuple]:
    """JSON texts for the two views of the run as it is at the first slice; the first view's once. Ends where another run takes its place."""
    run = session.run
    first, head, places, looking = session.ask(_begin, SECONDS)
    yield first, _pulls(head, places, looking)
    while looking.left and session.run == run:
        session.ask(looking.go_on, SECONDS)
        yield gr.skip(), _pulls(head, places, looking)


def _begin(trainer) -> tuple[str, dict, dict[str, str], Looking]:
    """The first slice: the experts' updates, and what the others need."""
    from mosld.training.geometry import Looking
    from mosld.training.geometry import updates as experts

    found, across = experts(trainer)
    log = trainer.log
    head = {"run": log.config.to_url(), "step": trainer.step, "arms": log.arms, "methods": [arm.config.label for arm in trainer.arms]}
    head["tasks"] = [short(t) for t in log.tasks]
    head["of"] = [{x.name: i for i, x in enumerate(arm)} for arm in log.linears]  # an arm's adapted linears: name -> its place in the lists
    places = {x.name: f"layer {x.layer + 1}, {x.target}" for arm in log.linears for x in arm}
    linears = [
        {
            "label": label,
            "arms": _at(head, name, lambda arm, i: _update(found[arm][i])),
            "across": _round(across[head["of"][0][name]]) if across else None,
        }
        for name, label in places.items()
    ]
    offers = [[str(i), label] for i, label in enumerate(places.values())]
    return to_json({**head, "linears": linears, "offers": {"linear": offers}}), head, places, Looking(trainer)


def _at(head: dict, name: str, read) -> list:
    """read(arm, place) of every arm that adapts a linear, None of the others."""
    return [read(arm, own[name]) if name in own else None for arm, own in enumerate(head["of"])]


def _pulls(head: dict, places: dict[str, str], looking: Looking) -> str:
    """The second view's data as far as the work has come."""
    gradients, tasks, arms = looking.found(), head["tasks"][: looking.tasks], len(head["arms"])
    pulls = [{"label": "all linears together", "arms": [_pull(arm[0]) for arm in gradients]}]
    pulls += [{"label": label, "arms": _at(head, name, lambda arm, i: _pull(gradients[arm][i + 1]))} for name, label in places.items()]
    offers = [["0", "all together"], *([str(i), label] for i, label in enumerate(places.values(), 1))]
    more = {"tasks": tasks, "left": len(head["tasks"]) > len(tasks), "done": looking.done // arms, "linears": pulls, "offers": {"linear": offers}}
    return to_json({**head, **more})


def _update(u) -> dict:
    return {"experts": u.experts, "cosines": _round(u.cosines), "singular": _round(u.singular), "stable": _round(u.stable_rank)}


def _pull(c) -> dict:
    return {"a": _round(c.a), "b": _round(c.b)}


def _round(values):
    """Numbers to a few digits, in lists of any depth; None stays."""
    if isinstance(values, list):
        return [_round(v) for v in values]
    return None if values is None else float(f"{values:.{DIGITS + 1}g}")
