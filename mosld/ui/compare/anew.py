"""A run that has ended, trained anew: with three seeds, for spread and paired intervals; or each of its tasks alone, against the mixture.

- `seeds`, `alone`: each puts a choice of run, two buttons and a table on the page. `over_seeds`, `against_mixture`: the tables' data.

What is trained lies in the visitor's folder under `seeds/` and `alone/`, apart from the shelf; what has ended is not trained again, what was stopped
goes on. It takes a place among the runs that may train at one time.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import gradio as gr
from gradio.context import get_render_context

from mosld.config import ConfigError, RunConfig
from mosld.studies.shelf import BY, Kept, read
from mosld.studies.shelf import alone as each_alone
from mosld.studies.statistics import mean, paired_interval, spread
from mosld.ui import STOP
from mosld.ui.compare.shelf import shelf
from mosld.ui.evidence import share, signed_points
from mosld.ui.folders import renamed
from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.session import Session
from mosld.ui.shown import BAR, shown, table
from mosld.ui.wire import short
from mosld.ui.work import Desk, Say, Work

SEEDS = 3
OVER_SEEDS = table(
    "seeds", "Over seeds", "Arms over seeds", Arm="name", Mean="mean", Spread="spread", **{"Each seed": "each", "Against the first": "against"}
)
MIXTURE = table(
    "alone",
    "Does a task gain or lose by the others?",
    "Tasks alone and in the mixture",
    **{"Arm and task": "name", "In the mixture": "mixture", "Alone": "alone", "0 to 100 %": BAR, "Difference": "gap"},
)
KEY = (
    "Right answers on test questions: the bar is the task in the mixture, the red mark the task alone, the dotted one guessing. Settings, seed, "
    "rows and backbone are the same. It is one run of each: a difference of a few points can be chance."
)


class Anew(Work):
    """One press of a button: `configs` trained one after the other, by what is said of each, and what came out so far. `over`: said at the end."""

    def __init__(self, name: str, kept: Kept, configs: dict[str, RunConfig], folder: Path, seconds: int, over: str):
        super().__init__(self.train, seconds)
        self.name, self.kept, self.configs, self.folder, self.over = f"Run {int(name.rpartition('-')[2])}", kept, configs, folder, over
        self.found: dict[str, Kept] = {}

    def train(self, say: Say) -> str:
        from mosld.studies.runs import train

        for number, (label, config) in enumerate(self.configs.items(), 1):
            told = f"{label}, {number} of {len(self.configs)}"
            say(f"{told}: loading …")
            train(config, self.folder / str(number), lambda step, told=told, steps=config.steps: say(f"{told}: step {step} of {steps}"))
            self.found[label] = read(self.folder / str(number))
        return self.over


def planned(session: Session, name, kind: str, configs: Callable[[RunConfig], dict[str, RunConfig]], over: str) -> Anew:
    """The runs to be trained of the one called `name`, within this page's limits. Raises ConfigError."""
    there = shelf(session)
    if not isinstance(name, str) or name not in there:
        raise ConfigError(f"run: '{str(name)[:40]}' is not on the shelf; choose a run that has ended.")
    kept, limits = there[name], session.limits
    if kept.event != "end":
        raise ConfigError("run: it has not come to its end, so its accuracies are not on test rows yet; let it end first.")
    wanted = configs(renamed(kept.config, {n: str(p) for n, p in session.own.items()}))
    for config in wanted.values():
        limits.check(config)
    tokens = sum(c.steps * c.batch * c.max_tokens * len(c.arms) for c in wanted.values())
    if tokens > limits.tokens:
        raise ConfigError(f"run: {tokens:,} tokens for all {len(wanted)} runs together are not allowed on this page; stay within {limits.tokens:,}.")
    place = session.folder / kind.partition(".")[0]
    for old in place.glob("run-*"):
        if old.name.partition(".")[0] not in there:
            shutil.rmtree(old, ignore_errors=True)
    return Anew(name, kept, wanted, place / (name + kind[len(place.name) :]), limits.seconds, over)


def plan_seeds(session: Session, _, name) -> Anew:
    over = "Every seed has its own questions, batches and initial values."
    return planned(session, name, "seeds", lambda c: {f"seed {c.seed + n}": c.replace(seed=c.seed + n) for n in range(1, SEEDS)}, over)


def plan_alone(session: Session, _, name, by) -> Anew:
    over = f"Each task has been trained alone, with {BY.get(str(by))}."
    return planned(session, name, f"alone.{by}", lambda c: {f"{short(t)} alone": one for t, one in each_alone(c, str(by)).items()}, over)


