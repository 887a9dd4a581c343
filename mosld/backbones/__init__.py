"""Backbones: frozen models that score options. `load(name)` takes a short name of mosld.config.BACKBONES or a hub id."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from mosld.config import BACKBONES, ConfigError

__all__ = ["load"]


def load(name: str, layers: int = 0, max_tokens: int = 64, temperature: float = 0.05, progress=None):
    """A frozen `Backbone` (mosld.backbones.base), in eval mode, float32, on the CPU.

    `layers` keeps the first so many layers, 0 all. `max_tokens` cuts longer texts. `temperature` divides the cosines of encoders.
    `progress` is called with a sentence and a fraction (or None) while something is downloaded.
    Raises ConfigError for an unknown name, a model that cannot be had, or `layers` and `max_tokens` beyond the model.
    """
    from mosld.backbones import base, hub  # torch and transformers take seconds to import: not before a model is wanted

    if name not in BACKBONES and "/" not in name:
        near = get_close_matches(name, BACKBONES, 1)
        hint = f"did you mean '{near[0]}'?" if near else f"choose {', '.join(BACKBONES)}, or a hub id such as owner/name."
        raise ConfigError(f"backbone: '{name}' is not known; {hint}")
    with base.quiet():
        if name in BACKBONES:
            model, tokenizer, source = import_module(BACKBONES[name]).open_model(progress)
        else:
            model, tokenizer, source = hub.open_model(name, progress)
    cls = base.Decoder if model.can_generate() else base.Encoder
    return cls(name, model, tokenizer, source, layers, max_tokens, temperature)
