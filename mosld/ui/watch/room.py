"""The room Watch and the panel beside it: questions to try, the few settings a newcomer meets, all others in one fold."""

from __future__ import annotations

import json
from dataclasses import dataclass

import gradio as gr

from mosld.tasks.files import SUFFIXES
from mosld.ui.canvas.base import after
from mosld.ui.controls import HIDEABLE, Controls
from mosld.ui.facts import facts
from mosld.ui.handlers import SPEEDS
from mosld.ui.lab import Lab
from mosld.ui.shown import shown
from mosld.ui.watch.questions import offered

FACTS = (
    '<div class="lab-facts"><p data-if="problem" data-text="problem"></p><p data-if="note" data-text="note"></p>'
    "<details><summary>Formula, parameters</summary>"
    '<span class="lab-formula" data-text="formula"></span><span data-text="count"></span></details></div>'
)
READ = '<div class="lab-facts"><p data-each="." data-text="."></p></div>'
OWN = "A file of questions: .csv, .tsv, .jsonl, .json or .parquet, also .gz, with a question, its options and the answer in usual columns."


@dataclass
class Panel:
    """What of the panel the page wires."""

    questions: gr.HTML
    facts: gr.HTML
    speed: gr.Dropdown
    own: gr.File
    read: gr.HTML
    hide: gr.CheckboxGroup
    copy: gr.Button
    link: gr.Textbox


def panel(controls: Controls, folds: dict[str, gr.blocks.Block]) -> Panel:
    """Put the panel on the page; `folds` gets what a link can hide, by name."""
    with gr.Column(elem_id="fold-preset", min_width=0) as folds["preset"]:
        script = after(f"M.questions(element.querySelector('.lab-questions'), {json.dumps(offered())}, (name, data) => trigger('choose', data))")
        questions = gr.HTML(html_template='<div class="lab-questions"></div>', js_on_load=script, elem_id="questions", apply_default_css=False)
    controls.add("tasks", "method", "router")
    with gr.Column(elem_id="fold-compare", min_width=0) as folds["compare"]:
        controls.compare()
    with gr.Accordion(f"All settings ({len(controls.knobs)})", open=False, elem_id="fold-all"):
        controls.front()
        with gr.Column(elem_id="fold-shape", min_width=0) as folds["shape"]:
            controls.shape()
        folds |= controls.rest()
        speed = gr.Dropdown(list(SPEEDS), value=next(iter(SPEEDS)), label="Speed", elem_id="speed")
    with gr.Accordion("A task of your own", open=False, elem_id="fold-own") as folds["own"]:
        own = gr.File(label=OWN, file_types=[*SUFFIXES, ".gz"], type="filepath", height=110)
        read = shown(READ, [], elem_id="own-read")
    with gr.Accordion("Link", open=False, elem_id="fold-link") as folds["link"]:
        hide = gr.CheckboxGroup([(text, name) for name, text in HIDEABLE.items()], label="For a class: hide from whoever opens it", elem_id="hide")
        copy = gr.Button("Copy a link to these settings", size="sm", elem_id="copy")
        link = gr.Textbox(label="Link", interactive=False, elem_id="link")
    script = after("const tell = () => M.settings(props.value); watch('value', tell); tell()")
    note = shown(FACTS, facts(controls.default), script, elem_id="facts")
    return Panel(questions, note, speed, own, read, hide, copy, link)


def place(lab: Lab) -> None:
    """The machine with its sentence, and the three small pictures."""
    script = after("M.watch(element.querySelector('.lab-watch'))")
    gr.HTML(html_template='<div class="lab-watch"></div>', js_on_load=script, elem_id="watch", apply_default_css=False)
