"""One visitor's session: its run, its files, its folder. The only module of the page that meets torch, and that only once needed.

- `Session`: prepare a run, stream its messages, pause, step, change, ask, resume, save. All state of a visitor is in it.
- `message`, `say`: what is sent to the page; `runs`: run directories; `imports`: what takes seconds to import.
- `share_cores`: threads of one run, so that visitors do not slow one another down.

A run trains in a thread of its own; `stream()` hands its frames on, packed, about ten times a second. When the visitor's page
closes, `stream()` is closed: the thread ends after its step and saves log and adapters, which can be resumed for a while.
Messages are JSON texts for `canvas/store.js`.
"""

from __future__ import annotations

import logging
import queue
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.ui.limits import Limits
from mosld.ui.wire import Packer, header, to_json

TICK = 0.1  # seconds between two messages
KEPT_RUNS = 8  # run directories of one visitor
ROOT = Path(tempfile.gettempdir()) / "mosld-sessions"
KEY = re.compile(r"[A-Za-z0-9_-]{22}")  # what secrets.token_urlsafe(16) gives; nothing else becomes part of a path
log = logging.getLogger(__name__)


def message(k: str, **fields) -> str:
    """A message of kind run, add, say or clear (see `canvas/store.js`)."""
    return to_json({"k": k, **fields})


def say(sentence: str, state: str | None = None, error: bool = False) -> str:
    """A message that changes no frame: a sentence for the visitor, and the state of the run where it changed."""
    return message("say", note=sentence, kind="error" if error else "", **({"state": state} if state else {}))


class _Job:
    """One press of Run, Resume or Step: a thread that trains and a queue of what it has to tell."""

    def __init__(self, kind: str, config: RunConfig | None, steps: int | None):
        self.kind, self.config, self.steps = kind, config, steps
        self.out: queue.SimpleQueue = queue.SimpleQueue()
        self.halt = threading.Event()
        self.stale = False  # the visitor has moved on: nothing it says counts any more
        self.thread: threading.Thread | None = None
        self.told = threading.Event()  # its stream has ended
        self.asked: queue.SimpleQueue = queue.SimpleQueue()  # (question, Future) to be answered between two steps

    def rest(self, trainer, seconds: float) -> bool:
        """Wait before the next step, answering what is asked meanwhile; whether the run shall pause."""
        end = time.monotonic() + seconds
        while not self.halt.wait(max(0, min(TICK, end - time.monotonic()))) and time.monotonic() < end:
            self.answer(trainer)
        return self.halt.is_set()

    def answer(self, trainer) -> None:
        """Answer what was asked so far."""
        while not self.asked.empty():
            question, future = self.asked.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(question(trainer))
                except Exception as problem:  # the one who asked gets it
                    future.set_exception(problem)


