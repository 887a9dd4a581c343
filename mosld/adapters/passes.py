"""Passes: where a forward pass of an adapted model begins, and which of its tokens are real.

`Passes(model, names, owner)` hooks the modules above the layers that hold adapters. The outermost of them that is called begins a
pass: what the last pass left in the adapters is forgotten, also in those that this pass will not reach (dropped layers, another tower, experts
without tokens). Every one that is called with a mask of padding [M, L] under the name `attention_mask`, by keyword or by position, sets the mask
for what lies in it, so that encoder, decoder and towers each have their own. An encoder-decoder as a whole has none: the `attention_mask` it is
given is its encoder's. A mask [M, 1, L, L] of which token sees which says that those are real which see themselves; it is looked at where no
mask is known, or one of another length (text before pictures are put beside it). In cross-attention the keys and values read the other side's
texts, and their mask is that side's.

Gradient checkpointing computes layers again outside of any pass: each adapter then remembers what it knew (`Adapter.remember`).
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from mosld.adapters.adapter import Adapter
from mosld.adapters.call import FLOATS
from mosld.adapters.context import Context
from mosld.adapters.plan import layers, linear_like, sizes
from mosld.config import ConfigError

SOURCES = ("encoder_hidden_states", "key_value_states")


class Owner(Protocol):
    """Whose adapters they are."""

    adapters: list[Adapter]
    context_now: Context


class Passes:
    """The hooks of an owner of adapters (a handle, or PEFT's model) on its model.

    Args:
        names: of the adapted linears. owner: its attribute `adapters` lists the active adapters, `context_now` is their context.
    """

    def __init__(self, model: nn.Module, names: Iterable[str], owner: Owner):
        self.model, self.owner = model, owner
        self.explicit = False  # a mask was given to the handle: hooks leave it alone
        self.checked = False
        self.asked = False  # whether quantised linears were found to let gradients through since the last pass without gradients
        self.quantised: list[tuple[str, nn.Module]] | None = None
        self._hooks: list = []
        where, above, around = layers(model, names), {"": None}, {}
        for name in names:
            layer = where[name][1] or name
            above.update((layer[:i], None) for i, c in enumerate(layer) if c == ".")
            parent = name.rpartition(".")[0]
            if parent != layer:
                around[parent] = None
        owner.context_now.time_first = any(type(m).__name__ == "XLNetModel" for m in model.modules())
        for name in above:
            module = model.get_submodule(name)
            if type(module) in (nn.ModuleList, nn.ModuleDict):
                continue
            takes = _parameters(module)
            whole = "decoder_input_ids" in takes or "decoder_attention_mask" in takes
            hook = _Entry(self, top=name == "", mask=None if whole else takes.get("attention_mask"), takes=takes)
            self._hooks.append(module.register_forward_pre_hook(hook.enter, with_kwargs=True))
            self._hooks.append(module.register_forward_hook(hook.leave, always_call=True))
        for name in around:
            module = model.get_submodule(name)
            takes = _parameters(module)
            source = next((s for s in SOURCES if s in takes), None)
            if source:
                hook = _Crossing(self, source, takes[source])
                self._hooks.append(module.register_forward_pre_hook(hook.enter, with_kwargs=True))

    def remove(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def begin(self) -> None:
        """A pass begins: nothing of the last one is left."""
        context = self.owner.context_now
        context.block.clear()
        context.grad = torch.is_grad_enabled()
        context.source = None
        if not self.explicit:
            context.mask = context.source_mask = None
        for adapter in self.owner.adapters:
            adapter.clear()
        if not torch.compiler.is_compiling():
            self.ask()

    def ask(self) -> None:
        """Before a training pass, the first or one after an evaluation: raises ConfigError where a quantised linear lets no gradient through."""
        if not torch.is_grad_enabled():
            self.asked = False
        elif not self.asked and any(a.training for a in self.owner.adapters):
            if self.quantised is None:
                self.quantised = [(n, m) for n, m in self.model.named_modules() if special(m)]
            closed = next((n for n, m in self.quantised if blocks_gradients(m)), None)
            if closed:
                name = closed.removesuffix(".base").removesuffix(".base_layer")
                raise ConfigError(
                    f"base: {name} is in a form for evaluation alone and gives no gradient to its input, so adapters below it would not learn; "
                    "quantise weights and not activations, and load a base anew that bitsandbytes packed for evaluation on a CPU."
                )
            self.asked = True

    def check(self) -> None:
        """After the first training pass of the whole model: name the adapters that took no part in it."""
        adapters = self.owner.adapters
        if self.checked or not adapters or not torch.is_grad_enabled() or not any(a.training for a in adapters):
            return
        self.checked = True
        idle = [a.site.name for a in adapters if not a.ran]
        if idle:
            warnings.warn(
                f"adapters: {len(idle)} of {len(adapters)} took no part in the first training pass, {idle[0]} first; they learn only in passes that "
                "call their linear (a module may read its weight instead, drop its layer at random, or not be used at all).",
                stacklevel=2,
            )


def _parameters(module: nn.Module) -> dict[str, int]:
    """Names of the arguments of a module's forward, with their places."""
    return {n: i for i, n in enumerate(inspect.signature(module.forward).parameters)}


def special(module: nn.Module) -> bool:
    """Whether a module is a linear whose weight is of a kind of its own, as quantised ones are."""
    weight = getattr(module, "weight", None)
    return linear_like(module) and isinstance(weight, Tensor) and type(weight) not in (nn.Parameter, Tensor) and not weight.is_meta


def blocks_gradients(linear: nn.Module) -> bool:
    """Whether a linear passes no gradient on to its input: it is asked with one token of zeros."""
    if not getattr(linear, "compute_type_is_set", True):  # bitsandbytes: the first input decides on its precision
        return False
    dtype = linear.weight.dtype if linear.weight.dtype in FLOATS else torch.float32
    x = torch.zeros(1, sizes(linear)[0], dtype=dtype, device=linear.weight.device, requires_grad=True)
    with torch.autocast(x.device.type, enabled=False):
        try:
            with torch.no_grad():
                linear(x)
        except RuntimeError:  # it wants an input of another kind
            return False
        try:
            y = linear(x)
            return not y.requires_grad or torch.autograd.grad(y.sum(), x, allow_unused=True)[0] is None
        except RuntimeError:
            return True


class _Entry:
    """Hooks of a module above the layers."""

    def __init__(self, passes: Passes, top: bool, mask: int | None, takes: dict[str, int]):
        self.passes, self.top, self.mask, self.source_mask = passes, top, mask, takes.get("encoder_attention_mask")
        self.ids = takes.get("input_ids")
        self.other = "pixel_values" in takes and "attention_mask" not in takes  # a tower of pictures: the mask around it is of texts
        self.before: list = []

    def enter(self, _, args, kwargs) -> None:
        context = self.passes.owner.context_now
        if context.depth == 0:
            self.passes.begin()
        context.depth += 1
        self.before.append((context.mask, context.source_mask, context.ids))
        ids = _argument(args, kwargs, "input_ids", self.ids)
        context.ids = context.ids if ids is None else ids
        if context.depth == 1:
            caches = [v for v in (*args, *kwargs.values()) if hasattr(v, "get_seq_length")]  # under whatever name
            context.past = int(caches[0].get_seq_length()) if caches else 0
        if self.passes.explicit:
            return
        mask = _argument(args, kwargs, "attention_mask", self.mask)
        if self.other:
            context.mask = None
        if mask is not None and (mask.dim() == 2 or context.mask is None or mask.shape[-1] != context.mask.shape[-1]):
            context.mask = token_mask(mask)
        source = _argument(args, kwargs, "encoder_attention_mask", self.source_mask)
        if source is not None and source.dim() == 2:
            context.source_mask = source

    def leave(self, *_) -> None:
        context = self.passes.owner.context_now
        context.depth -= 1
        mask, source_mask, context.ids = self.before.pop()
        if not self.passes.explicit:
            context.mask, context.source_mask = mask, source_mask
        if context.depth == 0:
            context.source = None
        if self.top and not self.passes.checked and not torch.compiler.is_compiling():
            self.passes.check()


class _Crossing:
    """Hook of an attention module that may read keys and values from elsewhere."""

    def __init__(self, passes: Passes, name: str, place: int):
        self.passes, self.name, self.place = passes, name, place

    def enter(self, _, args, kwargs) -> None:
        self.passes.owner.context_now.source = _argument(args, kwargs, self.name, self.place)


def _argument(args: tuple, kwargs: dict, name: str, place: int | None) -> Tensor | None:
    if place is None:
        return None
    value = kwargs.get(name, args[place] if place < len(args) else None)
    return value if isinstance(value, Tensor) else None


def token_mask(mask: Tensor) -> Tensor | None:
    """[M, L], 1 at real tokens, of a mask [M, L], or of [M, heads or 1, queries, keys]: the tokens that see themselves."""
    if mask.dim() == 2:
        if not mask.is_floating_point():
            return mask
        low, high = mask.amin() if mask.numel() else mask.sum(), mask.amax() if mask.numel() else mask.sum()
        return ((mask > 0) | ((low < 0) & (mask > -1)) | ((low == 0) & (high == 0))).to(torch.long)  # what is added to scores is 0 at real tokens
    if mask.dim() != 4 or mask.shape[-1] < mask.shape[-2]:
        return None
    own = mask[:, 0, 0] if mask.shape[-2] == 1 else mask[:, 0].diagonal(mask.shape[-1] - mask.shape[-2], -2, -1)
    return (own > -1 if own.is_floating_point() else own != 0).to(torch.long)
