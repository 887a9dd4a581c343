"""Put adapters into a transformers model: `attach(model, config)` replaces the chosen linears in place, freezes the rest, returns a `Handle`.

Which linears and layers: `mosld.adapters.plan`. What stands in their place: `mosld.adapters.layer`.
"""

from __future__ import annotations

import importlib

import torch
from torch import nn

from mosld.adapters import together
from mosld.adapters.adapter import Adapter
from mosld.adapters.context import Context
from mosld.adapters.frozen import adapters_of_others
from mosld.adapters.handle import NAME, Handle
from mosld.adapters.plan import Place, answers, causal, plan
from mosld.config import AdapterConfig, ConfigError
from mosld.registry import METHODS


def method_class(name: str) -> type[Adapter]:
    """The class of a registered method."""
    module, _, cls = METHODS[name].where.partition(":")
    return getattr(importlib.import_module(module), cls)


def attach(
    model: nn.Module,
    config: AdapterConfig,
    seed: int = 0,
    tasks: int = 1,
    instance_dim: int = 0,
    cls: type[Adapter] | None = None,
    name: str = NAME,
) -> Handle:
    """Replace the linears that `config.targets` names by adapters and freeze all other weights, in place.

    What fails or is refused leaves the model as it was. Adapters that are there already, of another handle or of peft, stay trainable.

    Args:
        model: any transformers model; several attached replicas may share its weights.
        seed: of initial values. Dropout draws from torch's own generator, so that checkpointing, resuming and compiling are exact.
        tasks: T, for methods that keep something per task.
        instance_dim: size of the sentence embeddings given to `Handle.context`, for methods routed by them.
        cls: what to put at the linears, where it is not the registered class of `config.method`.
        name: of this set of adapters; `Handle.add` puts further sets beside it.

    Raises:
        ConfigError: a target that no linear answers to, or a rank above the smaller side of a linear.
    """
    places, adapters, context, config = draw(model, config, seed, tasks, instance_dim, cls)
    return Handle(model, name, config, places, adapters, context)


def draw(
    model: nn.Module, config: AdapterConfig, seed: int = 0, tasks: int = 1, instance_dim: int = 0, cls: type[Adapter] | None = None, own: tuple = ()
) -> tuple[list[Place], list[list[Adapter]], Context, AdapterConfig]:
    """The adapters of a configuration, made and drawn but not put in: places, the adapters of each, their context, the settled configuration.

    Args:
        own: the adapted linears of the handle that asks; those of any other are left alone. Raises ConfigError.
    """
    config = config.effective().adapter()
    cls = cls or method_class(config.method)
    cls.check(config)
    theirs = adapters_of_others(model, own)
    for taken in theirs:
        if (key := answers(taken, config.targets, True)) and not answers(taken, config.exclude, True):
            raise ConfigError(f"targets: '{key}' is {taken}, which has adapters already; use Handle.of(model).add, exclude it, or detach them first.")
    places = plan(model, config, skip=lambda name, module: any(name == t or name.startswith(f"{t}.") for t in theirs))
    if cls.whole_text and (name := causal(model)):
        raise ConfigError(
            f"method: {config.label} picks its factors by the whole text, and {name} is causal, so they would depend on later tokens; "
            "take an encoder, or a method that routes by token."
        )
    reads = "" if METHODS[config.method].routes_by else config.router
    if reads in ("text", "instruction", "hash") and getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        raise ConfigError(
            f"router: '{reads}' is not for encoder-decoders, whose two sides read different texts; choose token, task, random, uniform."
        )
    told = cls.by_text or reads in ("text", "instruction", "task", "hash")
    if told and any(type(m).__name__ == "XLNetModel" for m in model.modules()):
        what = f"router: '{reads}'" if not cls.by_text else f"method: {config.label}"
        raise ConfigError(f"{what} tells the texts of a batch apart, which XLNet hands on as [tokens, texts, size]; choose one that reads tokens.")
    generator = torch.Generator()
    context = Context(config.dropout, config.balance, generator, tasks=tasks, instance_dim=instance_dim)
    drawn, made = [], 0
    for place in places:
        pieces = []
        for part in place.parts:
            if part.site is None:
                continue
            generator.manual_seed(seed * 100_003 + made)  # its own draw for each linear: methods of one shape start alike
            adapter = cls(place.module, part.site, config, context, part.rows)
            adapter.training = place.module.training
            on_meta = any(p.is_meta for p in adapter.parameters())  # peft's low_cpu_mem_usage: the tensors come with the file
            pieces.append(adapter if on_meta else adapter.to(device_of(place.module)))
            made += 1
        drawn.append(pieces)
    together.join([a for pieces in drawn for a in pieces])
    return places, drawn, context, config


def device_of(module: nn.Module) -> torch.device:
    """Where a linear computes: its weight's device, or where accelerate will bring the weight to."""
    hook = getattr(module, "_hf_hook", None)
    place = getattr(hook, "execution_device", None)
    if place is not None:
        return torch.device(place)
    tensor = next((t for t in (*module.parameters(), *module.buffers())), None)
    return torch.device("cpu") if tensor is None else tensor.device
