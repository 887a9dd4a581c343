"""Which linears of a model get an adapter, and what each is: its layer, its place in a fused linear, its number of experts.

- `TARGETS`: the short names q, k, v, o, up, down, gate and what the families of transformers call them.
- `find`: every linear that a configuration's targets name. `plan`: the same with layers and experts, as `Place`s. Nothing is changed.

A layer is the index in the list of blocks that a linear lies in; encoder, decoder and towers are stacks of their own, each with its own
groups of layers.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from mosld.adapters.fused import FUSED, HOLDS, Rows, Split
from mosld.config import AdapterConfig, ConfigError
from mosld.counting import group_of

TARGETS: dict[str, tuple[str, ...]] = {
    "q": ("q_proj", "query", "q_lin", "q", "query_proj", "q_attn", "q_head", "Wq"),
    "k": ("k_proj", "key", "k_lin", "k", "key_proj", "k_head", "Wk"),
    "v": ("v_proj", "value", "v_lin", "v", "value_proj", "v_head", "Wv"),
    "o": (
        *("o_proj", "attention.output.dense", "out_lin", "attn.c_proj", "SelfAttention.o", "EncDecAttention.o", "self_attn.out_proj"),
        *("attention.dense", "attn.out_proj", "attention.out_proj", "self_attention.dense", "attn.Wo", "attention.Wo"),
    ),
    "gate": ("gate_proj", "wi_0"),
    "up": ("up_proj", "intermediate.dense", "wi", "wi_1", "c_fc", "fc1", "lin1", "dense_h_to_4h", "fc_in"),
    "down": ("down_proj", "output.dense", "wo", "mlp.c_proj", "fc2", "lin2", "dense_4h_to_h", "fc_out", "mlp.Wo"),
}
ALL, REGEX = "all-linear", "re:"


@dataclass(frozen=True)
class Site:
    """Where an adapter sits: the linear's name, its layer from the bottom (stacks one after the other), its short target name, its experts."""

    name: str
    layer: int
    target: str
    experts: int
    stack: str = ""  # the list of blocks it is in, by name
    block: int = 0  # number of the feed-forward block, over all stacks, for methods whose experts are whole blocks
    causal: bool = False  # whether the tokens of its stack see only what stands before them


@dataclass(frozen=True)
class Part:
    """A linear, or one part of a fused linear (then with its rows). `site` None: this part stays frozen."""

    target: str
    rows: Rows | None = None
    wanted: bool = True
    site: Site | None = None


@dataclass(frozen=True)
class Place:
    """A linear of the model and what is adapted of it. `key` is the target that it answered to."""

    name: str
    module: nn.Module
    parts: tuple[Part, ...]
    keys: tuple[str, ...]


def linear_like(module: nn.Module) -> bool:
    """Whether a module maps the last dimension of its input: nn.Linear, transformers' Conv1D, and the quantised kinds of both."""
    if isinstance(module, (nn.Linear, Conv1D)):
        return True
    sizes = (getattr(module, "in_features", None), getattr(module, "out_features", None))
    return all(isinstance(n, int) for n in sizes) and not isinstance(module, (nn.Bilinear, nn.modules.lazy.LazyModuleMixin)) and not _children(module)


def _children(module: nn.Module) -> bool:
    return any(n != "parametrizations" for n, _ in module.named_children())


def sizes(module: nn.Module) -> tuple[int, int]:
    """(d_in, d_out) of a linear."""
    return tuple(module.weight.shape) if isinstance(module, Conv1D) else (module.in_features, module.out_features)


def short(name: str) -> str | None:
    """The short target name of a module, by the longest ending that fits."""
    fits = [(len(end), target) for target, ends in TARGETS.items() for end in ends if f".{name}".endswith(f".{end}")]
    return max(fits)[1] if fits else None


def answers(name: str, wanted: tuple[str, ...], deep: bool) -> str | None:
    """Which of the names in `wanted` a linear answers to. `deep`: it lies in a layer, so that it counts for all-linear."""
    own = short(name)
    for target in wanted:
        if target.startswith(REGEX):
            hit = re.fullmatch(target[len(REGEX) :], name) is not None
        elif target == ALL:
            hit = deep
        elif target in TARGETS:
            hit = own == target
        else:
            hit = name == target or name.endswith(f".{target}")
        if hit:
            return target
    return None


