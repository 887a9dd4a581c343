"""Where a session's runs lie on disk, and under which names: a visitor's own files have names of their own in configurations and links."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Iterator
from pathlib import Path

from mosld.config import RunConfig
from mosld.tasks.files import is_path

KEPT_RUNS = 8  # run directories of one visitor
KEY = re.compile(r"[A-Za-z0-9_-]{22}")  # what secrets.token_urlsafe(16) gives


def folder_name(key: str) -> str:
    """The name of a session's folder: from the key it can be told, but not the key from it, so that nobody who lists the folders has a key."""
    return "s-" + hashlib.sha256(key.encode()).hexdigest()[:32]


def renamed(config: RunConfig, names: dict[str, str]) -> RunConfig:
    """The configuration with its tasks under other names, where they have one: own files under their names, or where they lie."""
    if not any(t in names for t in (*config.tasks, *config.held_out)):
        return config
    tasks = {names.get(t, t): w for t, w in config.tasks.items()}
    return config.replace(tasks=tasks, held_out=tuple(names.get(t, t) for t in config.held_out))


def runs(folder: Path) -> list[Path]:
    """The run directories of a session, oldest first."""
    return sorted(path.parent for path in folder.glob("run-*/run.json"))


def shared(config: RunConfig) -> str:
    """The part of an address that restores a configuration; files of a visitor's own stay out of it."""
    tasks = {t: w for t, w in config.tasks.items() if not is_path(t)} or RunConfig.model_fields["tasks"].default
    return config.replace(tasks=tasks, held_out=tuple(t for t in config.held_out if not is_path(t))).to_url()


def hidden(sentence: str) -> str:
    """A sentence without folders: paths never leave the server."""
    return re.sub(r"(?<![\w.])/[^\s']*/", "", sentence)


class Texts:
    """The packed frames of a session's run, in a file: a page fetches each of them once, mostly, and they would outweigh the run's own numbers."""

    def __init__(self, path: Path):
        self.path, self._ends = path, array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __iter__(self) -> Iterator[str]:
        return iter(self.piece(0, self._ends[-1] + 1))

    def append(self, text: str) -> None:
        with open(self.path, "r+b" if len(self) else "wb") as file:
            file.seek(self._ends[-1])
            self._ends.append(self._ends[-1] + file.write(text.encode()))

    def cut(self, count: int) -> None:
        """Keep the first `count`."""
        del self._ends[count + 1 :]

    def piece(self, start: int, room: int) -> list[str]:
        """Texts from index `start` on, at least one where there is one, and no more once `room` characters are reached."""
        end = start
        while end < len(self) and self._ends[end] - self._ends[start] < room:
            end += 1
        if end == start:
            return []
        with open(self.path, "rb") as file:
            file.seek(self._ends[start])
            data = file.read(self._ends[end] - self._ends[start])
        return [data[self._ends[i] - self._ends[start] : self._ends[i + 1] - self._ends[start]].decode() for i in range(start, end)]
