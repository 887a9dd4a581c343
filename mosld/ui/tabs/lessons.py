"""Lessons: six short pages that set the controls, start a run and, once a prediction is made, read the answer from that run.

- `place`: card, prediction, buttons and answer. `?lesson=3` in the address opens the third lesson.
- `Desk`: the handlers. What they keep for a visitor is a `Progress` in `session.tabs["lessons"]`.
- `finished(session, lesson)`: the logs of the lesson's runs, or one sentence on what is missing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import gradio as gr
from gradio.context import Context

from mosld.config import ConfigError, RunConfig
from mosld.ui.canvas import VIEWS
from mosld.ui.lab import AT_ONCE, Lab
from mosld.ui.lessons import LESSONS, Lesson, described
from mosld.ui.session import BUSY, Session, runs, say
from mosld.ui.shown import shown

if TYPE_CHECKING:
    from mosld.training.runlog import RunLog

TITLE = "Lessons"
ASK = "Choose an answer first: a prediction is worth most before the run."
AGAIN = 8  # runs of one lesson that are listed

CARD = (
    '<section class="lab-figure lab-lesson" aria-labelledby="lesson-title"><div class="lab-lesson-mark"><span data-text="mark"></span><ol>'
    '<li data-each="steps" data-set="class:kind title:title"><span class="lab-sr" data-text="title"></span></li></ol></div>'
    '<h2 id="lesson-title" data-text="title"></h2><p data-each="text" data-text="."></p>'
    '<p class="lab-lesson-run" data-text="run"></p></section>'
)
# The number of the lesson goes into the address once a visitor has turned to it; a link with a number opens this tab.
CARD_JS = """
const turn = () => {
  const value = props.value;
  if (!value || !value.link) return;
  const url = new URL(window.location.href);
  const kept = url.search.replace(/^\\?/, "").split("&").filter((part) => part && !part.startsWith("lesson="));
  window.history.replaceState(null, "", `${url.pathname}?${[...kept, `lesson=${value.link}`].join("&")}`);
};
watch('value', turn); turn();
"""
ANSWER = (
    '<div class="lab-answer" role="status" data-set="data-kind:kind"><p data-if="note" data-text="note"></p>'
    '<dl data-if="supports"><div><dt>You predicted</dt><dd data-text="predicted"></dd></div>'
    '<div><dt data-text="shows"></dt><dd data-text="supports"></dd></div></dl>'
    '<p data-if="sentence" data-text="sentence"></p><p data-if="tally" data-text="tally"></p>'
    '<p class="lab-seen" data-if="tab">Where to see it: tab <span data-text="tab"></span>, “<span data-text="picture"></span>”. '
    '<button type="button" data-set="data-tab:tab data-view:view">Show it</button></p></div>'
)
ANSWER_JS = """
element.addEventListener('click', (event) => {
  const to = event.target.closest('button[data-tab]');
  if (!to) return;
  const tabs = document.querySelectorAll('button[role=tab], .overflow-dropdown button'); // on a phone some are in a menu
  const tab = [...tabs].find((b) => b.textContent.trim() === to.dataset.tab);
  if (tab) tab.click();
  setTimeout(() => {
    const figure = document.getElementById(`figure-${to.dataset.view}`), canvas = figure && figure.querySelector('canvas');
    if (canvas) { figure.scrollIntoView({ block: 'center' }); canvas.focus({ preventScroll: true }); }
  }, 150);
});
"""


@dataclass
class Progress:
    """What a visitor has done in this tab."""

    at: int = 1
    predicted: dict[int, int] = field(default_factory=dict)  # lesson -> answer chosen when its run was started
    shown: dict[int, dict[int, int]] = field(default_factory=dict)  # lesson -> seed -> answer that the runs supported
    queue: list[RunConfig] = field(default_factory=list)  # runs still to be made of the lesson that is going on
    going: int = 0  # that lesson


def place(lab: Lab) -> None:
    """Put the tab's components on the page and wire them."""
    tab, bar = Context.block, Context.block.parent
    tab.id = "lessons"  # by which a link opens it
    first, inputs = LESSONS[0], lab.handlers.controls.inputs
    with gr.Column(elem_id="lessons", min_width=0):
        card = shown(CARD, pictured(1, set()), CARD_JS, elem_id="lesson-card")
        guess = gr.Radio(_choices(first), label=first.question, elem_id="lesson-guess")
        with gr.Row(elem_id="lesson-act"):
            run = gr.Button(_label(None), variant="primary", size="md", elem_id="lesson-run", scale=0, min_width=230)
            reveal = gr.Button("Reveal", size="md", elem_id="lesson-reveal", scale=0, min_width=110)
        answer = shown(ANSWER, told(""), ANSWER_JS, elem_id="lesson-answer")
        with gr.Row(elem_id="lesson-turn"):
            back = gr.Button("Back", size="md", elem_id="lesson-back", interactive=False, scale=0, min_width=90)
            following = gr.Button("Next", size="md", elem_id="lesson-next", scale=0, min_width=90)
    desk, page = Desk(lab), [lab.feed, card, guess, run, answer, back, following]
    back.click(desk.back, None, page, **AT_ONCE)
    following.click(desk.following, None, page, **AT_ONCE)
    reveal.click(desk.reveal, guess, [lab.feed, card, guess, run, answer], **AT_ONCE)
    Context.root_block.load(desk.opened, None, [*page, bar], **AT_ONCE)
    event = run.click(desk.begin, guess, [lab.feed, answer, *inputs], **AT_ONCE)
    for step in range(max(len(lesson.runs) for lesson in LESSONS)):
        event = event.then(desk.fill, None, inputs, **AT_ONCE) if step else event
        event = lab.after(lab.train(event.then, desk.plan, None))
    event.then(desk.over, None, answer, **AT_ONCE)


