"""The room Look inside: one part of the run at a time, each in a tab of its own that is put on the page when it is opened."""

from __future__ import annotations

import gradio as gr

from mosld.ui.canvas import VIEWS
from mosld.ui.canvas.base import after
from mosld.ui.lab import Lab
from mosld.ui.look import geometry, inspect, slow

LIVE = {"Norms": "norms", "Router": "router", "A against B": "imbalance", "Loss": "loss"}


def place(lab: Lab) -> None:
    """Put the selection that all share on the page, and the room's tabs."""
    script = after("element.firstElementChild.replaceChildren(M.under(false))")
    gr.HTML(html_template='<div class="lab-selects"></div>', js_on_load=script, elem_id="look-selects", apply_default_css=False)
    with gr.Tabs(elem_id="look-tabs"):
        for tab in (inspect, slow):
            with gr.Tab(tab.TITLE):
                tab.place(lab)
        for title, name in LIVE.items():
            with gr.Tab(title):
                lab.picture(VIEWS[name])
        with gr.Tab(geometry.TITLE):
            geometry.place(lab)
