"""Repeat with three seeds: the arms of a run that has ended, over seeds, with spread and the interval of their paired differences.

- `place`: a choice of run, two buttons and the table. `summary(names, shares, questions)`: the table's data, from plain numbers.

The runs lie in the visitor's folder under `seeds/`; what has ended is not trained again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
from gradio.context import get_render_context

from mosld.config import ConfigError, RunConfig
from mosld.studies.statistics import mean, paired_interval, spread
from mosld.ui import STOP
from mosld.ui.compare.shelf import shelf
from mosld.ui.folders import renamed, runs
from mosld.ui.lab import AT_ONCE, QUIET, Lab
from mosld.ui.shown import shown
from mosld.ui.work import Say, Work, claim_work, follow

TITLE = "Seeds"
SEEDS = 3
WORK = "compare-seeds"  # in session.tabs: the last _Repeats
MARKUP = (
    '<section class="lab-figure lab-shelf" aria-labelledby="seeds-title"><h2 id="seeds-title">Over seeds</h2>'
    '<p class="lab-shows" data-text="note"></p>'
    '<div class="lab-scroll" role="region" aria-label="Arms over seeds" tabindex="0" data-if="rows"><table><thead><tr><th scope="col">Arm</th>'
    '<th scope="col">Mean</th><th scope="col">Spread</th><th scope="col">Each seed</th><th scope="col">Against the first</th></tr></thead><tbody>'
    '<tr data-each="rows"><th scope="row" data-text="name"></th><td data-text="mean"></td><td data-text="spread"></td><td data-text="each"></td>'
    '<td data-text="against"></td></tr></tbody></table></div><p data-each="words" data-text="."></p></section>'
)


class _Repeats(Work):
    """One press of the button: seed after seed, and the mean accuracies of every arm found so far."""

    def __init__(self, name: str, config: RunConfig, own: list[float], folder: Path, seconds: int):
        super().__init__(self.train, seconds)
        self.name, self.config, self.folder = name, config, folder
        self.found: dict[int, list[float]] = {config.seed: own}

    def train(self, say: Say) -> None:
        from mosld.studies.runs import train

        for number in range(1, SEEDS):
            config = self.config.replace(seed=self.config.seed + number)
            text = f"seed {config.seed}, {number} of {SEEDS - 1}"
            say(f"{text}: loading …")
            done = train(config, self.folder / str(config.seed), lambda step, text=text: say(f"{text}: step {step} of {self.config.steps}"))
            if done.frames[-1].event == "end":
                self.found[config.seed] = [mean([arm.accuracy[t] for t in done.tasks]) for arm in done.frames[-1].arms]


def summary(names: list[str], shares: list[list[float]], questions: int) -> dict:
    """Rows and sentences. `shares` [seed][arm]: mean shares of right answers, each of so many questions."""
    by_arm = [list(column) for column in zip(*shares, strict=True)]
    rows, words = [], []
    for arm, (name, values) in enumerate(zip(names, by_arm, strict=True)):
        against = ""
        if arm and len(values) > 1:
            centre, low, high = paired_interval(values, by_arm[0], rows=questions)
            against = f"{centre:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
            verdict = (
                f"{name} is above {names[0]}"
                if low > 0
                else f"{name} is below {names[0]}"
                if high < 0
                else f"{name} and {names[0]} are not told apart"
            )
            words.append(f"{verdict}: over {len(values)} seeds the difference is {against}, paired seed by seed (95 %).")
        each, sd = ", ".join(f"{v:.3f}" for v in values), spread(values)
        rows.append({"name": name, "mean": f"{mean(values):.3f}", "spread": f"{sd:.3f}" if sd == sd else "–", "each": each, "against": against})
    if len(shares) < SEEDS:
        words.append("One seed says nothing about seeds." if len(shares) == 1 else f"{len(shares)} of {SEEDS} seeds so far.")
    return {"rows": rows, "words": words}


def place(lab: Lab) -> None:
    """Put the tab on the page and wire it."""
    tab = get_render_context()
    with gr.Row(elem_id="seeds-choice"):
        run = gr.Dropdown([], label="Run that has ended", elem_id="seeds-run")
        start = gr.Button(f"Repeat with {SEEDS} seeds", variant="primary", size="md", elem_id="seeds-start", scale=0, min_width=200)
        stop = gr.Button(STOP, size="md", elem_id="seeds-stop", interactive=False, scale=0, min_width=80)
    table = shown(MARKUP, {"note": "Let a run end, then repeat it here: one run cannot tell a difference from luck."}, elem_id="seeds")
    limits = lab.handlers.sessions.limits

    def opened(request: gr.Request) -> dict:
        ended = [name for name, kept in shelf(lab.look(request)).items() if kept.event == "end"]
        return gr.update(choices=[(f"Run {int(n.rpartition('-')[2])}", n) for n in ended], value=ended[-1] if ended else None)

    def plan(request: gr.Request, chosen) -> tuple:
        try:
            session = lab.visitor(request)
            kept = shelf(session).get(str(chosen))
            if kept is None or kept.event != "end":
                raise ConfigError("run: choose one that has ended; let one end first.")
            limits.check(kept.config)
            own = [row.over(kept.tasks)[0] for row in kept.rows]
            folder = next(f for f in runs(session.folder) if f.name == chosen)
            config, place = renamed(kept.config, {n: str(p) for n, p in session.own.items()}), session.folder / "seeds" / folder.name
            work = claim_work(session, WORK, lambda: _Repeats(str(chosen), config, own, place, limits.seconds))
        except ConfigError as problem:
            return lab.refused(problem, 3)
        return gr.skip(), drawn(work, "Waiting for a free place …"), gr.update(interactive=False), gr.update(interactive=True)

    def stream(request: gr.Request) -> Iterator[tuple]:
        session = lab.look(request)
        work = session.tabs.get(WORK)
        if not isinstance(work, _Repeats) or work.begun:
            yield (gr.skip(),) * 4
            return
        for feed, sentence, over in follow(work, session, "Every seed has its own questions, batches and initial values."):
            yield feed, drawn(work, sentence), *((gr.update(interactive=True), gr.update(interactive=False)) if over else (gr.skip(), gr.skip()))

    def halt(request: gr.Request) -> None:
        work = lab.look(request).tabs.get(WORK)
        if isinstance(work, _Repeats):
            work.stop()

    outputs = [lab.feed, table, start, stop]
    tab.select(opened, None, run, **AT_ONCE)
    planned = start.click(plan, run, outputs, **AT_ONCE)
    planned.success(stream, None, outputs, concurrency_id="train", concurrency_limit=limits.runs, **QUIET)
    stop.click(halt, None, None, **AT_ONCE)


def drawn(work: _Repeats, note: str) -> dict:
    """The value of the table."""
    questions = work.config.eval_rows * len(work.config.tasks)
    return {"note": f"Run {int(work.name.rpartition('-')[2])}. {note}", **summary(work.config.arm_names(), list(work.found.values()), questions)}
