"""The page: what stands where, and which handler answers which event.

- `build()`: the whole interface as gr.Blocks. `serve.py` serves it.
"""

from __future__ import annotations

import gradio as gr

from mosld.tasks import catalogue
from mosld.ui import api
from mosld.ui.canvas import VIEWS
from mosld.ui.canvas.timeline import FEED_HTML, TIMELINE_HTML, feed_javascript, timeline_javascript
from mosld.ui.controls import HIDEABLE, Controls, task_choices
from mosld.ui.facts import facts
from mosld.ui.handlers import KEYS, SPEEDS, Handlers
from mosld.ui.lab import AT_ONCE, COPY, Lab
from mosld.ui.limits import KEEP_SECONDS, Limits
from mosld.ui.presets import PRESETS
from mosld.ui.record import shipped
from mosld.ui.sessions import Sessions
from mosld.ui.shown import shown
from mosld.ui.tabs import TABS
from mosld.ui.turns import LINE

HEAD = (
    '<div class="lab-head"><h1>MoSLD Lab</h1>'
    "<p>Train a mixture of low-rank experts that share one matrix, and watch what router, experts and matrices do.</p></div>"
)
FACTS = (
    '<div class="lab-facts"><span data-if="problem" data-text="problem"></span>'
    '<span class="lab-formula" data-text="formula"></span><span data-text="count"></span> <span data-text="note"></span></div>'
)
STORY = '<p class="lab-facts" data-text="text"></p>'
LIVE = {"Overview": ("gates", "accuracy", "imbalance"), "Loss": ("loss",), "Router": ("router",), "Norms": ("norms",)}


def build(limits: Limits | None = None) -> gr.Blocks:
    """The interface. Nothing is loaded and no torch is imported before somebody is there to use it."""
    limits = limits or Limits.from_environment()
    controls = Controls(task_choices(catalogue()))
    h = Handlers(Sessions(limits), controls)
    with gr.Blocks(title="MoSLD Lab", analytics_enabled=False, fill_width=True, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as page:
        _html(HEAD)
        feed = gr.HTML(shipped(), html_template=FEED_HTML, js_on_load=feed_javascript(), elem_id="feed", apply_default_css=False)
        memory = gr.Textbox(visible=False)
        folds: dict[str, gr.blocks.Block] = {}
        with gr.Row(elem_id="lab"):
            with gr.Column(elem_id="panel"):
                with gr.Column(elem_id="fold-preset", min_width=0) as folds["preset"]:
                    preset = gr.Dropdown(
                        [(p.title, name) for name, p in PRESETS.items()], value=next(iter(PRESETS)), label="Preset", elem_id="preset"
                    )
                    story = shown(STORY, {"text": next(iter(PRESETS.values())).text}, elem_id="story")
                controls.mixture()
                controls.method()
                note = shown(FACTS, facts(controls.default), elem_id="facts")
                with gr.Column(elem_id="fold-compare", min_width=0) as folds["compare"]:
                    controls.compare()
                controls.front()
                with gr.Accordion("Shape and length", open=False, elem_id="fold-shape") as folds["shape"]:
                    controls.shape()
                folds |= controls.rest()
                with gr.Accordion("A task of your own", open=False, elem_id="fold-own") as folds["own"]:
                    own = gr.File(label="A .jsonl or .csv file of questions", file_types=[".jsonl", ".csv"], type="filepath", height=110)
                with gr.Accordion("Link", open=False, elem_id="fold-link") as folds["link"]:
                    hide = gr.CheckboxGroup(
                        [(text, name) for name, text in HIDEABLE.items()], label="For a class: hide from whoever opens it", elem_id="hide"
                    )
                    copy = gr.Button("Copy a link to these settings", size="sm", elem_id="copy")
                    link = gr.Textbox(label="Link", interactive=False, elem_id="link")
            with gr.Column(elem_id="stage"):
                with gr.Column(elem_id="bar"):
                    with gr.Row(elem_id="transport"):
                        run = gr.Button("Run", variant="primary", size="md", elem_id="run")
                        pause = gr.Button("Pause", size="md", elem_id="pause")
                        step1 = gr.Button("Step 1", size="md", elem_id="step1")
                        step10 = gr.Button("Step 10", size="md", elem_id="step10")
                        reset = gr.Button("Reset", size="md", elem_id="reset")
                        speed = gr.Dropdown(list(SPEEDS), value=next(iter(SPEEDS)), show_label=False, label="Speed", elem_id="speed", container=False)
                    gr.HTML(html_template=TIMELINE_HTML, js_on_load=timeline_javascript(), elem_id="timeline", apply_default_css=False)
                values = controls.inputs
                lab = Lab(h, feed, memory)
                with gr.Tabs():
                    for title, names in LIVE.items():
                        with gr.Tab(title):
                            for name in names:
                                lab.picture(VIEWS[name])
                    for tab in TABS:
                        with gr.Tab(tab.TITLE):
                            tab.place(lab)

        for button, handler, inputs in ((run, h.start, values), (pause, h.toggle, None), (step1, h.step1, values), (step10, h.step10, values)):
            lab.train(button.click, handler, inputs)
        reset.click(h.reset, None, feed, **AT_ONCE)
        speed.change(h.speed, speed, None, **AT_ONCE)
        feed.attach(h.attach, memory, feed, js=KEYS, **AT_ONCE)
        for name, handler in (("lr", h.change_lr), ("dropout", h.change_dropout), ("balance", h.change_balance)):
            part = controls.parts[name]
            events = [part.release] if isinstance(part, gr.Slider) else [part.submit, part.blur]
            gr.on(events, handler, part, feed, **AT_ONCE)

        by, listed = controls.parts["by"], controls.parts["values"]
        single = [controls.parts[name] for name in controls.single]
        by.input(h.compare, by, listed, **AT_ONCE)
        gr.on([by.change, listed.change], h.settle_knobs, [by, listed], single, **AT_ONCE)
        preset.input(h.preset, preset, [story, *values], **AT_ONCE)
        gr.on([p.change for p in values], h.facts, values, note, trigger_mode="always_last", **AT_ONCE)
        copy.click(h.link, [hide, *values], [link, feed], **AT_ONCE).then(None, link, None, js=COPY)
        own.upload(h.upload, [own, controls.parts["tasks"]], [controls.parts["tasks"], feed], **AT_ONCE)
        page.load(h.restore, memory, [feed, *(folds[name] for name in HIDEABLE), *values], js=KEYS, **AT_ONCE)
        api.place(lab)
    page.sessions = h.sessions
    return page.queue(max_size=2 * LINE, default_concurrency_limit=8)


def _html(text: str) -> gr.HTML:
    return gr.HTML(html_template=text, apply_default_css=False)
