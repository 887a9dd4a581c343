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
# What a browser does with a link's address part: the whole address goes to the clipboard, and the sentence says so.
COPY = """(link) => {
  const told = (note) => window.MoSLD.receive(JSON.stringify({ k: "say", note }));
  if (!link || !navigator.clipboard) return;
  navigator.clipboard.writeText(new URL(link, window.location.href.split("?")[0]).href)
    .then(() => told(window.MoSLD.note.replace("is below", "is copied")), () => {});
}"""


@dataclass
class Lab:
    """The page as its tabs see it. `feed` takes messages (`session.message`, `session.say`) for the store and the line of state."""

    handlers: Handlers
    feed: gr.HTML
    buttons: list[gr.Button]  # Pause, Step 1, Step 10, Reset
    memory: gr.BrowserState

    def visitor(self, request: gr.Request) -> Session:
        return self.handlers.visitor(request)

    def train(self, event, plan, inputs) -> gr.events.Dependency:
        """Wire `event` (such as button.click) to a handler that plans a run, and to the stream that carries it out."""
        limits = self.handlers.sessions.limits
        planned = event(plan, inputs, [self.feed, *self.buttons], **AT_ONCE)
        streamed = planned.then(self.handlers.stream, None, self.feed, concurrency_id="train", concurrency_limit=limits.runs, **QUIET)
        return streamed.then(self.handlers.settle, None, [*self.buttons, self.memory], **AT_ONCE)

    @staticmethod
    def picture(view: View) -> gr.HTML:
        """A view's figure. That of a still view takes a JSON text as value."""
        return gr.HTML(None, html_template=view.html(), js_on_load=view.javascript(), elem_id=f"view-{view.name}", apply_default_css=False)

    @staticmethod
    def refused(problem: ConfigError, others: int = 0) -> tuple:
        """For a handler whose first output is the feed: the sentence for the visitor, and `others` outputs left as they are."""
        return say(str(problem), error=True), *[gr.skip()] * others
