"""All sessions of one page: who is here, who has left, and what a browser left behind.

A session is known by its key, which its page keeps and nobody else has, and by the name that Gradio gives the page. Looking makes none. Where
there are too many, the one that has rested longest gives way: its run is on disk, and its key opens it again.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from mosld.config import ConfigError
from mosld.ui import RUN
from mosld.ui.compute import warm
from mosld.ui.folders import KEY, folder_name, runs
from mosld.ui.limits import IDLE_SECONDS, KEEP_SECONDS, Limits, size
from mosld.ui.session import Session
from mosld.ui.turns import Places, Turns

GONE_SECONDS = 90  # a page that asked for nothing this long is closed: one in sight asks every few seconds, one out of sight each minute
WATCH_SECONDS = 10


def private_root() -> Path:
    """The folder of all sessions, this user's own and closed to others; another one, said so, where somebody else has put one in its place. Raises
    ConfigError where TMPDIR is no folder of this user's: its runs would lie elsewhere, and be gone."""
    asked, there = os.environ.get("TMPDIR"), tempfile.gettempdir()
    if asked and Path(there).resolve() != Path(asked).resolve():
        raise ConfigError(f"TMPDIR: '{asked}' cannot be written here by user {_user()}; give it a folder of that user's, or leave it out.")
    root = Path(there) / f"mosld-sessions-{_user()}"
    with contextlib.suppress(FileExistsError):
        root.mkdir(mode=0o700)
    found = root.lstat()
    if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
        other = Path(tempfile.mkdtemp(prefix="mosld-sessions-"))
        print(f"'{root}' is not a folder of user {_user()}: runs go to '{other}', and are not found again once the lab is started anew.", flush=True)
        return other
    root.chmod(0o700)
    return root


def _user() -> int | str:
    return os.getuid() if hasattr(os, "getuid") else "lab"