class Session:
    """A visitor. `state` is idle, ready, loading, running, paused, ended or failed."""

    def __init__(self, limits: Limits, root: Path = ROOT):
        self.limits = limits
        self.key = secrets.token_urlsafe(16)
        self.folder = root / self.key
        self.own: dict[str, Path] = {}  # a visitor's uploaded task files: path as it stands in the configuration
        self.state = "idle"
        self.config: RunConfig | None = None
        self.trainer = None
        self.run = 0  # number of the run, so that late frames of an older one are told apart
        self.left = ""  # key of the run that an earlier session of this browser left
        self.delay = 0.0  # seconds to wait after each step
        self.seen = time.monotonic()
        self.tabs: dict[str, object] = {}  # what a tab keeps for this visitor, by the tab's name
        self._adopted = False  # the page has not been told of the adopted run's frames yet
        self._sent: list[list] = []  # packed frames of the run
        self._plan: tuple | None = None
        self._job: _Job | None = None
        self._lock = threading.Lock()
        self._looking = threading.Lock()  # held by who uses the trainer: the thread of a job, or a question between jobs

    # What handlers call; each returns at once.

    def prepare(self, config: RunConfig, steps: int | None = None) -> None:
        """Plan a new run; with `steps`, one that pauses after so many. Raises ConfigError."""
        from mosld.tasks import check

        self.limits.check(config)
        check([t for t in [*config.tasks, *config.held_out] if t not in self.own], files=False)
        self.halt()
        self.config = config
        self._plan, self.state = ("new", config, steps), "ready"

    def go_on(self, steps: int | None = None) -> None:
        """Plan to go on with a paused run, for `steps` or to its end. Raises ConfigError where there is none."""
        if self.state == "ended":
            raise ConfigError("run: it has ended; press Run to start another.")
        if self.state != "paused":
            raise ConfigError("run: nothing is paused; press Run first.")
        self._plan, self.state = ("on", None, steps), "ready"

    def pause(self) -> None:
        """The run stops after its step; one that waits for its place does not begin."""
        with self._lock:
            if self._plan is not None:
                self.state = "idle" if self._plan[0] == "new" else "paused"
                self._plan = None
            elif self._job is not None:
                self._job.halt.set()

    def change(self, **values) -> None:
        """Hot change of a running or paused run. Raises ConfigError."""
        if self.trainer is not None and self.state in ("running", "paused"):
            self.trainer.change(**values)

    def ask(self, question: Callable, seconds: float = 20):
        """What `question(trainer)` finds in this visitor's run, between two of its steps where it is training.

        Raises ConfigError where there is no run, or where the answer takes longer than `seconds`.
        """
        with self._lock:
            trainer, job = self.trainer, self._job
            running = self.state in ("running", "loading", "ready")
            if trainer is None and not running and self.state == "paused":  # adopted: its run directory is there, its trainer is not
                raise ConfigError("run: press Step 1 first, so that the run left here is loaded.")
            if trainer is None:
                raise ConfigError("run: there is none to look into yet; press Run first.")
            if running and job is not None:
                job.asked.put((question, future := Future()))
        if not running or job is None:
            with self._looking, share_cores():
                return question(trainer)
        try:
            return future.result(seconds)
        except FutureTimeout:
            future.cancel()
            raise ConfigError("run: it is busy; press Pause and try again.") from None

    def halt(self) -> None:
        """Forget the run. Its thread ends after its step and saves what it has done."""
        with self._lock:
            self._plan = None
            if self._job is not None:
                self._job.stale = True
                self._job.halt.set()
            self._job, self.trainer, self._sent, self.state = None, None, [], "idle"

    def adopt(self, key: str) -> RunConfig:
        """Take over the run that an earlier session of the same browser left. Raises ConfigError where it is gone."""
        found = runs(self.folder.parent / key) if KEY.fullmatch(key or "") else []
        if not found:
            raise ConfigError("run: the one left here is gone; press Run to start it anew.")
        from mosld.training.runlog import RunLog  # imports torch

        self.halt()
        kept = RunLog.load(found[-1])
        self._start(kept)
        shutil.copytree(found[-1], self._place())
        self._sent = [self._packer.pack(frame) for frame in kept.frames]
        self.config, self.state, self.left, self._adopted = kept.config, "paused", "", True
        return kept.config

    def whole(self) -> str:
        """Everything sent so far as one message, for a page that missed something."""
        if not self._sent:
            return message("clear", state=self.state)
        return message("run", run=self.run, header=self._header, frames=self._sent, state=self.state)

    def link(self) -> str:
        """The configuration for the page's address; a visitor's own files stay out of it."""
        return shared(self.config, self.own).to_url() if self.config else ""

    # The stream.

    def stream(self) -> Iterator[str]:
        """Carry out what was planned, yielding messages. Closing the iterator pauses the run."""
        before = self._job
        if before is not None and before.thread is not None:
            before.thread.join()
            before.told.wait()
        with self._lock:
            plan, self._plan = self._plan, None
            job = self._job = _Job(*plan) if plan is not None else self._job
        if plan is None:
            yield message("say", state=self.state)
            return
        if self._adopted:
            self._adopted = False
            yield self.whole()
        job.thread = threading.Thread(target=self._train, args=(job,), daemon=True)
        job.thread.start()
        try:
            yield from self._forward(job)
        finally:
            self.seen = time.monotonic()
            job.halt.set()
            job.told.set()

    def _forward(self, job: _Job) -> Iterator[str]:
        done = False
        while not done:
            items = [job.out.get()]
            time.sleep(0 if items[0][0] in ("say", "start") else TICK)
            while not job.out.empty():
                items.append(job.out.get())
            with self._lock:
                texts = [] if job.stale else self._messages(items)
            yield from texts
            done = items[-1][0] == "done"

    def _messages(self, items: list[tuple]) -> list[str]:
        """What the page is told of what the thread told."""
        texts, start, pending = [], len(self._sent), []
        for kind, value in items:
            if kind == "frame":
                pending.append(self._packer.pack(value))
            elif kind == "start":
                self._start(value)
                start = 0
                texts.append(message("run", run=self.run, header=self._header, frames=[], state="running", note="", link=self.link()))
            elif kind == "say":
                texts.append(say(value, "loading"))
        if pending:
            self._sent += pending
            texts.append(message("add", run=self.run, **{"from": start}, frames=pending, state="running", note=""))
        kind, value = items[-1]
        if kind == "done":
            state, sentence, error = value
            texts.append(say(sentence, state, error))
        return texts

    def _place(self) -> Path:
        return self.folder / f"run-{self.run:04d}"

    def _start(self, runlog) -> None:
        self._packer, self._header, self._sent = Packer(runlog), header(runlog), []

    def _train(self, job: _Job) -> None:
        """The thread of a job. The trainer itself writes every frame and, whatever ends it, the adapters."""
        ending = ("failed", "The run broke off.", True)
        try:
            with self._looking, share_cores():
                ending = self._begin(job)
        except ConfigError as problem:
            ending = ("failed", str(problem), True)
        except Exception as problem:  # the visitor gets one sentence, the server's log the traceback
            log.exception("a run failed")
            ending = ("failed", f"The run broke off inside the lab ({type(problem).__name__}); what it did is kept. Press Run to start again.", True)
        finally:
            with self._lock:
                if not job.stale:
                    self.state = ending[0]
            job.answer(self.trainer)
            job.out.put(("done", ending))

    def _begin(self, job: _Job) -> tuple[str, str, bool]:
        """Open the run where it is not open yet, and train; the state and the sentence to close with."""
        with self._lock:
            trainer = self.trainer
            if not job.stale:
                self.state = "loading"
                self.run += job.kind == "new"
        place = self._place()
        if trainer is None:
            job.out.put(("say", "Loading the backbone and the tasks …"))
            trainer = self._open(job, place)
            with self._lock:
                if job.stale:
                    return "idle", "", False
                self.trainer = trainer
        return self._steps(job, trainer)

    def _open(self, job: _Job, place: Path):
        from mosld.training import Trainer

        tell = lambda text, part=None: job.out.put(("say", text if part is None else f"{text} ({part:.0%})"))  # noqa: E731
        if job.kind == "on":
            return Trainer.resume(place, tell)
        for old in runs(self.folder)[:-KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        trainer = Trainer(job.config, place, tell)
        job.out.put(("start", trainer.log))
        return trainer

    def _steps(self, job: _Job, trainer) -> tuple[str, str, bool]:
        """Train until pause, end or a limit; the state and the sentence to close with."""
        end, goal, late, last = time.monotonic() + self.limits.seconds, job.steps and trainer.step + job.steps, False, None
        self.state = self.state if job.stale else "running"
        for last in trainer.frames():
            job.out.put(("frame", last))
            job.answer(trainer)
            late = time.monotonic() > end
            if job.rest(trainer, 0 if goal else self.delay) or late or (goal and last.step >= goal):
                trainer.pause()
        if trainer.done:
            return "ended", last.note if last else "The run has ended.", False
        if late:
            return (
                "paused",
                f"Paused at step {trainer.step}: a run may train {self.limits.seconds} seconds at a time here. Press Resume to go on.",
                False,
            )
        return "paused", f"Paused at step {trainer.step}.", False


def runs(folder: Path) -> list[Path]:
    """The run directories of a session, oldest first."""
    return sorted(path.parent for path in folder.glob("run-*/run.json"))


_cores = {"most": 0, "runs": 0}  # threads torch had at first; runs that train now
_counting = threading.Lock()


@contextmanager
def share_cores() -> Iterator[int]:
    """Inside the block, this thread's tensor operations have the cores divided by the runs that train when it begins, at least one.

    Two runs that take all cores each wait for one another and are many times slower.
    """
    import torch

    with _counting:
        _cores["most"] = _cores["most"] or torch.get_num_threads()
        _cores["runs"] += 1
        threads = max(1, _cores["most"] // _cores["runs"])
    torch.set_num_threads(threads)
    try:
        yield threads
    finally:
        with _counting:
            _cores["runs"] -= 1


def imports() -> None:
    """Import what a run needs (torch and transformers take seconds) and open the default backbone and tasks once."""
    import mosld.training  # noqa: F401
    from mosld import backbones, tasks

    config = RunConfig()
    try:
        backbones.load(config.backbone)
        for name in config.tasks:
            tasks.load(name, config.seed)
    except ConfigError as problem:  # a run will say it again, to a visitor
        log.info("the default run is not at hand: %s", problem)


def shared(config: RunConfig, own: dict) -> RunConfig:
    """The configuration without uploaded files, for a link."""
    tasks = {t: w for t, w in config.tasks.items() if t not in own}
    changes = {"tasks": tasks} if tasks else {"tasks": RunConfig.model_fields["tasks"].default}
    return config.replace(**changes, held_out=tuple(t for t in config.held_out if t not in own)) if own else config
