"""Tasks: questions with options, in three suites under one catalogue.

- `catalogue()`: what is known of every task; nothing is loaded, no network is used. `example(name)`: one question of it.
- `check(names)`: refuses names that cannot be loaded, before anything is. `settled(config)`: that, and own files by their whole path.
- `load(name, seed)`: a task with its split.

Suites: `world.py` (sentences of our own grammar, `grammar.py`), `real.py` (public data sets), `own.py` (a user's file).
`mixture.py` draws batches from several tasks; `base.py` says what a task is.
"""

from __future__ import annotations

import difflib
import os
import weakref
from collections.abc import Callable, Iterable

from mosld.config import ConfigError, RunConfig
from mosld.tasks.base import Example, Task, TaskInfo

__all__ = ["Example", "Task", "TaskInfo", "catalogue", "check", "example", "load", "settled"]

_real: weakref.WeakValueDictionary[tuple[str, int], Task] = weakref.WeakValueDictionary()  # in use: runs of one task have its rows once in memory


def catalogue() -> list[TaskInfo]:
    """Every task that has a name, the world suite first."""
    # Imported here, so that `mosld.tasks.base` alone stays quick to import.
    from mosld.tasks import real, world

    return [t.info for t in world.TASKS.values()] + list(real.INFOS.values())


def example(name: str) -> str:
    """One question of a task of the catalogue with its options, as 'question → option | option'; nothing is loaded."""
    from mosld.tasks import real, world

    if name not in world.TASKS:
        return real.EXAMPLES[name.removeprefix("real/")]
    asked = world.example(name)
    return f"{asked.question} → {' | '.join(asked.options)}"


def check(names: Iterable[str], files: bool = True) -> None:
    """Refuse an unknown name, and the path of an own file that is not there.

    `files=False` refuses every path: what comes from a link or over the web must not make the server read its files.
    Raises ConfigError; for a misspelt name it says which names are close.
    """
    from mosld.tasks import own

    known = [info.name for info in catalogue()]
    for name in names:
        if name in known:
            continue
        if not own.is_path(name):
            if files and os.path.isfile(name):
                raise ConfigError(
                    f"tasks: '{name[-80:]}' is a file of a kind that is not read; save it as one that ends in {', '.join(own.SUFFIXES)}."
                )
            close = [k for k in known if k.endswith(f"/{name}")] or difflib.get_close_matches(name[:80], known, n=3)
            hint = f"did you mean {' or '.join(close)}?" if close else "'python -m mosld tasks' lists the names; a file of your own is a task too."
            raise ConfigError(f"tasks: '{name[:80]}' is not known; {hint}")
        if not files:
            raise ConfigError(f"tasks: '{name[-80:]}' is a file, which cannot be named here; choose a task of the catalogue or upload the file.")
        own.check(name)


def settled(config: RunConfig) -> RunConfig:
    """The configuration with own files named by their whole path, so that the run finds them again from any folder.

    Raises ConfigError for a task that is not known or a file that is not there.
    """
    from mosld.tasks import own

    check([*config.tasks, *config.held_out])
    whole = lambda name: os.path.abspath(name) if own.is_path(name) else name  # noqa: E731
    return config.replace(tasks={whole(n): w for n, w in config.tasks.items()}, held_out=tuple(map(whole, config.held_out)))


def load(name: str, seed: int = 0, progress: Callable[[str, float | None], None] | None = None, instruction: str = "") -> Task:
    """A task with its rows, split by the seed. `instruction` is put before each question of an own file.

    progress(sentence, fraction in [0, 1] or None) hears of downloads and of rows left out. Raises ConfigError for an unknown name, a faulty own file,
    or a real set that cannot be reached.
    """
    from mosld.tasks import own, real, world

    check([name])
    if name in world.TASKS:
        return world.load(name, seed)
    if own.is_path(name):
        return own.load(name, seed, instruction, progress)
    task = _real.get((name, seed))
    if task is None:
        task = _real[name, seed] = real.load(name, seed, progress)
    return task
