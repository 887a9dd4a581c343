"""Lessons: text and picture side by side; predict, see a recorded run of the lesson or train it, read the answer, try one thing.

- `place`: the page's part, drawn by `canvas/learn.js`. `?lesson=3` in the address opens the third lesson.
- `Desk`: the handlers. What they keep for a visitor is a `Progress` in `session.tabs["lessons"]`.
- `finished(session, lesson)`: the logs of the lesson's runs, or one sentence on what is missing.

Recorded runs carry their answer and are shown by the browser alone: lessons work while every training place is taken.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gradio as gr

from mosld.config import ConfigError, RunConfig
from mosld.ui import RESUME
from mosld.ui.canvas.base import after
from mosld.ui.controls import label
from mosld.ui.evidence import quoted
from mosld.ui.folders import runs
from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.learn.lessons import LESSONS, Lesson, described
from mosld.ui.session import BUSY, Session, say
from mosld.ui.wire import mark, short

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog

ASK = "Choose an answer first: a prediction is worth most before the run."
AGAIN = 8  # runs of one lesson that are listed


@dataclass
class Progress:
    """What a visitor has done in this room."""

    shown: dict[int, dict[int, int]] = field(default_factory=dict)  # lesson -> seed -> answer that the runs supported
    queue: list[RunConfig] = field(default_factory=list)  # runs still to be made of the lesson that is going on
    going: int = 0  # that lesson
    trying: bool = False  # whether what goes on is its "now try"


def place(lab: Lab) -> None:
    """Put the room on the page and wire it."""
    script = after(f"M.learn(element.querySelector('.lab-learn'), {json.dumps(told())}, ['begin', 'attempt'], trigger, props, watch)")
    room = gr.HTML(None, html_template='<div class="lab-learn"></div>', js_on_load=script, elem_id="learn", apply_default_css=False)
    desk, inputs = Desk(lab), lab.handlers.controls.inputs
    for begun in (
        room.begin(desk.begin, None, [lab.feed, room, *inputs], **AT_ONCE),
        room.attempt(desk.attempt, None, [lab.feed, room, *inputs], **AT_ONCE),
    ):
        event = begun
        for step in range(max(len(lesson.runs) for lesson in LESSONS)):
            event = event.then(desk.fill, None, inputs, **AT_ONCE) if step else event
            event = lab.after(lab.train(event.then, desk.plan, None))
        event.then(desk.over, None, room, **AT_ONCE)


def told() -> list[dict]:
    """The lessons as the page draws them."""
    out = []
    for lesson in LESSONS:
        runs_of = ("The run: " if len(lesson.runs) == 1 else "The runs: ") + ". Then ".join(map(described, lesson.runs)) + "."
        name, values = lesson.tries
        same = {field: getattr(lesson, field) for field in ("title", "text", "question", "answers", "seen", "marks")}
        out.append(
            {
                **same,
                "run": runs_of,
                "beside": lesson.beside and (short(lesson.beside) if lesson.beside != "*" else "*"),
                "mark": mark(lesson.runs[-1]),
                "tries": {"label": label(name), "values": values},
                "claims": quoted(lesson.claims),
            }
        )
    return out


def beside(lesson: Lesson, logs: list[RunLog]) -> list[dict]:
    """Results of the runs before the last one, to be drawn beside it: task and share of right answers."""
    wanted = [log for log in logs[:-1] if lesson.beside in ("*", log.tasks[0])]
    return [{"task": short(log.tasks[0]), "value": log.frames[-1].arms[0].accuracy[log.tasks[0]]} for log in wanted]


class Desk:
    """The handlers of the room."""

    def __init__(self, lab: Lab):
        self.lab, self.controls = lab, lab.handlers.controls

    def begin(self, request: gr.Request, event: gr.EventData) -> tuple:
        """Line up the lesson's runs, with the next seed where it has been run, and fill the controls with the first."""
        data = event._data or {}
        number, guess = data.get("lesson"), data.get("guess")
        try:
            lesson = _lesson(number)
            if not isinstance(guess, int) or isinstance(guess, bool) or not 0 <= guess < len(lesson.answers):
                return self._refused(ASK, number)
            _, progress = self._progress(request)
        except ConfigError as problem:
            return self._refused(str(problem), number)
        seeds = progress.shown.get(number)
        progress.going, progress.trying = number, False
        progress.queue = [config.replace(seed=config.seed + max(seeds) + 1 if seeds else config.seed) for config in lesson.runs]
        count = len(lesson.runs)
        note = "Your run is on its way." if count == 1 else f"{count} runs are on their way, one after the other."
        return gr.skip(), {"lesson": number, "note": note}, *self.controls.fill(progress.queue[0])

    def attempt(self, request: gr.Request, event: gr.EventData) -> tuple:
        """The lesson's last run with another value of the one setting it offers."""
        data = event._data or {}
        number, value = data.get("lesson"), data.get("value")
        try:
            lesson = _lesson(number)
            name, values = lesson.tries
            if value not in values:
                raise ConfigError(f"{name}: '{str(value)[:20]}' is not offered here; choose one of {', '.join(values)}.")
            config = RunConfig.from_url(lesson.runs[-1].to_url())
            changed = config.replace(**{name: value if name in ("method", "experts", "dropout_on") else int(value)})
            _, progress = self._progress(request)
        except ConfigError as problem:
            return self._refused(str(problem), number)
        progress.going, progress.trying, progress.queue = number, True, [changed]
        return gr.skip(), {"lesson": number, "note": f"{label(name)} {value}: your run is on its way."}, *self.controls.fill(changed)

    def _refused(self, sentence: str, number) -> tuple:
        return gr.skip(), {"lesson": number, "note": sentence, "kind": "ask"}, *[gr.skip()] * len(self.controls.parts)

    def fill(self, request: gr.Request) -> list:
        """The controls of the run that is next, if the one before it came to its end."""
        try:
            session, progress = self._progress(request)
        except ConfigError:
            return [gr.skip()] * len(self.controls.parts)
        if progress.queue and (session.state != "ended" or session.config.replace(seed=0) not in LESSONS[progress.going - 1].runs):
            progress.queue = []  # the visitor has paused it or gone on to something else
        return self.controls.fill(progress.queue[0]) if progress.queue else [gr.skip()] * len(self.controls.parts)

    def plan(self, request: gr.Request) -> str:
        """Plan the next run in the line, if there is one."""
        try:
            session, progress = self._progress(request)
            if not progress.queue:
                return gr.skip()
            config, *progress.queue = progress.queue
            session.prepare(config)
        except ConfigError as problem:
            return say(str(problem), error=True)
        return session.word()

    def over(self, request: gr.Request) -> dict:
        """The answer that the lesson's runs give, once they have ended."""
        try:
            session, progress = self._progress(request)
            if not progress.going or progress.queue:
                return gr.skip()
            number, lesson = progress.going, LESSONS[progress.going - 1]
            if progress.trying:
                return {"lesson": number, "note": "This run has another value; compare it with the answer above.", "tried": True}
            logs = finished(session, lesson)
            return self.read(progress, number, logs)
        except ConfigError as problem:
            return {"lesson": progress.going, "note": str(problem)} if progress.going else gr.skip()

    def read(self, progress: Progress, number: int, logs: list) -> dict:
        """Evaluate a lesson's runs: answer, sentence, what stands beside, and what runs of other seeds said."""
        lesson = LESSONS[number - 1]
        supported, sentence = lesson.evaluate(*logs)
        logs = [run.log for run in logs] if lesson.merges else logs
        seeds = progress.shown.setdefault(number, {})
        seeds.pop(logs[-1].config.seed, None)  # the newest stands last
        seeds[logs[-1].config.seed] = supported
        for old in list(seeds)[:-AGAIN]:
            del seeds[old]
        tally = "; ".join(f"seed {s}: {lesson.answers[a]}" for s, a in seeds.items())
        one = "This is one seed; another draws other questions, initial values and batches. Run it again to see whether the answer stays."
        return {
            "lesson": number,
            "answer": supported,
            "sentence": sentence,
            "tally": f"Your runs of this lesson: {tally}." if len(seeds) > 1 else one,
            "beside": beside(lesson, logs),
        }

    def _progress(self, request: gr.Request) -> tuple[Session, Progress]:
        session = self.lab.visitor(request)
        return session, session.tabs.setdefault("lessons", Progress())


