"""The one module of the page that meets torch, and that only once needed.

- `computing`: inside the block this thread computes, when its turn comes, with the threads of one run. `warm`: what takes seconds, once for all.
- `closing`: set when the process is about to end, which then waits for who computes: a thread that is inside the tensor library when the
  interpreter goes ends the process by a signal. Whoever computes long looks at it after each step.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from mosld.config import ConfigError, RunConfig
from mosld.ui.turns import TRAINING, Turn, Turns

log = logging.getLogger(__name__)
_held = threading.local()  # .turn: that of this thread
_inside: set[threading.Thread] = set()
closing = threading.Event()
PATIENCE = 20  # seconds until the process ends all the same


@contextmanager
def computing(turns: Turns, rank: int = TRAINING) -> Iterator[Turn]:
    """Inside the block this thread computes: on its turn (the one it has, where it has one), with the number of threads that every run has, so that
    its numbers do not depend on company, and on backbones that all share."""
    import torch

    from mosld.backbones import sharing

    held = getattr(_held, "turn", None)
    if held is not None:
        yield held
        return
    torch.set_num_threads(turns.threads)
    with turns.turn(rank) as turn, sharing(turns.pool):
        _held.turn = turn
        _inside.add(threading.current_thread())
        try:
            yield turn
        finally:
            _held.turn = None
            _inside.discard(threading.current_thread())


@atexit.register
def _close() -> None:
    closing.set()
    end = time.monotonic() + PATIENCE
    while (others := _inside - {threading.current_thread()}) and (rest := end - time.monotonic()) > 0:
        others.pop().join(min(rest, 1))  # one that has left the block may live on


def warm(turns: Turns):
    """Import what a run needs (torch and transformers take seconds) and make the default run's first step once. Gives what is to be held, so that
    later runs find it: the default backbone, with its token ids and its scores."""
    from mosld.training import Trainer

    try:
        with computing(turns) as turn:
            trainer = Trainer(RunConfig())
            for _ in trainer.advance(1):
                if closing.is_set():
                    return None
                turn.pass_on()
    except ConfigError as problem:  # a run will say it again, to a visitor
        log.info("the default run is not at hand: %s", problem)
        return None
    except Exception:
        log.exception("the default run's first step failed")
        return None
    return trainer.backbone
