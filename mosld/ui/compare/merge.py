"""The Merge tab: one adapter a task, trained here, then one model out of them.

First the sliders, one coefficient a task, that score the merge as they move; below them the merging methods, their table and what went on
inside. What the events do is in `merge_handlers.py`, the work and what is kept of it in `merge_work.py`; settings of merging are those of
`MergeConfig` alone.
"""

from __future__ import annotations

import gradio as gr

from mosld.config import RunConfig, to_text
from mosld.merging.config import MERGES
from mosld.tasks import catalogue
from mosld.ui import STOP, TRAIN_ADAPTERS
from mosld.ui.canvas import VIEWS
from mosld.ui.compare.merge_handlers import KNOBS, MergeHandlers, Parts, Press
from mosld.ui.compare.merge_work import MOST_TASKS, STEPS
from mosld.ui.controls import task_choices
from mosld.ui.lab import AT_ONCE, QUIET, Lab
from mosld.ui.shown import shown

TITLE = "Merging"
PROGRESS = (
    '<div class="merge-progress"><div class="merge-bar"><div data-if="busy" data-set="width:percent"></div></div>'
    '<p role="status" class="merge-told" data-text="text"></p></div>'
)
FIRST = f"LoRA of rank {RunConfig().rank} on nano, {STEPS} steps each: about 5 seconds an adapter on one core."
LABELS = {
    "unlabelled": "AdaMerging and Concrete look at",
    "lam": "Coefficient λ",
    "merge_batch": "Questions of each task a step",
    "weights": "Weight of each task",
    "svd_rank": "Cut to rank (0: whole)",
    "density": "Magnitude, DARE, DELLA: share kept",
    "della_spread": "DELLA: large over small",
    "spectral_lam": "TSV-M, Iso-C: coefficient",
    "expert_steps": "Experts: router steps",
    "expert_lr": "Experts: router rate",
    "expert_top_k": "Experts: a token's experts",
    "ties_keep": "TIES: share kept",
    "ties_of": "TIES: takes the",
    "ties_lam": "TIES: coefficient",
    "ada_steps": "AdaMerging: steps",
    "ada_lr": "AdaMerging: learning rate",
    "concrete_steps": "Concrete: steps",
    "concrete_lr": "Concrete: learning rate",
    "concrete_temperature": "Concrete: temperature",
    "concrete_inner": "Concrete: inner rate",
    "powers": "R-MTLLMF: powers",
    "noise": "R-MTLLMF: channel noise",
    "jammer": "R-MTLLMF: jammer's power",
    "realign_steps": "R-MTLLMF: labelled steps",
    "realign_lr": "R-MTLLMF: their learning rate",
}
SEEN = {"validation": "validation questions, without answers", "test": "the TEST questions, without answers, as in their papers"}


def place(lab: Lab) -> None:
    """Put the tab's components on the page and wire them."""
    parts = _parts(lab)
    h, runs, settings = MergeHandlers(lab, parts), lab.handlers.sessions.limits.runs, list(parts.settings.values())
    for button, plan, inputs in (
        (parts.train.go, h.plan_train, [parts.tasks, parts.steps]),
        (parts.merge.go, h.plan_merge, [parts.method, *settings]),
    ):
        planned = button.click(plan, inputs, [lab.feed, *parts.pressed], **AT_ONCE)
        streamed = planned.then(h.stream, None, [lab.feed, *parts.live], concurrency_id="train", concurrency_limit=runs, **QUIET)
        streamed.then(h.settle, None, parts.shown, **AT_ONCE)
    gr.on([parts.train.stop.click, parts.merge.stop.click], h.stop, None, [lab.feed, *parts.pressed], **AT_ONCE)
    for slider in parts.sliders:
        slider.input(h.rescore, parts.sliders, [lab.feed, parts.now], trigger_mode="always_last", **AT_ONCE)
    parts.all.input(h.together, parts.all, [lab.feed, parts.now, *parts.sliders], trigger_mode="always_last", **AT_ONCE)
    parts.into.input(h.look, parts.into, [lab.feed, parts.course], **AT_ONCE)
    chosen = lab.handlers.controls.parts["tasks"]
    chosen.change(h.follow, chosen, parts.tasks, **AT_ONCE)


