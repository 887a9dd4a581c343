"""One visitor's session: its run, its files, its folder. The only module of the page that meets torch, and that only once needed.

- `Session`: prepare a run, stream its messages, pause, step, change, resume, save. All state of a visitor is in it.
- `Sessions`: the sessions of the page by their key, with a bound on their number; `warm()` loads what the first Run needs.

A run trains in a thread of its own; `stream()` hands its frames on, packed, about ten times a second. When the visitor's page
closes, `stream()` is closed: the thread ends after its step and saves log and adapters, which can be resumed for a while.
Messages are JSON texts for `canvas/store.js`.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.ui.limits import IDLE_SECONDS, KEEP_SECONDS, Limits
from mosld.ui.wire import Packer, header

TICK = 0.1  # seconds between two messages
ROOT = Path(tempfile.gettempdir()) / "mosld-sessions"
KEY = re.compile(r"[A-Za-z0-9_-]{22}")  # what secrets.token_urlsafe(16) gives; nothing else becomes part of a path
log = logging.getLogger(__name__)


def message(k: str, **fields) -> str:
    """A message of kind run, add, say or clear (see `canvas/store.js`)."""
    return json.dumps({"k": k, **fields}, separators=(",", ":"), allow_nan=False)


def say(sentence: str, state: str | None = None, error: bool = False) -> str:
    """A message that changes no frame: a sentence for the visitor, and the state of the run where it changed."""
    return message("say", note=sentence, kind="error" if error else "", **({"state": state} if state else {}))


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
        self.delay = 0.0  # seconds to wait after each step
        self.seen = time.monotonic()
        self._sent: list[list] = []  # packed frames of the run
        self._work: tuple | None = None
        self._thread: threading.Thread | None = None
        self._halt = threading.Event()
        self._epoch = 0  # a stream of an older epoch has nothing more to say

    # What handlers call; each returns at once.

    def prepare(self, config: RunConfig, steps: int | None = None) -> None:
        """Plan a new run; with `steps`, one that pauses after so many. Raises ConfigError."""
        from mosld.tasks import check

        self.limits.check(config)
        check([t for t in [*config.tasks, *config.held_out] if t not in self.own], files=False)
        self.halt()
        self.config = config
        self._work, self.state = ("new", config, steps), "ready"

    def go_on(self, steps: int | None = None) -> None:
        """Plan to go on with a paused run, for `steps` or to its end. Raises ConfigError where there is none."""
        if self.state == "running" or (self.trainer is None and not (self.folder / "run" / "run.json").is_file()):
            raise ConfigError("run: nothing is paused; press Run first." if self.trainer is None else "run: it is training already.")
        if self.state == "ended":
            raise ConfigError("run: it has ended; press Run to start another.")
        self._work, self.state = ("on", None, steps), "ready"

    def pause(self) -> None:
        """The run stops after its step; one that waits for its place does not begin."""
        if self._work is not None:
            self.state = "idle" if self.trainer is None or self._work[0] == "new" else "paused"
        self._work = None
        self._halt.set()

    def change(self, **values) -> None:
        """Hot change of a running or paused run. Raises ConfigError."""
        if self.trainer is not None and self.state in ("running", "paused"):
            self.trainer.change(**values)

    def halt(self) -> None:
        """End what runs after its step; what it has done is saved by its thread."""
        self._epoch += 1
        self.pause()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout=30)
        self.trainer, self._sent, self.state = None, [], "idle"

    def close(self) -> None:
        """The visitor has gone: end the run, give the memory back, keep the folder for a while."""
        threading.Thread(target=self.halt, daemon=True).start()

    def adopt(self, key: str) -> RunConfig:
        """Take over the run that an earlier session of the same browser left. Raises ConfigError where it is gone."""
        folder = self.folder.parent / key
        if not KEY.fullmatch(key or "") or not (folder / "run" / "run.json").is_file():
            raise ConfigError("run: the one left here is gone; press Run to start it anew.")
        from mosld.training.runlog import RunLog

        self.halt()
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(folder, self.folder)
        kept = RunLog.load(self.folder / "run")
        self._start(kept)
        self._sent = [self._packer.pack(frame) for frame in kept.frames]
        self.config, self.state = kept.config, "paused"
        return kept.config

    def whole(self) -> str:
        """Everything sent so far as one message, for a page that missed something."""
        if not self._sent:
            return message("clear", state=self.state)
        return message("run", run=self.run, header=self._header, frames=self._sent, state=self.state)

    # The stream.

    def stream(self) -> Iterator[str]:
        """Carry out what was planned, yielding messages. Closing the iterator pauses the run."""
        work, self._work = self._work, None
        if work is None:
            yield message("say", state=self.state)
            return
        out: queue.SimpleQueue = queue.SimpleQueue()
        if self._thread is not None:
            self._thread.join()
        self._halt.clear()
        epoch = self._epoch
        self._thread = threading.Thread(target=self._train, args=(*work, out), daemon=True)
        self._thread.start()
        try:
            yield from self._forward(out, epoch)
        finally:
            self.seen = time.monotonic()
            if self.state in ("running", "loading") and epoch == self._epoch:
                self.pause()

    def _forward(self, out: queue.SimpleQueue, epoch: int) -> Iterator[str]:
        done = False
        while not done:
            items = [out.get()]
            time.sleep(0 if items[0][0] in ("say", "start") else TICK)
            while not out.empty():
                items.append(out.get())
            if epoch != self._epoch:
                return
            start, pending = len(self._sent), []
            for kind, value in items:
                if kind == "frame":
                    self._sent.append(self._packer.pack(value))
                    pending.append(self._sent[-1])
                elif kind == "start":
                    self._start(value)
                    start = 0
                    yield message("run", run=self.run, header=self._header, frames=[], state="running", note="", link=self.link())
                elif kind == "say":
                    yield say(*value)
                else:
                    done = True
            if pending:
                yield message("add", run=self.run, **{"from": start}, frames=pending, state="running", note="")
            if done:
                yield say(items[-1][1][0], self.state, items[-1][1][1])

    def _start(self, runlog) -> None:
        self.run += 1
        self._packer, self._header, self._sent = Packer(runlog), header(runlog), []

    def _train(self, kind: str, config: RunConfig | None, steps: int | None, out: queue.SimpleQueue) -> None:
        """The thread of a run."""
        sentence, error = "", False
        try:
            self.state = "loading"
            if kind == "new" or self.trainer is None:
                out.put(("say", ("Loading the backbone and the tasks …", "loading")))
                from mosld.training import Trainer

                if kind == "new":
                    shutil.rmtree(self.folder / "run", ignore_errors=True)
                    self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                    self.trainer = Trainer(config, self.folder / "run", lambda text, part=None: out.put(("say", (_progress(text, part), "loading"))))
                    out.put(("start", self.trainer.log))
                else:
                    self.trainer = Trainer.resume(self.folder / "run")
            sentence = self._steps(steps, out)
        except ConfigError as problem:
            self.state, sentence, error = "failed", str(problem), True
        except Exception as problem:  # the visitor gets one sentence, the server's log the traceback
            log.exception("a run failed")
            self.state, error = "failed", True
            sentence = f"The run broke off inside the lab ({type(problem).__name__}); what it did is kept. Press Run to start again."
        finally:
            out.put(("done", (sentence, error)))

    def _steps(self, steps: int | None, out: queue.SimpleQueue) -> str:
        """Train until pause, end or a limit; the sentence to close with. The trainer writes every frame and, at the end, the adapters."""
        end, goal, late = time.monotonic() + self.limits.seconds, steps and self.trainer.step + steps, False
        self.state, last = "running", None
        for last in self.trainer.frames():
            out.put(("frame", last))
            late = time.monotonic() > end
            if self._halt.wait(0 if steps else self.delay) or late or (goal and last.step >= goal):
                self.trainer.pause()
        if self.trainer.done:
            self.state = "ended"
            return last.note if last else "The run has ended."
        self.state = "paused"
        if late:
            return f"Paused at step {self.trainer.step}: a run may train {self.limits.seconds} seconds at a time here. Press Resume to go on."
        return f"Paused at step {self.trainer.step}."

    def link(self) -> str:
        """The configuration for the page's address; a visitor's own files stay out of it."""
        return shared(self.config, self.own).to_url() if self.config else ""


def shared(config: RunConfig, own: dict) -> RunConfig:
    """The configuration without uploaded files, for a link."""
    tasks = {t: w for t, w in config.tasks.items() if t not in own}
    changes = {"tasks": tasks} if tasks else {"tasks": RunConfig.model_fields["tasks"].default}
    return config.replace(**changes, held_out=tuple(t for t in config.held_out if t not in own)) if own else config


def _progress(sentence: str, part: float | None) -> str:
    return sentence if part is None else f"{sentence} ({part:.0%})"


class Sessions:
    """The sessions of one page."""

    def __init__(self, limits: Limits, root: Path = ROOT):
        self.limits, self.root = limits, root
        self._all: dict[str, Session] = {}
        self._lock = threading.Lock()
        self._warm = False

    def of(self, visitor: str) -> Session:
        """The session of a visitor, made on first sight. Raises ConfigError where the page is full."""
        with self._lock:
            if visitor not in self._all:
                self._tidy()
                if len(self._all) >= self.limits.visitors:
                    raise ConfigError(f"visitors: {self.limits.visitors} are here already; please come back in a few minutes.")
                self._all[visitor] = Session(self.limits, self.root)
            session = self._all[visitor]
            session.seen = time.monotonic()
            return session

    def drop(self, visitor: str) -> None:
        with self._lock:
            session = self._all.pop(visitor, None)
        if session is not None:
            session.close()

    def _tidy(self) -> None:
        """Let go of idle sessions, and of folders that nobody resumed."""
        now = time.monotonic()
        for visitor, session in list(self._all.items()):
            if session.state not in ("running", "loading") and now - session.seen > IDLE_SECONDS:
                self._all.pop(visitor).close()
        kept = {s.key for s in self._all.values()}
        for folder in self.root.glob("*") if self.root.is_dir() else []:
            if KEY.fullmatch(folder.name) and folder.name not in kept and time.time() - folder.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def warm(self) -> None:
        """Import what the first Run needs, once, in the background."""
        with self._lock:
            if self._warm:
                return
            self._warm = True

        def load():
            import mosld.training  # noqa: F401

        threading.Thread(target=load, daemon=True).start()
