"""Geometry: how alike the experts of the visitor's run are, and whether its tasks pull A and B in opposite directions.

- `place`: two pictures and a button. Opening the tab looks into the run at once, where there is one.
- `pictures(trainer)`: what both draw, as plain data: the question put to the run between two of its steps.
"""

from __future__ import annotations

import gradio as gr
from gradio.context import Context

from mosld.config import ConfigError
from mosld.ui.canvas import conflict, updates
from mosld.ui.lab import QUIET, Lab
from mosld.ui.wire import short, to_json

TITLE = "Geometry"
SECONDS = 60  # to wait for the answer of a run that is training
DIGITS = 3


def place(lab: Lab) -> None:
    """Put the tab's components on the page and wire them."""
    tab = Context.block  # the gr.Tab that the page has opened
    with gr.Row():
        look = gr.Button("Look into the run as it is now", size="md", elem_id="geometry-look", scale=0, min_width=260)
    outputs = [lab.feed, lab.picture(updates.VIEW), lab.picture(conflict.VIEW)]

    def looked(request: gr.Request) -> tuple:
        try:
            return gr.skip(), *lab.visitor(request).ask(pictures, SECONDS)
        except ConfigError as problem:
            return lab.refused(problem, 2)

    def opened(request: gr.Request) -> tuple:
        """The same where a run is there; otherwise the empty pictures say what to do."""
        try:
            there = lab.visitor(request).state in ("running", "paused", "ended") and lab.visitor(request).trainer is not None
        except ConfigError as problem:
            return lab.refused(problem, 2)
        return looked(request) if there else (gr.skip(), "", "")

    for event, handler in ((look.click, looked), (tab.select, opened)):
        event(handler, None, outputs, concurrency_id="geometry", concurrency_limit=2, trigger_mode="once", **QUIET)


def pictures(trainer) -> tuple[str, str]:
    """JSON texts for the two views, of a run as it is."""
    from mosld.training.geometry import conflicts
    from mosld.training.geometry import updates as experts

    found, across = experts(trainer)
    gradients = conflicts(trainer)
    log = trainer.log
    head = {"step": trainer.step, "arms": log.arms, "methods": [arm.config.label for arm in trainer.arms]}
    places = {x.name: f"layer {x.layer + 1}, {x.projection}" for arm in log.linears for x in arm}
    of_arm = [{x.name: i for i, x in enumerate(arm)} for arm in log.linears]  # an arm's adapted linears: name -> its place in the lists

    def at(name: str, read) -> list:
        """read(arm, place) of every arm that adapts a linear, None of the others."""
        return [read(arm, own[name]) if name in own else None for arm, own in enumerate(of_arm)]

    linears = [
        {"label": label, "arms": at(name, lambda arm, i: _update(found[arm][i])), "across": _round(across[of_arm[0][name]]) if across else None}
        for name, label in places.items()
    ]
    offers = [[str(i), label] for i, label in enumerate(places.values())]
    pulls = [{"label": "all linears together", "arms": [_pull(arm[0]) for arm in gradients]}]
    pulls += [{"label": label, "arms": at(name, lambda arm, i: _pull(gradients[arm][i + 1]))} for name, label in places.items()]
    further = [["0", "all together"], *([str(i + 1), label] for i, (_, label) in enumerate(offers))]
    tasks = [short(t) for t in log.tasks[: len(gradients[0][0].a)]]
    pull = {**head, "tasks": tasks, "left": len(log.tasks) > len(tasks), "linears": pulls, "offers": {"linear": further}}
    return to_json({**head, "linears": linears, "offers": {"linear": offers}}), to_json(pull)


def _update(u) -> dict:
    return {"experts": u.experts, "cosines": _round(u.cosines), "singular": _round(u.singular), "stable": _round(u.stable_rank)}


def _pull(c) -> dict:
    return {"a": _round(c.a), "b": _round(c.b)}


def _round(values):
    """Numbers to a few digits, in lists of any depth; None stays."""
    if isinstance(values, list):
        return [_round(v) for v in values]
    return None if values is None else float(f"{values:.{DIGITS + 1}g}")
