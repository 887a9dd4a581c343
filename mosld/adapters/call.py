"""One call of one adapter: the linear under it, the shape of the input, which of its tokens are real; and what is kept of calls.

- `plain`: whether a linear's weight may be read instead of calling it.
- `Call`, `Answer`: what goes into the kernel for one call, and what comes out. `Routing`: the router's last decision, kept for whoever asks.
- `Memory`: what was known of the texts of a call that gradient checkpointing may make again.

Shapes: M texts, L tokens a text, N = M L tokens, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def plain(module: nn.Module) -> bool:
    """Whether a linear is an ordinary one, y = W x + b, whose weight the kernel may read instead of calling it: no subclass (quantised
    linears are), no hook, no parametrisation, no replaced forward, no special kind of tensor."""
    if type(module) is not nn.Linear and type(module) is not Conv1D:
        return False
    if module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks:
        return False
    return "forward" not in module.__dict__ and type(module.weight) in (nn.Parameter, Tensor) and module.weight.dtype in FLOATS


@dataclass(frozen=True)
class Routing:
    """The router's last decision at one linear: probabilities and gate [E, N], token mask [N] or None, input shape."""

    probabilities: Tensor
    gate: Tensor
    mask: Tensor | None
    shape: torch.Size


@dataclass
class Call:
    """One call of one adapter. `weight` [d_out, d_in] and `bias` are the frozen linear's where it is plain, else None."""

    base: nn.Module
    x: Tensor  # the input as it came, [M, L, d_in] or any other shape that ends in d_in
    mask: Tensor | None  # [N], 1 at real tokens; None: all count
    weight: Tensor | None
    bias: Tensor | None
    out: Tensor | None = None  # the frozen linear's answer to x, where it was asked already
    autocast: torch.dtype | None = None
    again: bool = False  # made again by gradient checkpointing
    loss: Tensor | None = None  # the balance loss, where the kernel found it
    kept: Tensor | None = None  # what a method hands from its forward pass to its extra loss
    z: Tensor | None = None  # the router's z-loss, coefficient included

    @property
    def shape(self) -> torch.Size:
        return self.x.shape

    def frozen(self, x: Tensor) -> Tensor:
        """The frozen linear of tokens [N, d_in], the call's own or others: [N, d_out]."""
        if self.weight is not None:
            return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))
        own = x.numel() == self.x.numel()
        out = self.out
        if out is None or not own:
            x = self.x if own else x
            if self.autocast is None:
                out = self.base(x)
            else:
                with torch.autocast(x.device.type, self.autocast):
                    out = self.base(x)
        return out.reshape(-1, out.shape[-1])


class Answer(NamedTuple):
    """What the kernel found for one call."""

    y: Tensor  # [..., d_out]
    p: Tensor | None  # [E, N]
    gate: Tensor | None  # [E, N]
    loss: Tensor | None


@dataclass
class Memory:
    """What was known of the texts of one call."""

    shape: torch.Size
    sample: Tensor  # some entries of the input, to tell calls of one shape apart
    mask: Tensor | None
    texts: tuple
    used: bool = False
