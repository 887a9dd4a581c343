"""Put adapters into a transformers model and take them out again.

- `attach(model, config)`: replaces the chosen linears in place, freezes the rest, returns a `Handle`.
- `TARGETS`: the short names q, k, v, o, up, down, gate and what BERT-, LLaMA-, GPT-2- and T5-style models call them. Any other
  text in `targets` is matched against the end of a module's name.
- A fused q-k-v linear (GPT-2's c_attn) is cut into its parts, so that q and v can be adapted alone.
"""

from __future__ import annotations

import importlib
import re

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mosld.adapters.adapter import Adapter, Context, Site
from mosld.adapters.handle import Handle
from mosld.config import AdapterConfig, ConfigError
from mosld.counting import group_of
from mosld.registry import METHODS

TARGETS: dict[str, tuple[str, ...]] = {
    "q": ("q_proj", "query", "q_lin", "q"),
    "k": ("k_proj", "key", "k_lin", "k"),
    "v": ("v_proj", "value", "v_lin", "v"),
    "o": ("o_proj", "attention.output.dense", "out_lin", "attn.c_proj", "SelfAttention.o", "EncDecAttention.o", "self_attn.out_proj"),
    "gate": ("gate_proj", "wi_0"),
    "up": ("up_proj", "intermediate.dense", "wi", "wi_1", "c_fc", "fc1", "lin1"),
    "down": ("down_proj", "output.dense", "wo", "mlp.c_proj", "fc2", "lin2"),
}
FUSED: dict[str, tuple[str, ...]] = {"c_attn": ("q", "k", "v")}


class SplitLinear(nn.Module):
    """A fused linear as its parts side by side: some adapted, the others frozen slices."""

    def __init__(self, base: nn.Module, parts: list[Adapter | tuple[Tensor, Tensor | None]]):
        super().__init__()
        self.base, self.parts = base, parts
        self.adapters = nn.ModuleList(p for p in parts if isinstance(p, Adapter))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([p(x) if isinstance(p, Adapter) else nn.functional.linear(x, *p) for p in self.parts], -1)


def method_class(name: str) -> type[Adapter]:
    """The class of a registered method."""
    module, _, cls = METHODS[name].where.partition(":")
    return getattr(importlib.import_module(module), cls)


def _short(name: str) -> str | None:
    """The short target name of a module, by the longest ending that fits."""
    fits = [(len(end), short) for short, ends in TARGETS.items() for end in ends if f".{name}".endswith(f".{end}")]
    return max(fits)[1] if fits else None


def _frozen(module: nn.Module) -> tuple[Tensor, Tensor | None] | None:
    """Weight [d_out, d_in] and bias of a linear; Conv1D keeps its weight the other way round."""
    if isinstance(module, Conv1D):
        return module.weight.t(), module.bias
    if isinstance(module, nn.Linear):
        return module.weight, module.bias
    return None


def _wanted(name: str, targets: tuple[str, ...]) -> str | None:
    """Which of `targets` a module's name answers to."""
    short = _short(name)
    if short in targets:
        return short
    return next((t for t in targets if t not in TARGETS and (name == t or name.endswith(f".{t}"))), None)


def _layer_ids(names: list[str]) -> dict[str, int]:
    """Module name to its layer from the bottom: the stack it is in and the first number in its name, in the model's order."""
    stacks = {n: (m.group(1), int(m.group(2))) if (m := re.match(r"(.*?)\.?(\d+)(?:\.|$)", n)) else ("", 0) for n in names}
    order = {stack: i for i, stack in enumerate(dict.fromkeys(stacks.values()))}
    return {n: order[s] for n, s in stacks.items()}


def attach(model: nn.Module, config: AdapterConfig, seed: int = 0, tasks: int = 1, instance_dim: int = 0, cls: type[Adapter] | None = None) -> Handle:
    """Replace the linears that `config.targets` names by adapters and freeze all other weights, in place.

    Args:
        model: any transformers model; several attached replicas may share its weights.
        seed: of initial values and dropout masks.
        tasks: T, for methods that keep something per task.
        instance_dim: size of the sentence embeddings given to `Handle.context`, for methods routed by them.
        cls: what to put at the linears, where it is not the registered class of `config.method`.

    Raises:
        ConfigError: a target that no linear answers to, or a rank above the smaller side of a linear.
    """
    config = config.effective().adapter()
    cls = cls or method_class(config.method)
    cls.check(config)
    sites = _find(model, config.targets)
    for name, module, parts in sites:
        d_in, d_out = _frozen(module)[0].shape[1], _frozen(module)[0].shape[0] // len(parts)
        if config.rank > min(d_in, d_out):
            raise ConfigError(f"rank: {config.rank} is above the smaller side of {name} ({d_in} to {d_out}); give at most {min(d_in, d_out)}.")
    layers = _layer_ids([n for n, m in model.named_modules() if _frozen(m) is not None])
    depth, groups = len({layers[name] for name, _, _ in sites}), config.expert_counts
    ranks = {layer: i for i, layer in enumerate(sorted({layers[name] for name, _, _ in sites}))}
    generator = torch.Generator().manual_seed(seed)
    context = Context(config.dropout, config.balance, generator, tasks, instance_dim)
    flags = {id(p): (p, p.requires_grad) for p in model.parameters()}
    for p, _ in flags.values():
        p.requires_grad_(False)

    replaced, adapters = [], []
    for name, module, parts in sites:
        layer = ranks[layers[name]]
        experts = groups[group_of(layer, depth, len(groups))]
        if not experts:
            continue
        weight, bias = _frozen(module)
        step = len(weight) // len(parts)
        pieces = []
        for i, target in enumerate(parts):
            w, b = weight[i * step : (i + 1) * step], None if bias is None else bias[i * step : (i + 1) * step]
            if target is None:
                pieces.append((w, b))
                continue
            generator.manual_seed(seed * 100_003 + len(adapters))  # its own draw for each linear: methods of one shape start alike
            site = Site(name if len(parts) == 1 else f"{name}.{target}", layer, target, experts)
            pieces.append(cls(module, w, b, site, config, context).to(w.device))
            adapters.append(pieces[-1])
        new = pieces[0] if len(parts) == 1 else SplitLinear(module, pieces)
        parent, _, child = name.rpartition(".")
        owner = model.get_submodule(parent)
        new.train(module.training)
        setattr(owner, child, new)
        replaced.append((owner, child, module, new))
    generator.manual_seed(seed)
    device = adapters[0].weight.device
    if device.type != "cpu":
        context.generator = torch.Generator(device).manual_seed(seed)
    return Handle(model, config, adapters, replaced, list(flags.values()), context)


def _find(model: nn.Module, targets: tuple[str, ...]) -> list[tuple[str, nn.Module, list[str | None]]]:
    """(name, linear, parts) of every linear to adapt; parts has one target name, or one a part of a fused linear, None: leave."""
    found, met, linears = [], set(), []
    for name, module in model.named_modules():
        if _frozen(module) is None or any(isinstance(model.get_submodule(name.rpartition(".")[0]), t) for t in (Adapter, SplitLinear)):
            continue
        last = name.rpartition(".")[2]
        linears.append(last)
        if last in FUSED and last not in targets:
            parts = [t if t in targets else None for t in FUSED[last]]
        else:
            parts = [_wanted(name, targets)]
        met.update(filter(None, parts))
        if any(parts):
            found.append((name, module, parts))
    for target in targets:
        if target not in met:
            raise ConfigError(f"targets: '{target}' is no linear of this model; its linears end in {', '.join(dict.fromkeys(linears))}.")
    return found
