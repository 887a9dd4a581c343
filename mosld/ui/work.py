"""Long work of a tab that is no run of the page's own: a thread that reports, can be stopped, and keeps to the page's limit of wall clock.

- `Work(do, seconds)`: planned; `reports(session)` carries it out, once; `stop()` ends it at its next report. Runs are in `mosld.ui.carry`.
- `Desk`: the buttons that start and stop such work, and what is shown of it; the same for every tab.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator

import gradio as gr

from mosld.config import ConfigError
from mosld.ui import STOP
from mosld.ui.compute import closing, computing
from mosld.ui.folders import hidden
from mosld.ui.lab import AT_ONCE, QUIET, TOO_MANY, Lab
from mosld.ui.session import Session, say

log = logging.getLogger(__name__)
TICK = 0.25  # seconds between two reports that are handed on
WAITING = "Waiting for a free place …"
Say = Callable[..., None]  # (sentence, share done or None)


class Stopped(Exception):
    """The visitor pressed Stop, or left, or the time was over; says which."""


class Work:
    """One press of a button. `do(say)` is called in a thread of its own, reports by `say`, which raises Stopped where it is to end, and returns the
    sentence to close with."""

    def __init__(self, do: Callable[[Say], str], seconds: int):
        self.do, self.seconds, self.told = do, seconds, ""
        self.halt, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._reports: queue.SimpleQueue = queue.SimpleQueue()
        self._once = threading.Lock()  # taken by the one who carries it out

    @property
    def begun(self) -> bool:
        return self._once.locked()

    def stop(self) -> None:
        """End it at its next report; what waits for its place does not begin."""
        self.halt.set()
        if not self.begun:
            self.done.set()

    def reports(self, session: Session) -> Iterator[tuple[str, float | None]]:
        """Carry it out, yielding the newest (sentence, share done) now and then; nothing where somebody does or did already.

        Raises what the work raised: Stopped, ConfigError. Closing the iterator stops the work.
        """
        if not self._once.acquire(blocking=False):
            return
        if self.done.is_set():
            raise Stopped("Stopped")
        self.turns = session.turns
        self.thread.start()
        try:
            while True:
                session.seen = time.monotonic()
                item = self._reports.get()
                while not self._reports.empty():
                    item = self._reports.get()
                if isinstance(item, BaseException):
                    raise item
                if item is None:
                    return
                yield item
                time.sleep(TICK)
        finally:
            self.halt.set()

    def _run(self) -> None:
        end, ending = time.monotonic() + self.seconds, None

        def say(sentence: str, share: float | None = None) -> None:
            if self.halt.is_set() or closing.is_set():
                raise Stopped("Stopped")
            if time.monotonic() > end:
                raise Stopped(f"Paused after {self.seconds} seconds, the most at a time here")
            self._reports.put((sentence, share))
            turn.pass_on()

        try:
            with computing(self.turns) as turn:
                self.told = self.do(say)
        except BaseException as problem:  # raised again by who listens
            ending = problem
        finally:
            self.done.set()
            self._reports.put(ending)


class Desk:
    """The events of long work. Its last one is kept in `session.tabs[name]`.

    `draw(work, sentence, share done or None)` gives the values of `outputs`. `go` and `stop` are buttons: those that can be pressed while nothing
    goes on, and while something does.
    """

    def __init__(self, lab: Lab, name: str, draw: Callable[..., tuple], outputs: list, go=(), stop=()):
        self.lab, self.name, self.draw, self.go, self.stop = lab, name, draw, go, stop
        self.outputs = [lab.feed, *outputs, *go, *stop]

    def wire(self, *starts: tuple) -> list[gr.events.Dependency]:
        """Each start is (event, inputs, plan); `plan(session, data of the event, *values)` gives the Work or raises ConfigError. Returns the events
        at whose end the work is over."""
        ends, limits = [], self.lab.handlers.sessions.limits
        for event, inputs, plan in starts:
            planned = event(self.begin(plan), inputs, self.outputs, **AT_ONCE)
            carried = planned.success(self.carry, None, self.outputs, concurrency_id="train", concurrency_limit=limits.runs, **QUIET)
            carried.failure(self.refused, None, self.outputs, **AT_ONCE)
            ends.append(carried)
        if self.stop:
            gr.on([button.click for button in self.stop], self.halt, None, self.outputs, **AT_ONCE)
        return ends

    def work(self, request: gr.Request) -> Work | None:
        return self.lab.look(request).tabs.get(self.name)

    def begin(self, plan: Callable[..., Work]) -> Callable[..., tuple]:
        """The handler that plans the work; it then waits for its place among the runs."""

        def handler(request: gr.Request, event: gr.EventData, *values) -> tuple:
            try:
                session = self.lab.visitor(request)
                before = session.tabs.get(self.name)
                if before is not None and before.begun and not before.done.is_set():
                    raise ConfigError(f"work: this is going on already; let it end, or press {STOP} first.")
                work = session.tabs[self.name] = plan(session, event and event._data, *values)
            except ConfigError as problem:
                return self.lab.refused(problem, len(self.outputs) - 1)
            return gr.skip(), *self.draw(work, WAITING, None), *self._free(False)

        return handler

    def carry(self, request: gr.Request) -> Iterator[tuple]:
        """Carry out what was planned; closed by Gradio when the page is."""
        session, work = self.lab.look(request), self.work(request)
        if work is None or work.begun:
            yield (gr.skip(),) * len(self.outputs)
            return
        feed, sentence, same = gr.skip(), "", [gr.skip()] * len([*self.go, *self.stop])
        try:
            for sentence, share in work.reports(session):
                yield gr.skip(), *self.draw(work, sentence, share), *same
            sentence = work.told
        except Stopped as stopped:
            sentence = f"{stopped}{sentence and ' at ' + sentence}; press the button to go on."
        except ConfigError as problem:
            feed, sentence = say(hidden(str(problem)), error=True), ""
        except Exception:  # the visitor gets one sentence, the server's log the traceback
            log.exception("work of a tab failed")
            feed, sentence = say("This broke off inside the lab; press the button to go on.", error=True), ""
        yield feed, *self.draw(work, sentence, None), *self._free(True)

    def refused(self, request: gr.Request) -> tuple:
        """Gradio's queue is full, so that nobody will carry out what was planned: say so, and free the buttons."""
        work = self.work(request)
        if work is None or work.begun:
            return (gr.skip(),) * len(self.outputs)
        work.stop()
        return say(TOO_MANY, error=True), *self.draw(work, "Not started.", None), *self._free(True)

    def halt(self, request: gr.Request) -> tuple:
        work = self.work(request)
        if work is None or work.done.is_set():
            return (gr.skip(),) * len(self.outputs)
        work.stop()
        return gr.skip(), *self.draw(work, "Stopping after this step …", None), *self._free(False)

    def _free(self, free: bool) -> list[dict]:
        return [*(gr.update(interactive=free) for _ in self.go), *(gr.update(interactive=not free) for _ in self.stop)]