def _blocks(model: nn.Module) -> dict[str, list[str]]:
    """Lists of blocks by name, each with the names of its elements: of one class, no experts, no linears, no whole models."""
    from transformers import PreTrainedModel

    found, mixed = {}, {}
    for name, module in model.named_modules():
        if not isinstance(module, (nn.ModuleList, nn.Sequential)) or "expert" in name.rpartition(".")[2] or not len(module):
            continue
        kinds = {type(m) for m in module}
        if any(linear_like(m) or isinstance(m, PreTrainedModel) for m in module):
            continue
        elements = [f"{name}.{i}".lstrip(".") for i in range(len(module))]
        if len(kinds) == 1:
            found[name] = elements
        elif isinstance(module, nn.ModuleList):
            mixed[name] = elements
    # a list of several classes counts where no list of one class is around or in it (hybrids of attention and state-space layers)
    for name, elements in mixed.items():
        if not any(f"{other}.".startswith(f"{name}.") or f"{name}.".startswith(f"{other}.") for other in found):
            found[name] = elements
    return found


def layers(model: nn.Module, names: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """Every linear's stack and layer, both by name; ("", "") outside of all lists of blocks. Stages of blocks make one stack.

    Args:
        names: of modules that stand where linears stood.
    """
    lists, own = _blocks(model), set(names)
    names = [n for n, m in model.named_modules() if n in own or linear_like(m)]
    inside = Counter()  # linears below a module
    for n in names:
        for i, c in enumerate(n):
            if c == ".":
                inside[n[:i]] += 1
    out = {}
    for n in names:
        stack = layer = ""
        for name, elements in lists.items():  # from the outside in
            element = next((e for e in elements if n.startswith(f"{e}.")), None)
            if element is None:
                continue
            if not layer:
                stack, layer = name, element
            elif name.startswith(f"{layer}.") or name == layer:  # a list inside a layer: stages of blocks, or a part of one block?
                within = sum(inside[e] for e in elements)
                if inside[layer] - within <= within // 4:
                    layer = element
        out[n] = (stack, layer)
    return out


def causal(model: nn.Module, name: str = "") -> str | None:
    """What makes the model, or the module of that name in it, causal, by its class: a decoder's attention, or a whole model that generates."""
    for module in model.get_submodule(name).modules():
        if getattr(module, "is_causal", False) is True or (getattr(module, "is_decoder", False) is True and "Attention" in type(module).__name__):
            return type(module).__name__
    generates = hasattr(model, "can_generate") and model.can_generate() and not getattr(model.config, "is_encoder_decoder", False)
    return type(model).__name__ if generates else None


def bypassed(owner: nn.Module, child: str) -> bool:
    """Whether the module around a linear reads its weight instead of calling it."""
    return isinstance(owner, nn.MultiheadAttention)


def _split(owner: nn.Module, last: str, module: nn.Module) -> Split | None:
    rule = FUSED.get(last, {}).get(type(owner).__name__)
    return rule(owner, *sizes(module)) if rule else None


def find(model: nn.Module, config: AdapterConfig, skip: Callable[[str, nn.Module], bool] = lambda n, m: False) -> list[Place]:
    """Every linear that the targets name, in the model's order. Raises ConfigError: a target that nothing answers to.

    Args:
        skip: linears that are not to be looked at, by name and module.
    """
    where, modules = layers(model), dict(model.named_modules())
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    deep = any(layer for _, layer in where.values())
    found, met, unknown = [], Counter(), []
    for name in where:
        module = modules[name]
        parent, _, last = name.rpartition(".")
        owner = modules[parent]
        if skip(name, module):
            continue
        body = bool(where[name][1]) or (not deep and module is not output)
        whole = answers(name, config.targets, body and not bypassed(owner, last))
        if answers(name, config.exclude, body):
            continue
        parts: tuple[Part, ...] = ()
        keys: tuple[str, ...] = ()
        if last in FUSED and (whole is None or whole in TARGETS):
            wanted = [t for t in config.targets if t in HOLDS[last]]
            split = _split(owner, last, module)
            if not wanted:
                continue
            if split is None:
                unknown.append(f"{name} ({type(owner).__name__})")
                continue
            groups, pieces = split
            if groups * sum(n for _, n in pieces) != sizes(module)[1]:
                unknown.append(f"{name} ({type(owner).__name__})")
                continue
            starts = [sum(n for _, n in pieces[:i]) for i in range(len(pieces))]
            parts = tuple(Part(t, Rows(groups, s, n), t in wanted) for (t, n), s in zip(pieces, starts, strict=True))
            keys = tuple(p.target for p in parts if p.wanted)
        elif whole is not None:
            if bypassed(owner, last):
                raise ConfigError(
                    f"targets: '{whole}' is {name}, whose weight {type(owner).__name__} reads without calling it, so an adapter there would "
                    "never run; leave it out of the targets, or exclude it."
                )
            parts, keys = (Part(short(name) or last),), (whole,)
        if keys:
            met.update(keys)
            found.append(Place(name, module, parts, keys))
    for target in config.targets:
        if not met[target]:
            raise ConfigError(_unmet(model, target, met, list(where), unknown))
    return found


def _unmet(model: nn.Module, target: str, met: Counter, names: list[str], unknown: list[str]) -> str:
    """The sentence for a target that nothing answers to: what was met, what could be meant."""
    counted = f"; {', '.join(f'{t} matched {n}' for t, n in met.items() if n)}" if met else ""
    ends = ", ".join(dict.fromkeys(n.rpartition(".")[2] for n in names))
    fused = [u for u in unknown if target in HOLDS[u.split(" ")[0].rpartition(".")[2]]]
    if fused:
        end = fused[0].split(" ")[0].rpartition(".")[2]
        return f"targets: '{target}' is inside {fused[0]}, which this library cannot take apart; give '{end}' to adapt it whole{counted}."
    stacked = next((n for n, p in model.named_parameters() if p.dim() == 3 and "expert" in n), None)
    if stacked and target in ("gate", "up", "down"):
        return (
            f"targets: '{target}' is no linear of this model; its experts are one 3-D tensor each ({stacked}), which is no linear; "
            f"adapt linears instead, such as q,k,v,o; its linears end in {ends}{counted}."
        )
    have = f"its linears end in {ends}" if ends else "it has no linears that an adapter can be put on"
    return f"targets: '{target}' is no linear of this model; {have}{counted}."


def plan(model: nn.Module, config: AdapterConfig, skip: Callable[[str, nn.Module], bool] = lambda n, m: False) -> list[Place]:
    """`find` with the layer and the experts of every part filled in; linears of a group of layers with 0 experts are left out.

    Raises ConfigError: a target that nothing answers to, or a rank above the smaller side of a linear.
    """
    found, where, groups = find(model, config, skip), layers(model), config.expert_counts
    order: dict[str, list[str]] = {}  # the layers of each stack, those that have targets
    for place in found:
        stack, layer = where[place.name]
        order.setdefault(stack, [])
        if layer not in order[stack]:
            order[stack].append(layer)
    ids = {layer: i for i, layer in enumerate((s, n) for s, names in order.items() for n in names)}
    ahead = {stack: causal(model, stack) is not None for stack in order}
    out, block, closed = [], 0, False
    for place in found:
        stack, layer = where[place.name]
        experts = groups[group_of(order[stack].index(layer), len(order[stack]), len(groups))]
        parts = []
        for part in place.parts:
            d_in, d_out = sizes(place.module)[0], part.rows.groups * part.rows.size if part.rows else sizes(place.module)[1]
            if part.wanted and config.rank > min(d_in, d_out):
                raise ConfigError(
                    f"rank: {config.rank} is above the smaller side of {place.name} ({d_in} to {d_out}); give at most {min(d_in, d_out)}."
                )
            if part.wanted and experts:
                if closed and part.target in ("up", "gate"):
                    block, closed = block + 1, False
                name = place.name if part.rows is None else f"{place.name}.{part.target}"
                part = dataclasses.replace(part, site=Site(name, ids[stack, layer], part.target, experts, stack, block, ahead[stack]))
                closed = closed or part.target == "down"
            parts.append(part)
        if any(p.site for p in parts):
            out.append(dataclasses.replace(place, parts=tuple(parts)))
    if not out:
        raise ConfigError(f"experts: '{config.experts}' leaves no layer of this model an expert; give a number above 0 for some of its layers.")
    return out
