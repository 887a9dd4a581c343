"""The one module of the page that meets torch, and that only once needed.

- `computing`: inside the block this thread computes, when its turn comes, with the threads of one run. `warm`: what takes seconds, once for all.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mosld.config import ConfigError, RunConfig
from mosld.ui.turns import TRAINING, Turn, Turns

log = logging.getLogger(__name__)
_held = threading.local()  # .turn: that of this thread


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
        try:
            yield turn
        finally:
            _held.turn = None


def warm(turns: Turns):
    """Import what a run needs (torch and transformers take seconds) and make the default run's first step once. Gives what is to be held, so that
    later runs find it: the default backbone, with its token ids and its scores."""
    from mosld.training import Trainer

    try:
        with computing(turns) as turn:
            trainer = Trainer(RunConfig())
            for _ in trainer.advance(1):
                turn.pass_on()
    except ConfigError as problem:  # a run will say it again, to a visitor
        log.info("the default run is not at hand: %s", problem)
        return None
    except Exception:
        log.exception("the default run's first step failed")
        return None
    return trainer.backbone
