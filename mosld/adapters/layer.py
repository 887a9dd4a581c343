"""AdaptedLinear: what stands in a linear's place. It holds the frozen linear and adapters of it by name, one of which is active.

The weight and bias of an ordinary linear are its own parameters, under the names they always had: a checkpoint of the adapted model is a valid
checkpoint of the base, and whatever moves, casts, shards, unfreezes or replaces the model's weights reaches them. Any other linear (quantised,
with hooks, parametrised) is kept whole as `base`, and is called; its entries in a state dict have the base's names too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from mosld.adapters.adapter import Adapter
from mosld.adapters.call import FLOATS, plain
from mosld.adapters.fused import join
from mosld.adapters.plan import Part
from mosld.config import ConfigError


def adapted(x: Tensor, linear: nn.Module, adapter: Adapter | nn.ModuleDict, parts: tuple[Part, ...]) -> Tensor:
    """The one forward pass of an adapted linear, for the handle's layer and for PEFT's.

    Args:
        adapter: of the whole linear; or of a fused one, adapters by the target name of the `parts` they are for.
    """
    if isinstance(adapter, Adapter):
        return adapter(x, linear)
    out, pieces = None if plain(linear) else linear(x), []
    for part in parts:
        if part.target in adapter:
            pieces.append(adapter[part.target](x, linear, None if out is None else part.rows.take(out, -1)))
        elif out is not None:
            pieces.append(part.rows.take(out, -1))
        else:
            weight = linear.weight if isinstance(linear, nn.Linear) else linear.weight.t()
            pieces.append(nn.functional.linear(x, part.rows.take(weight), None if linear.bias is None else part.rows.take(linear.bias)))
    most = max(p.dim() for p in pieces)  # a method may give several results a token where a frozen part gives one
    leading = next(p.shape[:-1] for p in pieces if p.dim() == most)
    return join([p if p.dim() == most else p.expand(*leading, -1) for p in pieces], parts[0].rows.groups)


def refuse_copies(layer: nn.Module) -> None:
    """Raises ConfigError in a copy of a layer that `nn.DataParallel` made: its adapters and those it answers together with are on another device."""
    if "_is_replica" in layer.__dict__:
        raise ConfigError(
            "DataParallel: its copies of a model share no adapters; start one process a device instead (accelerate launch, torchrun), or show the "
            "process one device alone (CUDA_VISIBLE_DEVICES=0)."
        )


class AdaptedLinear(nn.Module):
    """y = the active adapter's answer; without one, the frozen linear's. `parts` are those of a fused linear, or one."""

    def __init__(self, linear: nn.Module, parts: tuple[Part, ...]):
        super().__init__()
        self.parts, self.active = parts, None  # the name of the adapter that answers
        self._linear = [linear]  # in a list: not registered
        if plain(linear):
            self._parameters = linear._parameters  # one dict for both: what replaces a parameter here replaces it there
        else:
            self.base = linear
            self._register_state_dict_hook(_as_base)
            self._register_load_state_dict_pre_hook(self._from_base)
        self.adapters = nn.ModuleDict()  # by name: an Adapter, or for a fused linear a ModuleDict of them by part
        self.training = linear.training

    @property
    def linear(self) -> nn.Module:
        """The frozen linear itself."""
        return self._linear[0]

    def __getattr__(self, name: str):
        """What it does not have itself is its active adapter's (A, B, router, last, ...), or the frozen linear's (in_features, ...)."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            linear, adapters, active = (self.__dict__.get(n) for n in ("_linear", "_modules", "active"))
            adapter = None if adapters is None or active is None or "adapters" not in adapters else adapters["adapters"][active]
            if isinstance(adapter, Adapter) and name in adapter.__dict__ | adapter._parameters:
                return getattr(adapter, name)
            if linear is not None and not name.startswith("_"):
                return getattr(linear[0], name)
            raise

    def add(self, name: str, adapters: list[Adapter], parts: tuple[Part, ...]) -> None:
        """Put in the adapters of this linear, or of its adapted parts, under one name."""
        if len(parts) > 1:
            self.parts = parts
        self.adapters[name] = adapters[0] if len(parts) == 1 else nn.ModuleDict({a.site.target: a for a in adapters})

    def forward(self, x: Tensor) -> Tensor:
        linear = self._linear[0]
        if self.active is None:
            return linear(x)
        refuse_copies(self)
        return adapted(x, linear, self.adapters[self.active], self.parts)

    def check_mergeable(self, name: str) -> None:
        """Raises ConfigError where no update can be added to the weight."""
        weight = self.linear.weight
        if not isinstance(self.linear, (nn.Linear, Conv1D)) or type(weight) is not nn.Parameter or weight.dtype not in FLOATS:
            raise ConfigError(
                f"merge: {name} is a {type(self.linear).__name__} with a weight of its own kind ({type(weight).__name__}, "
                f"{str(weight.dtype).removeprefix('torch.')}), to which nothing can be added; merge into a base that is not quantised."
            )

    def merge(self, name: str, deltas: dict[int, Tensor]) -> None:
        """Give the frozen linear a new weight: W and the updates [d_out, d_in] of the adapters of this name, by their id, summed in float32 at
        least and rounded once."""
        linear, own = self.linear, self.adapters[name]
        flipped = isinstance(linear, Conv1D)
        weight = linear.weight.t() if flipped else linear.weight
        wide = weight.detach().to(torch.promote_types(weight.dtype, torch.float32), copy=True)
        for adapter in (own,) if isinstance(own, Adapter) else own.values():
            delta = deltas[id(adapter)].detach().to(wide.device, wide.dtype)
            if adapter.part is None:
                wide += delta
            else:
                adapter.part.put(wide, delta)
        new = (wide.t() if flipped else wide).contiguous().to(weight.dtype)
        linear.weight = nn.Parameter(new, requires_grad=linear.weight.requires_grad)

    def _from_base(self, state: dict, prefix: str, *_) -> None:
        for key in [k for k in state if k.startswith(prefix)]:
            rest = key[len(prefix) :]
            if not rest.startswith(("base.", "adapters.")):
                state[f"{prefix}base.{rest}"] = state.pop(key)


def _as_base(_, state: dict, prefix: str, *__) -> None:
    inner = f"{prefix}base."
    for key in [k for k in state if k.startswith(inner)]:
        state[prefix + key[len(inner) :]] = state.pop(key)
