"""One visitor's session: its run, its files, its folder.

- `Session`: wishes (`prepare`, `go_on`, `toggle`, `pause`, `halt`, `change`), each noted at once, the last one counts; `ask` looks into
  the run; `news` is what a page has not got yet, from an index on and in pieces.
- `message`, `say`: what is sent to the page, JSON texts for `canvas/store.js`.

How a run is carried out is in `carry.py`, where it lies on disk in `folders.py`, what meets torch in `compute.py`.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.ui import PAUSE, RESUME, RUN
from mosld.ui.carry import Carrying, Run
from mosld.ui.compute import computing
from mosld.ui.folders import Texts, folder_name, renamed, runs, shared
from mosld.ui.limits import UPLOAD_BYTES, UPLOADS, Limits
from mosld.ui.turns import QUESTION, Places, Turns
from mosld.ui.wire import to_json

PIECE = 256_000  # characters of frames in one message
BUSY = ("waiting", "loading", "running")


def message(k: str, **fields) -> str:
    """A message of kind run, add, say or clear (see `canvas/store.js`)."""
    return to_json({"k": k, **fields})


def say(sentence: str, state: str | None = None, error: bool = False) -> str:
    """A message that changes no frame: a sentence for the visitor, and the state of the run where it changed."""
    return message("say", note=sentence, kind="error" if error else "", **({"state": state} if state else {}))


class Session(Carrying):
    """A visitor. `state` is idle, waiting, loading, running, paused, ended or failed."""

    def __init__(self, limits: Limits, root: Path, key: str = "", places: Places | None = None, turns: Turns | None = None):
        self.limits = limits
        self.key = key or secrets.token_urlsafe(16)
        self.folder = root / folder_name(self.key)
        self.own: dict[str, Path] = {}  # a visitor's uploaded task files, by the name they have in a configuration
        self.state, self.note, self.error = "idle", "", False
        self.config: RunConfig | None = None
        self.run = max((int(p.name[4:]) for p in runs(self.folder)), default=0)  # of the run, so that late frames of an older one are told apart
        self.delay = 0.0  # seconds to wait after each step
        self.seen = self.fetched = time.monotonic()
        self.tabs: dict[str, object] = {}  # what a tab keeps for this visitor, by the tab's name
        self.places, self.turns = places or Places(limits.runs, limits.memory), turns or Turns(limits.workers, limits.threads)
        self.parked: Callable[[], None] = lambda: None  # told that memory was given back
        self.make_room: Callable[[int], None] = lambda size: None  # asks other sessions for memory
        self._run: Run | None = None
        self._header: str | None = None
        self._frames = Texts(self.folder / "page.jsonl")  # packed frames of the run
        self._lock = threading.RLock()
        self._news = threading.Condition(self._lock)

    @property
    def trainer(self):
        return self._run.trainer if self._run is not None else None

    @property
    def busy(self) -> bool:
        return self.state in BUSY

    # Wishes. Each is noted at once and takes effect after the step that is being made.

    def prepare(self, config: RunConfig, steps: int | None = None) -> None:
        """Start a new run; with `steps`, one that pauses after so many. It takes the place of the one before. Raises ConfigError."""
        from mosld.tasks import check

        self.limits.check(config)
        check([t for t in [*config.tasks, *config.held_out] if t not in self.own], files=False)
        with self._lock:
            before = self._run
            self.run += 1
            run = Run(config, self.folder / f"run-{self.run:04d}")
            self._drop()  # its place is given back before the new one is asked for
            try:
                self._begin(run, steps or config.steps, steps is not None)
            except ConfigError:
                self._tell("paused" if before is not None and before.step >= 0 else "idle", self.note)
                raise
            self.config = config

    def go_on(self, steps: int | None = None) -> None:
        """Go on with a run that rests, or train one that trains `steps` further and no more. Raises ConfigError where there is none."""
        with self._lock:
            run = self._run
            if self.state == "ended":
                raise ConfigError(f"run: it has ended; press {RUN} to start another.")
            if run is None or self.state not in ("paused", *BUSY):
                raise ConfigError(f"run: nothing is paused; press {RUN} first.")
            goal = run.config.steps if steps is None else min(max(run.step, 0) + steps, run.config.steps)
            if run.thread is not None and not run.leaving:
                run.goal, run.brisk = goal, steps is not None
                if self.state == "running":
                    self._tell("running", "")
            else:
                self._begin(run, goal, steps is not None)

    def pause(self) -> None:
        """The run stops after its step; one that waits for its place does not begin."""
        with self._lock:
            run = self._run
            if run is None or run.thread is None or run.leaving:
                return
            run.goal = 0
            if not run.ticket.inside:
                self.places.leave(run.ticket)
                run.leaving = True
                self._rest(run)
            elif self.state == "running":
                self._tell("running", "Pausing after this step …")
            self._news.notify_all()

    def toggle(self) -> None:
        """Pause what is on its way, or go on with what rests. Raises ConfigError where there is nothing."""
        self.pause() if self.busy else self.go_on()

    def halt(self) -> None:
        """Forget the run. Its thread ends after its step and saves what it has done."""
        with self._lock:
            self._drop()
            self._tell("idle", "")

    def change(self, **values) -> None:
        """Hot change of a run that trains or is paused. Raises ConfigError."""
        trainer = self.trainer
        if trainer is not None and self.state in ("running", "paused"):
            trainer.change(**values)

    def say(self, sentence: str, error: bool = False) -> None:
        """A sentence for the visitor, until the next one."""
        with self._lock:
            self._tell(self.state, sentence, error)

    def ask(self, question: Callable, seconds: float = 20):
        """What `question(trainer)` finds in this visitor's run, between two of its steps where it is training.

        A run that was put away is opened first. Raises ConfigError where there is no run, or where the answer takes longer than `seconds`.
        """
        with self._lock:
            run = self._run
            if run is None or (run.trainer is None and not self.busy and not (run.folder / "run.json").exists()):
                raise ConfigError(f"run: there is none to look into yet; press {RUN} first.")
            training = run.thread is not None and not run.leaving
            if training:
                run.asked.put((question, future := Future()))
        if not training:
            if not run.using.acquire(timeout=seconds):
                raise ConfigError(f"run: it is busy; press {PAUSE} and try again.")
            try:
                with computing(self.turns, QUESTION):
                    return question(self._open(run, lambda *_: None))
            finally:
                run.using.release()
        try:
            return future.result(seconds)
        except FutureTimeout:
            future.cancel()
            raise ConfigError(f"run: it is busy; press {PAUSE} and try again.") from None

    def keep(self, source: Path) -> tuple[str, str]:
        """Take a task file of the visitor's own: the name it then has in a configuration ('own/even_numbers.jsonl'), and what was understood of it.

        Raises ConfigError for what cannot be read, and beyond the bounds on number and bytes.
        """
        from mosld.tasks import own

        try:
            if not own.is_path(source.name):
                raise ConfigError(f"file: '{source.name[:60]}' is not allowed; give one that ends in {', '.join(own.SUFFIXES)}.")
            if len(self.own) >= UPLOADS:
                raise ConfigError(f"file: {UPLOADS} files of your own are here already; reload the page to start afresh.")
            if source.stat().st_size > UPLOAD_BYTES:
                raise ConfigError(f"file: {source.stat().st_size:,} bytes are too many; give at most {UPLOAD_BYTES:,}.")
            words = own.look(source).text()
        except ConfigError as problem:
            raise ConfigError(str(problem).replace(str(source), source.name)) from None
        stem, dot, ending = source.name.partition(".")
        place = self.folder / "own" / ((re.sub(r"[^A-Za-z0-9_-]+", "_", stem)[:40] or "own") + dot + ending.lower())
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        shutil.copyfile(source, place)
        self.own[f"own/{place.name}"] = place
        return f"own/{place.name}", words

    # What a page is told.

    def word(self) -> str:
        """What is said now, and the key by which the page fetches the rest."""
        with self._lock:
            return message("say", note=self._words(), kind="error" if self.error else "", state=self.state, key=self.key)

    def news(self, number: int = -1, at: int = 0, mark: str = "") -> list[str]:
        """Messages for a page that has `at` frames of run `number` and was last told `mark`: frames in a piece of bounded length, then what
        is said. An empty list where it has everything."""
        with self._lock:
            self.fetched = self.seen = time.monotonic()
            note, out, more = self._words(), [], False
            if self._header is not None:
                start = at if number == self.run and 0 <= at <= len(self._frames) else -1
                piece = self._frames.piece(max(start, 0), PIECE)
                end, frames = max(start, 0) + len(piece), ",".join(piece)
                more = end < len(self._frames)
                if start < 0:
                    link = to_json(self.link())
                    head = f'"k":"run","run":{self.run},"header":{self._header},"link":{link},"state":{to_json(self.state)},"note":{to_json(note)}'
                    out.append(f'{{{head},"frames":[{frames}]}}')
                elif end > start:
                    out.append(f'{{"k":"add","run":{self.run},"from":{start},"frames":[{frames}],"state":{to_json(self.state)}}}')
            elif number > 0 and self.state == "idle":
                out.append(message("clear", state="idle", link=self.link()))
            new = hashlib.sha256(f"{self.run} {self.state} {note}".encode()).hexdigest()[:8]
            if new != mark and not more:
                out.append(message("say", note=note, kind="error" if self.error else "", state=self.state, mark=new, key=self.key))
            return out

    def rested(self, seconds: float) -> bool:
        """Wait until no run of this session is on its way, at most so long; whether that is so."""
        with self._lock:
            self._news.wait_for(lambda: not self.busy, seconds)
        run = self._run
        thread = run.thread if run is not None else None
        if thread is not None and not self.busy:
            thread.join(seconds)  # until it has saved
        return not self.busy

    def link(self) -> str:
        """The configuration for the page's address; a visitor's own files stay out of it."""
        return shared(self.config) if self.config else ""

    # What is on disk.

    def reopen(self) -> bool:
        """Take up the last run in this session's folder, as an earlier session or an earlier server left it; whether there is one."""
        found = runs(self.folder)
        if not found:
            return False
        from mosld.training.runlog import RunLog  # imports torch

        kept = RunLog.load(found[-1])
        if not kept.frames:
            return False
        self.own = {f"own/{p.name}": p for p in sorted((self.folder / "own").glob("*")) if p.is_file()}
        names = {str(path): name for name, path in self.own.items()}
        config = renamed(kept.config, names)
        with self._lock:
            run = self._run = Run(config, found[-1])
            run.step = run.goal = kept.frames[-1].step
            self._start(run, kept)
            for frame in kept.frames:
                self._frames.append(to_json(run.packer.pack(frame)))
            run.packer.follow(None)
            self.config = config
            if kept.frames[-1].event in ("end", "diverged", "stopped"):
                self._tell("ended", kept.frames[-1].note)
            else:
                last = f"A run of yours stopped at step {run.step} of {config.steps}"
                self._tell("paused", f"{last}: press {RESUME} to go on with it, or {RUN} for a new one.")
        return True

    def park(self) -> bool:
        """Give back the memory of a run that rests; it is on disk and opened again when needed. Whether there was something to give back."""
        with self._lock:
            run = self._run
            if run is None or run.trainer is None or run.thread is not None or not (run.folder / "run.json").exists():
                return False
            if not run.using.acquire(blocking=False):
                return False
            run.trainer = None
            if run.packer is not None:
                run.packer.follow(None)
            run.using.release()
        return True

    # Inside.

    def _drop(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            run.dropped, run.goal = True, 0
            self.places.leave(run.ticket) if not run.ticket.inside else None
        self._header = None
        self._frames.cut(0)

    def _words(self) -> str:
        """The sentence that stands now; of who waits, its place in the line."""
        run = self._run
        if self.state != "waiting" or run is None:
            return self.note
        place, seconds = self.places.rank(run.ticket)
        if not place:
            return "Loading …"
        about = "" if seconds is None else ", about a minute" if seconds < 90 else f", about {seconds / 60:.0f} minutes"
        return f"Waiting for a place: number {place} in line{about}. Everything here can be looked at meanwhile."

    def _rest(self, run: Run) -> None:
        """The state of a run that was withdrawn before it began."""
        if run.step >= 0:
            self._tell("paused", f"Paused at step {run.step}.")
        else:
            self._run = None
            self._tell("idle", "Not started.")
