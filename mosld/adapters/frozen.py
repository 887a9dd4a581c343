"""What is frozen while a model has adapters, and by whom: `Registry`, kept by the model itself, and `adapters_of_others`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import nn

from mosld.adapters.adapter import Adapter
from mosld.adapters.layer import AdaptedLinear

if TYPE_CHECKING:
    from mosld.adapters.handle import Handle

REGISTRY = "_mosld"  # the attribute of a model that lists its handles


class Registry:
    """What all handles of a model share: their list, and which parameters were made untrainable, by module and name."""

    def __init__(self):
        self.handles: list[Handle] = []
        self.frozen: list[tuple[nn.Module, str]] = []

    def freeze(self, model: nn.Module) -> None:
        """All weights but those of adapters, ours or peft's, and of what peft trains beside them."""
        spared = {id(p) for m in model.modules() for p in _theirs(m)}
        for module in model.modules():
            for name, p in module._parameters.items():
                if p is not None and p.requires_grad and id(p) not in spared:
                    p.requires_grad_(False)
                    self.frozen.append((module, name))

    def thaw(self) -> None:
        for module, name in self.frozen:
            p = module._parameters.get(name)
            if p is not None:
                p.requires_grad_(True)


def _theirs(module: nn.Module) -> Iterator[nn.Parameter]:
    """Trainable tensors of a module that is an adapter, or that peft keeps beside the model's own."""
    if isinstance(module, Adapter):
        yield from module.parameters()
    elif hasattr(module, "adapter_layer_names") or type(module).__name__ in ("ModulesToSaveWrapper", "TrainableTokensWrapper"):
        own = {id(p) for name in ("base_layer", "original_module") if hasattr(module, name) for p in getattr(module, name).parameters()}
        yield from (p for p in module.parameters() if id(p) not in own)


def adapters_of_others(model: nn.Module, own: tuple[AdaptedLinear, ...] = ()) -> list[str]:
    """Names of the modules that are adapted already, by another handle or by peft."""
    return [n for n, m in model.named_modules() if (isinstance(m, AdaptedLinear) and m not in own) or hasattr(m, "adapter_layer_names")]
