"""How a session's runs are carried out: each by a thread of its own, on its turn, once it has a place (`turns.py`).

- `Run`: what is wished of a run, and the thread that carries it out. `Carrying`: that part of a session; the rest is in `session.py`.

Nothing waits for the page: packed frames are kept, and a page fetches those it has not got. A run whose messages nobody fetches any more is paused,
which writes its checkpoint; its place is given back whenever it rests.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.ui import RESUME, RUN, gpu
from mosld.ui.compute import closing, computing
from mosld.ui.folders import KEPT_RUNS, Texts, renamed, runs
from mosld.ui.limits import AWAY_SECONDS, Limits, size
from mosld.ui.turns import FIRST, TRAINING, Places, Ticket, Turn, Turns
from mosld.ui.wire import Packer, header, to_json

TICK = 0.1  # seconds between two looks of whoever waits, for the next step or for news
log = logging.getLogger(__name__)


class Run:
    """One run: what is wished of it, and the thread that carries it out. `goal`: train until that step, 0 is pause."""

    def __init__(self, config: RunConfig, folder: Path):
        self.config, self.folder, self.trainer = config, folder, None
        self.goal, self.step, self.first, self.pace = 0, -1, 0, 0.0  # step: the last one made; pace: seconds a step since step `first`
        self.brisk = False  # only a few steps are wanted: the visitor's delay is for the others
        self.packer: Packer | None = None
        self.dropped = False  # the visitor has moved on: nothing it says counts any more
        self.leaving = False  # its thread has decided to end
        self.thread: threading.Thread | None = None
        self.ticket = Ticket(0, lambda: None)
        self.using = threading.Lock()  # held by who uses the trainer
        self.asked: queue.SimpleQueue = queue.SimpleQueue()  # (question, Future) to be answered between two steps

    def left(self) -> float | None:
        """Seconds until it comes to its goal, as far as it can be told."""
        return max(0, self.goal - self.step) * self.pace if self.pace else None

    def answer(self, trainer) -> None:
        """Answer what was asked so far."""
        while not self.asked.empty():
            question, future = self.asked.get()
            if future.set_running_or_notify_cancel():
                try:
                    if trainer is None:
                        raise ConfigError("run: it was not open; try again.")
                    future.set_result(question(trainer))
                except BaseException as problem:  # the one who asked gets it
                    future.set_exception(problem)


class Carrying:
    """The part of a session that carries its run out."""

    limits: Limits
    folder: Path
    own: dict[str, Path]
    places: Places
    turns: Turns
    parked: Callable[[], None]
    make_room: Callable[[int], None]
    park: Callable[[], bool]
    delay: float
    fetched: float
    _run: Run | None
    _header: str | None
    _frames: Texts
    _lock: threading.RLock
    _news: threading.Condition

    def _begin(self, run: Run, goal: int, brisk: bool) -> None:
        """A thread for a run; it waits for its place. Raises ConfigError where too many wait."""
        run.ticket = Ticket(size(run.config), run.left)
        self.places.ask(run.ticket)
        run.goal, run.brisk, run.leaving, self._run = goal, brisk, False, run
        context = copy_context()  # ZeroGPU counts a visitor's seconds by the request that is in it
        run.thread = threading.Thread(target=context.run, args=(self._carry_out, run, run.ticket), daemon=True)
        self.fetched = time.monotonic()
        self._tell("waiting", "")
        run.thread.start()

    def _tell(self, state: str, note: str, error: bool = False) -> None:
        self.state, self.note, self.error = state, note, error
        self._news.notify_all()

    def _start(self, run: Run, runlog) -> None:
        with self._lock:
            if not run.dropped:
                run.packer, self._header = Packer(runlog), to_json(header(runlog))
                self._frames.cut(0)
                self._news.notify_all()

    def _carry_out(self, run: Run, ticket: Ticket) -> None:
        """The thread of a run. The trainer itself writes every frame and, whatever ends it, the adapters."""
        ending: tuple[str, str, bool] | None = None
        try:
            inside = self.places.wait(ticket)
            with self._lock:
                if not inside or run.leaving or run.dropped or run.thread is not threading.current_thread():
                    return  # withdrawn: who did so has said what there is to say
            self._note(run, "loading", "Loading the backbone and the tasks …")
            parts = None if run.trainer is not None else self._fetch(run)  # no turn is held over a download
            with run.using, computing(self.turns, FIRST if run.step < 1 else TRAINING) as turn:
                ending = self._train(run, turn)
                del parts
        except ConfigError as problem:
            ending = ("failed", str(problem), True)
        except Exception as problem:  # the visitor gets one sentence, the server's log the traceback
            log.exception("a run failed")
            ending = ("failed", f"The run broke off inside the lab ({type(problem).__name__}); what it did is kept. Press {RUN} to go again.", True)
        finally:
            self.places.leave(ticket)
            with self._lock:
                if run.thread is threading.current_thread():  # nobody has gone on with it meanwhile
                    run.thread = None
                    if self._run is run and not run.dropped and ending is not None:
                        self._tell(*ending)
                self._news.notify_all()
            if run.thread is None:
                run.answer(run.trainer)
            if time.monotonic() - self.fetched > AWAY_SECONDS and self.park():  # nobody is there: its memory goes at once
                self.parked()

    def _train(self, run: Run, turn: Turn) -> tuple[str, str, bool] | None:
        """Open the run where it is not open yet, and train until its goal or a limit; the state and the sentence to close with."""
        if run.dropped or closing.is_set():  # while it waited for its turn
            return None
        if gpu.wanted(run.config):
            return self._train_on_gpu(run, turn)
        trainer = self._open(run, partial(self._loading, run))
        if run.dropped:
            return None
        self._note(run, "running", "")
        began, waited, why, last, run.first = time.monotonic(), turn.waited, "", None, trainer.step
        frames = trainer.frames()
        try:
            for last in frames:
                trainer.workers = self.turns.threads * (1 + self.turns.free)  # cores that nobody computes on take its other arms
                run.answer(trainer)
                spent = time.monotonic() - began - (turn.waited - waited)
                why = self._told(run, last, turn, spent, time.monotonic() - began)
                if run.leaving:
                    trainer.pause()
                    continue
                turn.pass_on()
                self._delay(run, trainer, turn)
        finally:
            frames.close()  # saves
        if trainer.done:
            return "ended", last.note if last else "The run has ended.", False
        return "paused", f"Paused at step {trainer.step}{why}.", False

    def _train_on_gpu(self, run: Run, turn: Turn) -> tuple[str, str, bool] | None:
        """The same on a GPU that is lent for a while, by another process and the run's folder."""
        from mosld.training import RunLog, checkpoint

        self._note(run, "loading", "Asking for a GPU …")
        run.trainer, began, last, why = None, time.monotonic(), None, ""
        if (run.folder / "run.json").exists() and (kept := checkpoint.step(run.folder)) is not None:
            with self._lock:
                self._frames.cut(kept + 1)  # steps after the last checkpoint are made again
            if run.packer is not None:
                so_far = RunLog.load(run.folder)
                so_far.frames = [f for f in so_far.frames if f.step <= kept]
                run.packer.follow(so_far)
        else:
            self._place_for(run)
        run.first = max(run.step, 0)
        frames = gpu.stretch(self._settled(run), run.folder, run.goal)
        try:
            with turn.resting():
                for last in frames:
                    if run.packer is None:
                        self._start(run, RunLog.from_header(RunLog.load(run.folder).header()))
                        self._note(run, "running", "On a GPU.")
                    elif self.state == "loading":
                        self._note(run, "running", "On a GPU.")
                    if not run.dropped:
                        run.packer.log.append(last)
                    why = self._told(run, last, turn, 0, time.monotonic() - began)
                    if run.leaving:
                        break
        except ConfigError as problem:
            if run.step < 0:
                raise
            return "paused", str(problem), True
        finally:
            frames.close()
            if run.packer is not None:
                run.packer.follow(None)
        if last is not None and last.event in ("end", "diverged"):
            return "ended", last.note, False
        over = "" if why or run.step >= run.goal or not run.goal else f": a GPU is lent for {gpu.SECONDS} seconds at a time. Press {RESUME} to go on"
        return "paused", f"Paused at step {run.step}{why or over}.", False

    def _told(self, run: Run, frame, turn: Turn, spent: float, passed: float) -> str:
        """Keep a frame, and decide whether the run goes on; why it does not."""
        text = to_json(run.packer.pack(frame)) if not run.dropped else ""
        with self._lock:
            if frame.step > 0:
                turn.rank = TRAINING  # its first picture is there
            if not run.dropped:
                run.step = frame.step
                self._frames.append(text)
                self._news.notify_all()
            run.pace = passed / max(1, frame.step - run.first)
            why = ""
            if spent > self.limits.seconds:
                why = f": a run may train {self.limits.seconds} seconds at a time here. Press {RESUME} to go on"
            elif time.monotonic() - self.fetched > AWAY_SECONDS:
                why = ": nobody was looking"
            if why or run.dropped or frame.step >= run.goal or closing.is_set():
                run.leaving = True
            return why

    def _delay(self, run: Run, trainer, turn: Turn) -> None:
        """Wait before the next step, where the visitor wants it slow; questions are answered meanwhile."""
        end = time.monotonic() + self.delay
        while self.delay and not run.brisk and run.goal and time.monotonic() < end:
            with turn.resting():
                while (rest := end - time.monotonic()) > 0 and run.goal and run.asked.empty():
                    time.sleep(min(TICK, rest))
            run.answer(trainer)  # and wait for what is left of the pause

    def _loading(self, run: Run, sentence: str, share: float | None = None) -> None:
        self._note(run, "loading", sentence if share is None else f"{sentence} ({share:.0%})")

    def _fetch(self, run: Run) -> tuple:
        """Backbone and real tasks of a run, to be held until its trainer has them: what all runs share is opened, and fetched, once."""
        from mosld import backbones, tasks

        self.make_room(size(run.config))
        tell, config = partial(self._loading, run), run.config
        real = [tasks.load(t, config.seed, tell) for t in (*config.tasks, *config.held_out) if t.startswith("real/")]
        with backbones.sharing(self.turns.pool):
            return backbones.load(config.backbone, config.layers, config.max_tokens, config.temperature, tell), real

    def _note(self, run: Run, state: str, sentence: str) -> None:
        with self._lock:
            if self._run is run and not run.dropped:
                self._tell(state, sentence)

    def _open(self, run: Run, tell: Callable):
        """The trainer of a run: there already, from disk, or new."""
        if run.trainer is not None:
            return run.trainer
        from mosld.training import Trainer

        self.make_room(size(run.config))
        if (run.folder / "run.json").exists():
            run.trainer = Trainer.resume(run.folder, tell)
            with self._lock:
                if not run.dropped and (whole := len(run.trainer.log.frames)) < len(self._frames):  # steps after the last checkpoint are made again
                    self._frames.cut(whole)
                    run.step = run.trainer.step
                if run.packer is not None:
                    run.packer.follow(run.trainer.log)
            return run.trainer
        self._place_for(run)
        run.trainer = Trainer(self._settled(run), run.folder, tell)
        self._start(run, run.trainer.log)
        return run.trainer

    def _place_for(self, run: Run) -> None:
        """Room for a new run's folder."""
        for old in runs(self.folder)[:-KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _settled(self, run: Run) -> RunConfig:
        """The configuration with the visitor's own files by where they lie."""
        return renamed(run.config, {name: str(path) for name, path in self.own.items()})
