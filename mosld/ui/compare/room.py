"""The room Compare: its parts, each in a tab of its own."""

from __future__ import annotations

import gradio as gr

from mosld.ui.compare import claims, merge, seeds, shelf
from mosld.ui.lab import Lab


def place(lab: Lab) -> None:
    """Put the room's tabs on the page."""
    with gr.Tabs(elem_id="compare-tabs"):
        for part in (shelf, seeds, merge, claims):
            with gr.Tab(part.TITLE):
                part.place(lab)
