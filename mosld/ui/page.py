"""The page: what stands where, and which handler answers which event.

- `build()`: the whole interface as gr.Blocks; `mosld.ui.serve.launch` serves it.

A head with the five rooms, then the room's own panel (questions and settings, in Watch only), the bar, and the room. Rooms are gradio's tabs
without their own tab bar: what is in a room is put on the page when it is opened first.
"""

from __future__ import annotations

import gradio as gr

from mosld.tasks import catalogue, example
from mosld.ui import api, gpu
from mosld.ui.canvas.base import after
from mosld.ui.canvas.page import BAR_HTML, BAR_SCRIPT, FEED_HTML, FEED_SCRIPT, HEAD_HTML, rest
from mosld.ui.compare import room as compare
from mosld.ui.controls import HIDEABLE, Controls, task_choices
from mosld.ui.handlers import KEYS, Handlers
from mosld.ui.lab import AT_ONCE, COPY, Lab
from mosld.ui.learn import room as learn
from mosld.ui.limits import KEEP_SECONDS, Limits
from mosld.ui.look import room as look
from mosld.ui.sessions import Sessions
from mosld.ui.take import room as take
from mosld.ui.turns import LINE
from mosld.ui.watch import room as watch

ROOMS = {
    "learn": ("Learn", learn),
    "watch": ("Watch", watch),
    "look": ("Look inside", look),
    "compare": ("Compare", compare),
    "take": ("Take away", take),
}


def build(limits: Limits | None = None) -> gr.Blocks:
    """The interface. Nothing is loaded and no torch is imported before somebody is there to use it."""
    limits = limits or Limits.from_environment()
    gpu.ready()
    tasks = task_choices(catalogue())
    controls = Controls(tasks)
    h = Handlers(Sessions(limits), controls)
    with gr.Blocks(title="MoSLD Lab", analytics_enabled=False, fill_width=True, delete_cache=(KEEP_SECONDS, KEEP_SECONDS)) as page:
        feed = gr.HTML(None, html_template=FEED_HTML, js_on_load=FEED_SCRIPT, elem_id="feed", apply_default_css=False)
        _html(HEAD_HTML, "M.head(element)", "head")
        memory = gr.Textbox(visible=False)
        folds: dict[str, gr.blocks.Block] = {}
        with gr.Row(elem_id="lab"):
            with gr.Column(elem_id="panel"):
                panel = watch.panel(controls, folds)
            with gr.Column(elem_id="stage"):
                bar = _html(BAR_HTML, BAR_SCRIPT, "bar")
                lab = Lab(h, feed, memory)
                with gr.Tabs(elem_id="rooms", selected="watch"):
                    for name, (title, room) in ROOMS.items():
                        with gr.Tab(title, id=name, elem_id=f"room-{name}"):
                            room.place(lab)

        values = controls.inputs
        for event, handler, inputs in (
            (bar.run, h.start, values),
            (bar.pause, h.toggle, None),
            (bar.step1, h.step1, values),
            (bar.step10, h.step10, values),
        ):
            lab.train(event, handler, inputs)
        lab.answered(bar.reset(h.reset, None, feed, **AT_ONCE))
        panel.speed.change(h.speed, panel.speed, None, **AT_ONCE)
        feed.attach(h.attach, memory, feed, js=KEYS, **AT_ONCE)
        for name, handler in (("lr", h.change_lr), ("dropout", h.change_dropout), ("balance", h.change_balance)):
            part = controls.parts[name]
            events = [part.release, part.input] if isinstance(part, gr.Slider) else [part.submit, part.blur]
            gr.on(events, handler, part, [feed, part], trigger_mode="always_last", **AT_ONCE)

        by, listed = controls.parts["by"], controls.parts["values"]
        single = [controls.parts[name] for name in controls.single]
        by.input(h.compare, by, listed, **AT_ONCE)
        gr.on([by.change, listed.change], h.settle_knobs, [by, listed], single, **AT_ONCE)
        lab.answered(panel.questions.choose(h.question, None, [feed, *values], **AT_ONCE))
        gr.on([p.change for p in values], h.facts, values, panel.facts, trigger_mode="always_last", **AT_ONCE)
        panel.copy.click(h.link, [panel.hide, *values], [panel.link, feed], **AT_ONCE).then(None, panel.link, panel.link, js=COPY)
        panel.own.upload(h.upload, [panel.own, controls.parts["tasks"]], [controls.parts["tasks"], feed, panel.read], **AT_ONCE)
        lab.answered(page.load(h.restore, memory, [feed, *(folds[name] for name in HIDEABLE), *values], js=KEYS, **AT_ONCE))
        api.place(lab)
    page.sessions, page.scripts = h.sessions, rest({label: example(name) for label, name in tasks})
    return page.queue(max_size=2 * LINE, default_concurrency_limit=8)


def _html(text: str, script: str, name: str) -> gr.HTML:
    """Fixed markup, and a script that is run on it once the page's scripts are there."""
    return gr.HTML(html_template=text, js_on_load=after(script), elem_id=name, apply_default_css=False)