def over_seeds(names: list[str], shares: list[list[float]], questions: int) -> dict:
    """Rows and sentences. `shares` [seed][arm]: mean shares of right answers, each of so many questions."""
    by_arm = [list(column) for column in zip(*shares, strict=True)]
    rows, words = [], []
    for arm, (name, values) in enumerate(zip(names, by_arm, strict=True)):
        against = ""
        if arm and len(values) > 1:
            centre, low, high = paired_interval(values, by_arm[0], rows=questions)
            against = f"{centre:+.3f} [{low:+.3f}, {high:+.3f}]".replace("-", "−")
            verdict = (
                f"{name} is {'above' if low > 0 else 'below'} {names[0]}" if low > 0 or high < 0 else f"{name} and {names[0]} are not told apart"
            )
            words.append(f"{verdict}: over {len(values)} seeds the difference is {against}, paired seed by seed (95 %).")
        each, sd = ", ".join(f"{v:.3f}" for v in values), spread(values)
        rows.append({"name": name, "mean": f"{mean(values):.3f}", "spread": f"{sd:.3f}" if sd == sd else "–", "each": each, "against": against})
    if len(shares) < SEEDS:
        words.append("One seed says nothing about seeds." if len(shares) == 1 else f"{len(shares)} of {SEEDS} seeds so far.")
    return {"rows": rows, "words": words}


def draw_seeds(work: Anew, sentence: str, _) -> tuple[dict]:
    runs = [work.kept, *(kept for kept in work.found.values() if kept.event == "end")]
    config = work.kept.config
    shares = [[row.over(work.kept.tasks)[0] for row in run.rows] for run in runs]
    told = over_seeds(config.arm_names(), shares, config.eval_rows * len(config.tasks))
    return ({"note": f"{work.name}. {sentence}", **told},)


def against_mixture(kept: Kept, found: list[Kept | None]) -> list[dict]:
    """A row an arm and task: right answers in the mixture and, of the tasks trained so far, alone."""
    rows = []
    for arm, row in enumerate(kept.rows):
        for task, one in zip(kept.tasks, found, strict=True):
            mixed, alone = row.accuracy[task][0], (one.rows[arm].accuracy.get(task) or [None])[0] if one else None
            marks = [
                {"at": 100 * at, "kind": kind} for kind, at in (("chance", kept.baselines["chance"].get(task)), ("own", alone)) if at is not None
            ]
            rows.append(
                {
                    "name": f"{row.label}, {short(task)}" if len(kept.rows) > 1 else short(task),
                    "mixture": share(mixed, 1),
                    "alone": "–" if alone is None else share(alone, 1),
                    "gap": "" if alone is None else signed_points(mixed - alone),
                    "percent": 100 * mixed,
                    "marks": marks,
                }
            )
    return rows


def draw_alone(work: Anew, sentence: str, _) -> tuple[dict]:
    rows = against_mixture(work.kept, [work.found.get(label) for label in work.configs])
    return ({"note": f"{work.name}. {sentence}", "rows": rows, "words": [KEY]},)


def seeds(lab: Lab, again: gr.Button) -> None:
    """The tab Seeds."""
    note = "repeat it here: one run cannot tell a difference from luck."
    _place(lab, again, "seeds", f"Repeat with {SEEDS} seeds", plan_seeds, draw_seeds, OVER_SEEDS, note)


def alone(lab: Lab, again: gr.Button) -> None:
    """The fold in which each task is trained alone."""
    by = partial(gr.Dropdown, [(text, name) for name, text in BY.items()], value="questions", label="A task alone gets", elem_id="alone-by")
    with gr.Accordion("Each task alone against the mixture", open=False, elem_id="fold-alone"):
        _place(
            lab,
            again,
            "alone",
            "Train each task alone",
            plan_alone,
            draw_alone,
            MIXTURE,
            "train each of its tasks alone, with the same settings.",
            by,
        )


def _place(lab: Lab, again: gr.Button, name: str, words: str, plan, draw, markup: str, note: str, more: Callable | None = None) -> None:
    tab = get_render_context()
    while not isinstance(tab, gr.Tab):
        tab = tab.parent
    with gr.Row(elem_id=f"{name}-choice", elem_classes="lab-choice"):
        run = gr.Dropdown([], label="Run that has ended", elem_id=f"{name}-run")
        given = [run, *([more()] if more else [])]
        start = gr.Button(words, variant="primary", size="md", elem_id=f"{name}-start", scale=0, min_width=200)
        stop = gr.Button(STOP, size="md", elem_id=f"{name}-stop", interactive=False, scale=0, min_width=80)
    told = shown(markup, {"note": f"Let a run end, then {note}"}, elem_id=name)

    def opened(request: gr.Request) -> dict:
        ended = [name for name, kept in shelf(lab.look(request)).items() if kept.event == "end"]
        return gr.update(choices=[(f"Run {int(n.rpartition('-')[2])}", n) for n in ended], value=ended[-1] if ended else None)

    gr.on([tab.select, again.click], opened, None, run, **AT_ONCE)
    Desk(lab, f"compare-{name}", draw, [told], [start], [stop]).wire((start.click, given, plan))