class Desk:
    """The handlers of the tab."""

    def __init__(self, lab: Lab):
        self.lab, self.controls = lab, lab.handlers.controls

    # Turning pages.

    def opened(self, request: gr.Request) -> tuple:
        """Turn to the lesson that the address names, and to this tab."""
        number = dict(request.query_params).get("lesson")
        if number is None:
            return (gr.skip(),) * 8
        try:
            if number not in map(str, range(1, len(LESSONS) + 1)):
                raise ConfigError(f"lesson: '{number[:20]}' is not there; give a number from 1 to {len(LESSONS)}.")
            return *self._turn(request, int(number)), gr.Tabs(selected="lessons")
        except ConfigError as problem:
            return self.lab.refused(problem, 7)

    def back(self, request: gr.Request) -> tuple:
        return self._move(request, -1)

    def following(self, request: gr.Request) -> tuple:
        return self._move(request, 1)

    def _move(self, request: gr.Request, by: int) -> tuple:
        try:
            return self._turn(request, min(max(self._progress(request)[1].at + by, 1), len(LESSONS)))
        except ConfigError as problem:
            return self.lab.refused(problem, 6)

    def _turn(self, request: gr.Request, number: int) -> tuple:
        _, progress = self._progress(request)
        progress.at, lesson = number, LESSONS[number - 1]
        return (
            gr.skip(),
            pictured(number, set(progress.shown), link=True),
            gr.update(choices=_choices(lesson), value=progress.predicted.get(number), label=lesson.question),
            _label(progress.shown.get(number)),
            told(""),
            gr.update(interactive=number > 1),
            gr.update(interactive=number < len(LESSONS)),
        )

    # The run.

    def begin(self, request: gr.Request, guess) -> tuple:
        """Note the prediction, line up the lesson's runs and fill the controls with the first."""
        as_it_is = [gr.skip()] * len(self.controls.parts)
        try:
            _, progress = self._progress(request)
        except ConfigError as problem:
            return self.lab.refused(problem, 1 + len(as_it_is))
        lesson, progress.queue = LESSONS[progress.at - 1], []
        if not _is_answer(lesson, guess):
            return gr.skip(), told(ASK, "ask"), *as_it_is
        progress.predicted[progress.at], progress.going = guess, progress.at
        seeds = progress.shown.get(progress.at)
        progress.queue = [config.replace(seed=config.seed + max(seeds) + 1 if seeds else config.seed) for config in lesson.runs]
        note = "The run is on its way" if len(lesson.runs) == 1 else f"{len(lesson.runs)} runs are on their way, one after the other"
        note += ": the line at the top of the page shows its step, the other tabs its pictures. Once it has ended, press Reveal."
        return gr.skip(), told(note), *self.controls.fill(progress.queue[0])

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
        """Say that the answer is ready, where the visitor is still at that lesson."""
        try:
            session, progress = self._progress(request)
            if progress.going == progress.at and progress.predicted:
                finished(session, LESSONS[progress.at - 1])
                return told("The run has ended: press Reveal.", "ready")
        except ConfigError:
            pass
        return gr.skip()

    def reveal(self, request: gr.Request, guess) -> tuple:
        """What was predicted, and what the lesson's last run shows."""
        try:
            session, progress = self._progress(request)
        except ConfigError as problem:
            return self.lab.refused(problem, 4)
        number, lesson = progress.at, LESSONS[progress.at - 1]
        if number not in progress.predicted and not _is_answer(lesson, guess):
            return *[gr.skip()] * 4, told(ASK, "ask")
        try:
            logs = finished(session, lesson)
        except ConfigError as problem:
            return *[gr.skip()] * 4, told(str(problem), "ask")
        predicted = progress.predicted.setdefault(number, guess)
        supported, sentence = lesson.evaluate(*logs)
        seeds = progress.shown.setdefault(number, {})
        seeds.pop(logs[-1].config.seed, None)  # the newest stands last
        seeds[logs[-1].config.seed] = supported
        for old in list(seeds)[:-AGAIN]:
            del seeds[old]
        return gr.skip(), pictured(number, set(progress.shown), link=True), predicted, _label(seeds), revealed(lesson, predicted, sentence, seeds)

    def _progress(self, request: gr.Request) -> tuple[Session, Progress]:
        session = self.lab.visitor(request)
        return session, session.tabs.setdefault("lessons", Progress())


