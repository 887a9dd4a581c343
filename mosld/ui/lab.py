"""What a tab of the page is given: the page's sessions, controls, feed and buttons, and the way to wire an event that trains."""

from __future__ import annotations

from dataclasses import dataclass

import gradio as gr

from mosld.config import ConfigError
from mosld.ui.canvas import View
from mosld.ui.handlers import Handlers
from mosld.ui.session import Session, say

QUIET = {"show_progress": "hidden", "api_visibility": "private"}
AT_ONCE = {"queue": False, **QUIET}
TOO_MANY = "lab: too many wait for a place here; press the button again in a minute."
# What a browser makes of a link's address part: the whole address, of the page itself where it is in a frame of another, and it goes to the
# clipboard. The sentence says so; where the clipboard is closed, the address stands in its field.
COPY = """(link) => {
  if (!link) return link;
  const whole = new URL(link, window.location.href.split(/[?#]/)[0]).href;
  const told = (note) => window.MoSLD.receive(JSON.stringify({ k: "say", note }));
  if (navigator.clipboard) navigator.clipboard.writeText(whole).then(() => told(window.MoSLD.note.replace("is below", "is copied")), () => {});
  return whole;
}"""


@dataclass
class Lab:
    """The page as its tabs see it. `feed` takes messages (`session.message`, `session.say`) for the store and the line of state."""

    handlers: Handlers
    feed: gr.HTML
    memory: gr.Textbox  # the keys that the browser keeps, given by `KEYS`

    def visitor(self, request: gr.Request) -> Session:
        """The visitor's session, made where there is none: for what starts or keeps something. Raises ConfigError where the page is full."""
        return self.handlers.visitor(request)

    def look(self, request: gr.Request) -> Session:
        """The visitor's session, or an empty one that nobody keeps: for what only reads."""
        return self.handlers.look(request)

    def train(self, event, plan, inputs) -> gr.events.Dependency:
        """Wire `event` (such as button.click) to a handler that notes a wish and gives one message for the feed; the frames come by themselves.

        Nothing is pending while a run trains, so every button can be pressed at any time.
        """
        planned = event(plan, inputs, self.feed, trigger_mode="multiple", **AT_ONCE)
        self.answered(planned)
        return planned

    @staticmethod
    def answered(event: gr.events.Dependency) -> None:
        """Tell the page that a wish has been answered, so that the next one may go (`canvas/feed.js`)."""
        event.then(None, None, None, js="() => window.MoSLD.answered()", **AT_ONCE)

    def after(self, planned: gr.events.Dependency) -> gr.events.Dependency:
        """What is chained to the result happens once the run planned by `planned` rests."""
        return planned.then(self.handlers.rested, None, None, trigger_mode="multiple", concurrency_limit=None, **QUIET)

    def refusable(self, event: gr.events.Dependency) -> gr.events.Dependency:
        """Say so where Gradio's queue is full and refuses an event: nothing else would, and the page would wait for its answer."""
        event.failure(lambda: say(TOO_MANY, error=True), None, self.feed, **AT_ONCE)
        return event

    @staticmethod
    def picture(view: View) -> gr.HTML:
        """A view's figure. That of a still view takes a JSON text as value."""
        return gr.HTML(None, html_template=view.html(), js_on_load=view.javascript(), elem_id=f"view-{view.name}", apply_default_css=False)

    @staticmethod
    def refused(problem: ConfigError, others: int = 0) -> tuple:
        """For a handler whose first output is the feed: the sentence for the visitor, and `others` outputs left as they are."""
        return say(str(problem), error=True), *[gr.skip()] * others
