"""Long work of a tab that is no run of the page's own: a thread that reports, can be stopped, and keeps to the page's limit of wall clock.

- `Work(do, seconds)`: planned; `reports(session)` carries it out, once; `stop()` ends it at its next report. Runs are in `mosld.ui.carry`.
- `claim_work`: plan one in a session, where none goes on. `follow`: carry it out as sentences for the page.
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
from mosld.ui.session import Session, say

log = logging.getLogger(__name__)
TICK = 0.25  # seconds between two reports that are handed on
Say = Callable[..., None]  # (sentence, share done or None)


class Stopped(Exception):
    """The visitor pressed Stop, or left, or the time was over; says which."""


class Work:
    """One press of a button. `do(say)` is called in a thread of its own and reports by `say`, which raises Stopped where it is to end."""

    def __init__(self, do: Callable[[Say], None], seconds: int):
        self.do, self.seconds = do, seconds
        self.halt, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self._told: queue.SimpleQueue = queue.SimpleQueue()
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
                item = self._told.get()
                while not self._told.empty():
                    item = self._told.get()
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
            self._told.put((sentence, share))
            turn.pass_on()

        try:
            with computing(self.turns) as turn:
                self.do(say)
        except BaseException as problem:  # raised again by who listens
            ending = problem
        finally:
            self.done.set()
            self._told.put(ending)


def claim_work(session: Session, name: str, make: Callable[[], Work]) -> Work:
    """The work that `make` plans, kept in `session.tabs[name]`. Raises ConfigError where the one before still goes on."""
    before = session.tabs.get(name)
    if isinstance(before, Work) and before.begun and not before.done.is_set():
        raise ConfigError(f"work: this is going on already; let it end, or press {STOP} first.")
    session.tabs[name] = make()
    return session.tabs[name]


def follow(work: Work, session: Session, done: str) -> Iterator[tuple]:
    """Carry `work` out: (message for the feed, sentence, whether it is over) until it is over, then with `done` or what ended it."""
    feed, sentence = gr.skip(), ""
    try:
        for sentence, _ in work.reports(session):
            yield gr.skip(), sentence, False
        sentence = done
    except Stopped as stopped:
        sentence = f"{stopped}{sentence and ' at ' + sentence}; press the button to go on."
    except ConfigError as problem:
        feed, sentence = say(str(problem), error=True), ""
    except Exception:  # the visitor gets one sentence, the server's log the traceback
        log.exception("work of a tab failed")
        feed, sentence = say("This broke off inside the lab; press the button to go on.", error=True), ""
    yield feed, sentence, True
