"""The room Compare: its parts, each in a tab of its own."""

from __future__ import annotations

import gradio as gr

from mosld.ui.compare import anew, claims, merge, shelf
from mosld.ui.lab import Lab


def place(lab: Lab) -> None:
    """Put the room's tabs on the page."""
    with gr.Tabs(elem_id="compare-tabs"):
        with gr.Tab("Runs"):
            again = shelf.place(lab)
            anew.alone(lab, again)
        with gr.Tab("Seeds"):
            anew.seeds(lab, again)
        for part in (merge, claims):
            with gr.Tab(part.TITLE):
                part.place(lab)
