"""Single-task against mixture: each task of a run that has ended is trained alone, with the same settings.

`Alone`: the fold's components and handlers. Its runs lie in the visitor's folder under `alone/`, apart from the shelf; what has ended is not
trained again, what was stopped goes on. They take a place among the runs that may train at one time and share the cores with them.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import gradio as gr

from mosld.config import ConfigError, RunConfig
from mosld.studies.shelf import BY, Kept, alone, read
from mosld.ui import STOP
from mosld.ui.canvas import VIEWS
from mosld.ui.folders import renamed
from mosld.ui.lab import AT_ONCE, QUIET, Lab
from mosld.ui.limits import Limits
from mosld.ui.session import Session
from mosld.ui.shown import shown
from mosld.ui.wire import short, to_json
from mosld.ui.work import Say, Work, claim_work, follow

STATUS = '<p class="lab-note" role="status" data-text="."></p>'
WORK = "compare-alone"  # in session.tabs: the last _Tasks


class _Tasks(Work):
    """One press of the button: task after task trained alone, and what was found so far."""

    def __init__(self, run: str, kept: Kept, configs: dict[str, RunConfig], folder: Path, seconds: int):
        super().__init__(self.train, seconds)
        self.run, self.kept, self.configs, self.folder = run, kept, configs, folder
        self.found: dict[str, Kept] = {}

    def train(self, say: Say) -> None:
        from mosld.studies.runs import train

        for number, (task, config) in enumerate(self.configs.items(), 1):
            name, place = f"{short(task)} alone, task {number} of {len(self.configs)}", self.folder / str(number)
            say(f"{name}: loading …")
            train(config, place, lambda step, name=name, steps=config.steps: say(f"{name}: step {step} of {steps}"))
            self.found[task] = read(place)


class Alone:
    """The fold. `run` is the choice of a run, filled by the tab."""

    def __init__(self, lab: Lab, shelf: Callable[[Session], dict[str, Kept]]):
        self.lab, self.shelf = lab, shelf

    def place(self) -> None:
        with gr.Accordion("Each task alone against the mixture", open=False, elem_id="fold-alone"):
            with gr.Row(elem_id="alone-choice"):
                self.run = gr.Dropdown([], label="Run that has ended", elem_id="alone-run")
                by = gr.Dropdown([(text, name) for name, text in BY.items()], value="questions", label="A task alone gets", elem_id="alone-by")
                start = gr.Button("Train each task alone", size="md", elem_id="alone-start", scale=0, min_width=220)
                stop = gr.Button(STOP, size="md", elem_id="alone-stop", interactive=False, scale=0, min_width=80)
            status = shown(STATUS, "", elem_id="alone-status")
            picture = self.lab.picture(VIEWS["alone"])
        limits = self.lab.handlers.sessions.limits
        outputs = [self.lab.feed, status, picture, start, stop]
        planned = start.click(self.plan, [self.run, by], outputs, **AT_ONCE)
        planned.success(self.stream, None, outputs, concurrency_id="train", concurrency_limit=limits.runs, **QUIET)
        stop.click(self.stop, None, status, **AT_ONCE)

    def plan(self, request: gr.Request, run, by) -> tuple:
        """Check what was asked for; what is planned waits for its place among the runs."""
        try:
            session = self.lab.visitor(request)
            work = claim_work(session, WORK, lambda: plan(session, self.shelf(session), run, by))
        except ConfigError as problem:
            return self.lab.refused(problem, 4)
        return gr.skip(), "Waiting for a free place …", picture_of(work), gr.update(interactive=False), gr.update(interactive=True)

    def stream(self, request: gr.Request) -> Iterator[tuple]:
        """Train what was planned; closed by gradio when the page is."""
        session = self.lab.look(request)
        work = session.tabs.get(WORK)
        if not isinstance(work, _Tasks) or work.begun:
            yield (gr.skip(),) * 5
            return
        seen = 0
        for feed, sentence, over in follow(work, session, "Each task has been trained alone."):
            picture, seen = picture_of(work) if over or len(work.found) != seen else gr.skip(), len(work.found)
            yield feed, sentence, picture, *((gr.update(interactive=True), gr.update(interactive=False)) if over else (gr.skip(), gr.skip()))

    def stop(self, request: gr.Request) -> str:
        work = self.lab.look(request).tabs.get(WORK)
        if isinstance(work, _Tasks):
            work.stop()
        return "Stopping after this step …"


def plan(session: Session, shelf: dict[str, Kept], run, by) -> _Tasks:
    """The runs to be trained, within this page's limits. Raises ConfigError."""
    if not isinstance(run, str) or run not in shelf:
        raise ConfigError(f"run: '{str(run)[:40]}' is not on the shelf; choose a run that has ended.")
    kept = shelf[run]
    if kept.event != "end":
        raise ConfigError("run: it has not come to its end, so its accuracies are not on test rows yet; let it end first.")
    configs = alone(renamed(kept.config, {n: str(p) for n, p in session.own.items()}), str(by))
    check(session.limits, configs)
    place = session.folder / "alone"
    for old in place.glob("run-*"):
        if old.name.rpartition(".")[0] not in shelf:
            shutil.rmtree(old, ignore_errors=True)
    return _Tasks(run, kept, configs, place / f"{run}.{by}", session.limits.seconds)


def check(limits: Limits, configs: dict[str, RunConfig]) -> None:
    """Refuse runs that are too large, each for itself or all together. Raises ConfigError."""
    tokens = 0
    for config in configs.values():
        limits.check(config)
        tokens += config.steps * config.batch * config.max_tokens * len(config.arms)
    if tokens > limits.tokens:
        raise ConfigError(f"alone: {tokens:,} tokens for all tasks together are not allowed on this page; stay within {limits.tokens:,}.")


def picture_of(work: _Tasks) -> str:
    """JSON text for the picture: accuracies in the mixture and, of the tasks done so far, alone."""
    kept, tasks = work.kept, list(work.configs)

    def accuracy(run: Kept | None, arm: int, task: str) -> float | None:
        values = run.rows[arm].accuracy.get(task) if run is not None else None
        return values[0] if values else None

    each = range(len(kept.rows))
    data = {
        "run": f"Run {int(work.run.rpartition('-')[2])}",
        "by": BY[work.folder.name.rpartition(".")[2]],
        "arms": [row.label for row in kept.rows],
        "tasks": [short(t) for t in tasks],
        "chance": [kept.baselines["chance"].get(t) for t in tasks],
        "steps": [config.steps for config in work.configs.values()],
        "mixture": [[accuracy(kept, arm, t) for t in tasks] for arm in each],
        "alone": [[accuracy(work.found.get(t), arm, t) for t in tasks] for arm in each],
    }
    return to_json(data)
