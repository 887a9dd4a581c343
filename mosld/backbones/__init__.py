"""Backbones: frozen models that score options. `load(name)` takes a short name of mosld.config.BACKBONES or a hub id.

Inside `with sharing(pool)`, which a server of many runs uses, backbones of one model have the same weights, tokenizer, token ids and scores of the
bare model in memory, as long as one of them is there: nobody may write into them.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from importlib import import_module

from mosld.config import BACKBONES, ConfigError

__all__ = ["Pool", "load", "sharing"]


class Pool:
    """Backbones in use, by name and layers. Who comes second waits for the first, and shares."""

    def __init__(self):
        self._first: weakref.WeakValueDictionary = weakref.WeakValueDictionary()
        self._locks = [threading.Lock() for _ in range(16)]

    def load(self, name: str, layers: int, max_tokens: int, temperature: float, progress):
        with self._locks[hash((name, layers)) % len(self._locks)]:
            first = self._first.get((name, layers))
            if first is None:
                first = self._first[name, layers] = _open(name, layers, max_tokens, temperature, progress)
        return first.another(max_tokens, temperature)


_pool: ContextVar[Pool | None] = ContextVar("pool", default=None)


@contextmanager
def sharing(pool: Pool) -> Iterator[None]:
    """Inside the block, in this thread, `load` takes from the pool."""
    token = _pool.set(pool)
    try:
        yield
    finally:
        _pool.reset(token)


def load(name: str, layers: int = 0, max_tokens: int = 64, temperature: float = 0.05, progress=None):
    """A frozen `Backbone` (mosld.backbones.base), in eval mode, float32, on the CPU.

    `layers` keeps the first so many layers, 0 all. `max_tokens` cuts longer texts. `temperature` divides the cosines of encoders.
    `progress` is called with a sentence and a fraction (or None) while something is downloaded.
    Raises ConfigError for an unknown name, a model that cannot be had, or `layers` and `max_tokens` beyond the model.
    """
    if name not in BACKBONES and "/" not in name:
        near = get_close_matches(name, BACKBONES, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose {', '.join(BACKBONES)}, or a hub id such as owner/name."
        raise ConfigError(f"backbone: '{name}' is not known; {hint}")
    if (pool := _pool.get()) is not None:
        return pool.load(name, layers, max_tokens, temperature, progress)
    return _open(name, layers, max_tokens, temperature, progress)


def _open(name: str, layers: int, max_tokens: int, temperature: float, progress):
    from mosld.backbones import base, hub  # torch and transformers take seconds to import: not before a model is wanted

    with base.quiet():
        if name in BACKBONES:
            model, tokenizer, source = import_module(BACKBONES[name]).open_model(progress)
        else:
            model, tokenizer, source = hub.open_model(name, progress)
    cls = base.Decoder if model.can_generate() else base.Encoder
    return cls(name, model, tokenizer, source, layers, max_tokens, temperature)
