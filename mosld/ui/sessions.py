"""All sessions of one page: who is here, who has left, and what a browser left behind."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path

from mosld.config import ConfigError, RunConfig
from mosld.ui.limits import IDLE_SECONDS, KEEP_SECONDS, Limits
from mosld.ui.session import KEY, ROOT, Session, imports, runs


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

    def left(self, session: Session, key) -> tuple[RunConfig, int] | None:
        """The configuration and last step of an unfinished run that nobody holds, and note it in the session; None without one."""
        held = {s.key for s in self._all.values()}
        found = runs(self.root / key) if isinstance(key, str) and KEY.fullmatch(key) and key not in held else []
        if not found:
            return None
        try:
            config = RunConfig(**json.loads((found[-1] / "run.json").read_text())["config"])
            step = json.loads((found[-1] / "frames.jsonl").read_text().splitlines()[-1])["step"]
        except (OSError, ValueError, IndexError, KeyError):
            return None  # cut short by a crash: nothing to offer
        if step >= config.steps:
            return None
        session.left = key
        return config, step

    def drop(self, visitor: str) -> None:
        with self._lock:
            session = self._all.pop(visitor, None)
        if session is not None:
            session.halt()

    def _tidy(self) -> None:
        """Let go of idle sessions, and of folders that nobody resumed."""
        now = time.monotonic()
        for visitor, session in list(self._all.items()):
            if session.state not in ("running", "loading") and now - session.seen > IDLE_SECONDS:
                self._all.pop(visitor).halt()
        kept = {s.key for s in self._all.values()}
        for folder in self.root.glob("*") if self.root.is_dir() else []:
            if KEY.fullmatch(folder.name) and folder.name not in kept and time.time() - folder.stat().st_mtime > KEEP_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)

    def warm(self) -> None:
        """Import what the first Run needs, once, in the background."""
        with self._lock:
            cold, self._warm = not self._warm, True
        if cold:
            threading.Thread(target=imports, daemon=True).start()