class Sessions:
    """The sessions of one page."""

    def __init__(self, limits: Limits, root: Path | None = None):
        self.limits, self.root = limits, root or private_root()
        self.places, self.turns = Places(limits.runs, limits.memory), Turns(limits.workers, limits.threads)
        self.reads: Callable[[str], bool] = lambda visitor: True  # whether a program reads what its queued call answers (`guard.py` knows)
        self._pages: dict[str, Session] = {}  # by the name that Gradio gives a page
        self._keys: dict[str, Session] = {}
        self._lock = threading.RLock()
        self._warm = self._watching = False
        self._shared = None  # what all runs have in common, held for the next one

    def look(self, visitor: str) -> Session:
        """The session of a visitor, or an empty one that is not kept."""
        with self._lock:
            return self._pages.get(visitor) or Session(self.limits, self.root)

    def of(self, visitor: str) -> Session:
        """The session of a visitor, made on first need. Raises ConfigError where the page is full."""
        with self._lock:
            if visitor not in self._pages:
                self._pages[visitor] = self._new()
            session = self._pages[visitor]
            session.seen = time.monotonic()
            return session

    def by_key(self, key) -> Session | None:
        """The session with this key, where it is in memory."""
        return self._keys.get(key) if isinstance(key, str) else None

    def attach(self, visitor: str, key, unless_used: bool = False) -> Session | None:
        """Give a page the session with this key: the one in memory, or what is left of it on disk; None where there is none.

        `unless_used`: not where another page uses it. Raises ConfigError where the page is full or what is left cannot be read.
        """
        if not isinstance(key, str) or not KEY.fullmatch(key):
            return None
        with self._lock:
            session = self._keys.get(key)
            if session is not None and unless_used and time.monotonic() - session.fetched < GONE_SECONDS:
                return None
            if session is None:
                if not runs(self.root / folder_name(key)):
                    return None
                session = self._new(key)
                try:
                    if not session.reopen():
                        raise ConfigError(f"run: the one left here made no step; press {RUN} to start anew.")
                except ConfigError:
                    del self._keys[key]
                    raise
            session.seen = session.fetched = time.monotonic()
            self._pages[visitor] = session
            return session

    def detach(self, visitor: str) -> None:
        """Take its session from a page; the session itself stays."""
        with self._lock:
            self._pages.pop(visitor, None)

    def drop(self, visitor: str) -> None:
        """Forget a visitor."""
        with self._lock:
            session = self._pages.pop(visitor, None)
            if session is not None:
                self._let_go(session)

    def make_room(self, needed: int) -> None:
        """Let runs that rest give their memory back, the longest rested first, until another one of this size fits."""
        with self._lock:
            resting = sorted((s for s in self._keys.values() if s.trainer is not None), key=lambda s: s.seen)
            total = needed + sum(size(s.config) for s in resting)
        parked = False
        for session in resting:
            if total <= self.limits.memory:
                break
            if not session.busy and session.park():
                total, parked = total - size(session.config), True
        if parked:
            give_back()

    def close(self, seconds: float = 20) -> int:
        """Pause every run and wait until it is saved; how many there were."""
        busy = [s for s in list(self._keys.values()) if s.busy]
        for session in busy:
            session.pause()
        end = time.monotonic() + seconds
        for session in busy:
            session.rested(max(0.1, end - time.monotonic()))
        return len(busy)

    def tidy(self) -> None:
        """Let go of closed pages and of sessions that rest too long, and remove folders that nobody took up again."""
        now, freed = time.monotonic(), False
        with self._lock:
            for session in list(self._keys.values()):
                away = now - max(session.fetched, session.seen)
                if session.busy:
                    if away > GONE_SECONDS and session.state == "waiting":
                        session.pause()
                elif away > IDLE_SECONDS or (away > GONE_SECONDS and session.config is None and not session.tabs and not session.own):
                    freed = self._let_go(session) or freed
                elif away > GONE_SECONDS:
                    freed = session.park() or freed
            kept = {s.folder.name for s in self._keys.values()}
        if freed:
            give_back()
        for folder in self.root.glob("s-*"):
            with contextlib.suppress(OSError):  # another lab of the same user clears this root too, and may have been quicker
                if folder.name in kept:
                    os.utime(folder)
                elif time.time() - folder.stat().st_mtime > KEEP_SECONDS:
                    shutil.rmtree(folder, ignore_errors=True)

    def warm(self) -> None:
        """Make ready what the first Run needs, once, in the background."""
        with self._lock:
            cold, self._warm = not self._warm, True
        if cold:
            threading.Thread(target=self._make_ready, daemon=True).start()

    def _make_ready(self) -> None:
        self._shared = warm(self.turns)

    def _new(self, key: str = "") -> Session:
        if len(self._keys) >= self.limits.visitors:
            self._give_way()
        session = Session(self.limits, self.root, key, self.places, self.turns)
        session.make_room, session.parked = self.make_room, give_back
        self._keys[session.key] = session
        if not self._watching:
            self._watching = True
            self.tidy()
            threading.Thread(target=self._watch, daemon=True).start()
        return session

    def _give_way(self) -> None:
        resting = [s for s in self._keys.values() if not s.busy]
        if not resting:
            raise ConfigError(f"visitors: {self.limits.visitors} are training here already; please come back in a few minutes.")
        self._let_go(min(resting, key=lambda s: max(s.seen, s.fetched)))

    def _let_go(self, session: Session) -> bool:
        session.halt()
        self._keys.pop(session.key, None)
        for visitor in [v for v, s in self._pages.items() if s is session]:
            del self._pages[visitor]
        return True

    def _watch(self) -> None:
        while True:
            time.sleep(WATCH_SECONDS)
            with self._lock:
                if not self._keys:
                    self._watching = False
                    return
            self.tidy()


def give_back() -> None:
    """Return freed memory to the system; glibc keeps it otherwise."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL("libc.so.6").malloc_trim(0)