def finished(session: Session, lesson: Lesson) -> list[RunLog]:
    """The logs of the lesson's runs, of the seed that the visitor's last run has. Raises ConfigError with what is missing."""
    if session.state in BUSY:
        raise ConfigError("The run has not ended yet: press Reveal once it has.")
    if session.state == "paused":
        raise ConfigError("The run is paused: press Resume at the top, and Reveal once it has ended.")
    from mosld.training.runlog import RunLog  # imports torch

    folders = runs(session.folder)
    if not folders:
        raise ConfigError("There is no run yet: choose an answer and press the button that runs this lesson.")
    configs = {folder: RunConfig(**json.loads((folder / "run.json").read_text())["config"]) for folder in folders}
    seed = configs[folders[-1]].seed
    wanted = [config.replace(seed=seed) for config in lesson.runs]
    if configs[folders[-1]] not in wanted:
        raise ConfigError("The last run here is another one than this lesson's: press the button that runs this lesson.")
    logs = []
    for config in wanted:
        folder = next((f for f in reversed(folders) if configs[f] == config), None)
        if folder is None:
            raise ConfigError(f"Of the {len(wanted)} runs of this lesson not all have been made: press the button that runs it.")
        log = RunLog.load(folder)
        if not log.frames or log.frames[-1].event != "end":
            raise ConfigError("A run of this lesson did not come to its end: press the button that runs it.")
        if any(frame.event == "change" for frame in log.frames):
            raise ConfigError("Settings were changed during the run, so it is no longer this lesson's: press the button that runs it again.")
        logs.append(log)
    return logs


# What the components show.


def pictured(number: int, done: set[int], link: bool = False) -> dict:
    """The value of the card. `done`: lessons whose answer was revealed. `link`: whether the address shall name the lesson."""
    lesson = LESSONS[number - 1]
    kinds = {n: " ".join(["now"] * (n == number) + ["done"] * (n in done)) for n in range(1, len(LESSONS) + 1)}
    words = {"now": ", open", "done": ", revealed", "now done": ", open, revealed", "": ""}
    return {
        "mark": f"Lesson {number} of {len(LESSONS)}",
        "steps": [{"kind": kinds[n], "title": f"{n}. {at.title}{words[kinds[n]]}"} for n, at in enumerate(LESSONS, 1)],
        "title": lesson.title,
        "text": list(lesson.text),
        "run": ("The run: " if len(lesson.runs) == 1 else "The runs: ") + ". Then ".join(map(described, lesson.runs)) + ".",
        "link": number if link else 0,
    }


def told(note: str, kind: str = "") -> dict:
    """The answer's place with a sentence in it."""
    return {"note": note, "kind": kind, "supports": ""}


def revealed(lesson: Lesson, predicted: int, sentence: str, seeds: dict[int, int]) -> dict:
    """The answer. `seeds`: what the runs so far supported, the newest last."""
    supported = list(seeds.values())[-1]
    tab, view = lesson.seen
    tally = "; ".join(f"seed {s}: {lesson.answers[a]}" for s, a in seeds.items())
    one = "This is one seed; another draws other questions, initial values and batches. Run it again to see whether the answer stays."
    return {
        "note": "",
        "kind": "same" if predicted == supported else "other",
        "predicted": lesson.answers[predicted],
        "shows": "This run shows" if len(lesson.runs) == 1 else "These runs show",
        "supports": lesson.answers[supported] + (", as you predicted" if predicted == supported else ""),
        "sentence": sentence,
        "tally": f"Your runs of this lesson: {tally}." if len(seeds) > 1 else one,
        "tab": tab,
        "picture": VIEWS[view].title,
        "view": view,
    }


def _choices(lesson: Lesson) -> list[tuple[str, int]]:
    return [(text, index) for index, text in enumerate(lesson.answers)]


def _is_answer(lesson: Lesson, guess) -> bool:
    return isinstance(guess, int) and not isinstance(guess, bool) and 0 <= guess < len(lesson.answers)


def _label(seeds: dict[int, int] | None) -> str:
    return f"Run again with seed {max(seeds) + 1}" if seeds else "Set the controls and run"
