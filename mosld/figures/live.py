"""Training followed in a notebook: one picture, or one line, that is updated in place.

- `watch(trainer)`: train with a picture that is redrawn as the run goes on.
- `progress()`: a line for everything in this package that takes a `progress`, such as `mosld.studies.runs.train_all`.

Both update the one display they opened (a display id) and never clear a cell's output: nothing flickers and nothing jumps. Outside of
IPython they show nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from IPython import get_ipython
from IPython.display import Markdown, display

from mosld.figures.runs import overview
from mosld.training import RunLog, Trainer

SECONDS = 1.0  # between two pictures, at least
SHARE = 0.1  # of the time that drawing may take, at most

Change = tuple[int, int | None, dict[str, float]]


class Spot:
    """One place in a notebook's output that shows one thing at a time."""

    def __init__(self):
        self._handle = None

    def show(self, what) -> None:
        """Put `what` where the last thing was."""
        if get_ipython() is None:
            return
        if self._handle is None:
            self._handle = display(what, display_id=True)
        else:
            self._handle.update(what)


def watch(trainer: Trainer, draw: Callable[[RunLog], object] = overview, changes: Sequence[Change] = (), steps: int | None = None) -> RunLog:
    """Train to the end, or to step `steps`, with `draw(trainer.log)` in sight. Returns the log.

    Args:
        changes: (step, arm or None for all, values), given to `Trainer.change` once that step is done: a run in which somebody turned a
            knob is repeated this way.
    """
    spot, cost, drawn = Spot(), 0.0, 0.0
    last = trainer.config.steps if steps is None else steps
    for until, arm, values in [*sorted(changes, key=lambda change: change[0]), (last, None, {})]:
        for frame in trainer.advance(until - trainer.step):
            now = time.perf_counter()
            if frame.step and now - drawn > max(SECONDS, cost / SHARE):
                spot.show(draw(trainer.log))
                drawn = time.perf_counter()
                cost = drawn - now
        if values and not trainer.done:
            trainer.change(arm, **values)
    if trainer.log.frames:
        spot.show(draw(trainer.log))
    return trainer.log


def progress() -> Callable[[str, float | None], None]:
    """A function of (sentence, share done or None) that keeps one line of a cell's output up to date."""
    spot, began, told = Spot(), time.perf_counter(), 0.0

    def tell(sentence: str, fraction: float | None = None) -> None:
        nonlocal told
        now = time.perf_counter()
        if now - told > SECONDS or fraction == 1:
            told = now
            share = "" if fraction is None else f" · {fraction:.0%}"
            spot.show(Markdown(f"{sentence}{share} · {now - began:.0f} s"))

    return tell