def _lesson(number) -> Lesson:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= len(LESSONS):
        raise ConfigError(f"lesson: '{str(number)[:20]}' is not there; give a number from 1 to {len(LESSONS)}.")
    return LESSONS[number - 1]


def finished(session: Session, lesson: Lesson) -> list:
    """The logs of the lesson's runs (runs with their folders where it merges), of the seed that the visitor's last run has.

    Raises ConfigError with what is missing.
    """
    if session.state in BUSY:
        raise ConfigError("The run has not ended yet.")
    if session.state == "paused":
        raise ConfigError(f"The run is paused: press {RESUME} at the top.")
    from mosld.merging.sources import Run
    from mosld.training.runlog import RunLog  # imports torch

    folders = runs(session.folder)
    if not folders:
        raise ConfigError("There is no run yet: choose an answer and press the button that runs this lesson.")
    configs = {folder: RunConfig(**json.loads((folder / "run.json").read_text())["config"]) for folder in folders}
    seed = configs[folders[-1]].seed
    wanted = [config.replace(seed=seed) for config in lesson.runs]
    if configs[folders[-1]] not in wanted:
        raise ConfigError("The last run here is another one than this lesson's: press the button that runs this lesson.")
    found = []
    for config in wanted:
        folder = next((f for f in reversed(folders) if configs[f] == config), None)
        if folder is None:
            raise ConfigError(f"Of the {len(wanted)} runs of this lesson not all have been made: press the button that runs it.")
        log = RunLog.load(folder)
        if not log.frames or log.frames[-1].event != "end":
            raise ConfigError("A run of this lesson did not come to its end: press the button that runs it.")
        if any(frame.event == "change" for frame in log.frames):
            raise ConfigError("Settings were changed during the run, so it is no longer this lesson's: press the button that runs it again.")
        found.append(Run(folder, log) if lesson.merges else log)
    return found