def _parts(lab: Lab) -> Parts:
    default, lam = RunConfig(), KNOBS["lam"]
    with gr.Row(elem_id="merge-front"):
        tasks = gr.Dropdown(
            task_choices(catalogue()),
            value=list(default.tasks),
            multiselect=True,
            max_choices=MOST_TASKS,
            label=f"Tasks to merge, 2 to {MOST_TASKS}",
            elem_id="merge-tasks",
            scale=5,
        )
        steps = gr.Number(STEPS, label="Steps an adapter", precision=0, elem_id="merge-steps", min_width=120, scale=1)
    train = _press(TRAIN_ADAPTERS, "train", FIRST)
    with gr.Row(elem_id="merge-play"):
        with gr.Column(visible=False, elem_id="merge-sliders", min_width=0) as panel:
            common = {"minimum": lam.low, "maximum": lam.high, "value": lam.default, "step": 0.05, "buttons": []}
            together = gr.Slider(label="λ of all", elem_id="merge-all", **common)
            sliders = [gr.Slider(label=f"λ {i + 1}", visible=False, elem_id=f"merge-lam-{i}", **common) for i in range(MOST_TASKS)]
        with gr.Column(elem_id="merge-now", min_width=0):
            now = lab.picture(VIEWS["merge_now"])
    with gr.Column(visible=False, elem_id="merge-ways", min_width=0) as ways:
        with gr.Row(elem_id="merge-choose"):
            method = gr.Dropdown(
                [(m.label, name) for name, m in MERGES.items()], value="task-arithmetic", label="Way to merge", elem_id="merge-method"
            )
            unlabelled = _setting("unlabelled")
        merge = _press("Merge", "merge")
        table = lab.picture(VIEWS["merge_table"])
        with gr.Column(visible=False, elem_id="merge-inside", min_width=0) as inside:
            into = gr.Dropdown([], label="Look into", elem_id="merge-into")
            course = lab.picture(VIEWS["merge_course"])
        with gr.Accordion("Settings of merging", open=False, elem_id="merge-settings"), gr.Row(elem_id="merge-knobs"):
            settings = {name: unlabelled if name == "unlabelled" else _setting(name) for name in KNOBS}
    return Parts(tasks, steps, train, now, together, sliders, panel, ways, method, merge, table, into, course, inside, settings)


def _press(words: str, name: str, text: str = "") -> Press:
    """A row with a button that starts long work, Stop, and its progress."""
    with gr.Row(elem_id=f"merge-do-{name}", elem_classes="merge-do"):
        go = gr.Button(words, variant="primary", size="md", elem_id=f"merge-{name}")
        stop = gr.Button(STOP, size="md", interactive=False, elem_id=f"merge-stop-{name}")
        told = shown(PROGRESS, {"text": text, "percent": 0, "busy": False}, elem_id=f"merge-told-{name}")
    return Press(go, stop, told)


def _setting(name: str) -> gr.components.Component:
    """The component of one of MergeConfig's knobs."""
    knob = KNOBS[name]
    common = {"label": LABELS[name], "elem_id": f"merge-{name.replace('_', '-')}", "min_width": 200}
    if name == "unlabelled":
        return gr.Dropdown([(SEEN[c], c) for c in knob.choices], value=knob.default, **common)
    if knob.choices:
        return gr.Dropdown([(c, c) for c in knob.choices], value=knob.default, info=knob.help, **common)
    if knob.kind in ("int", "float") and knob.default is not None:  # a Number cannot be empty: it would be 0
        return gr.Number(knob.default, precision=0 if knob.kind == "int" else None, info=knob.help, **common)
    return gr.Textbox("" if knob.default is None else to_text(name, knob.default), max_length=400, info=knob.help, **common)
