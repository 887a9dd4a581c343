"""What every method's forward and backward pass must not do: loop over experts, ask the device for a number, make something huge."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mosld.adapters import attach
from mosld.config import METHODS, AdapterConfig
from tests.adapters.models import bert
from tests.adapters.same import move

M, L, D = 8, 32, 16  # texts, tokens, width
ROUND_TRIPS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal", "is_nonzero"}


class Watch(TorchDispatchMode):
    """Counts operations; keeps the size of the largest result and the names of operations that wait for the device."""

    def __init__(self):
        super().__init__()
        self.operations, self.largest, self.waits = 0, 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masks = [t for a in args if isinstance(a, (list, tuple)) for t in a if isinstance(t, torch.Tensor) and t.dtype == torch.bool]
        if name in ROUND_TRIPS or (name in ("index", "index_put", "index_put_") and masks):
            self.waits.append(name)
        out = func(*args, **(kwargs or {}))
        self.operations += 1
        for t in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(t, torch.Tensor) and not any(s == 0 for s in t.stride()):  # an expanded view takes no memory
                self.largest = max(self.largest, t.numel())
        return out


def watched(method, experts):
    """One training pass over a block's adapters, probing and extra losses included."""
    targets = "up,down" if method == "mixlora" else "q"
    handle = attach(bert(1), AdapterConfig(method=method, rank=2, experts=experts, targets=targets, balance=0.1), tasks=3)
    move(handle)
    handle.train()
    x = torch.randn(M, L, D, requires_grad=True)
    task, mask = torch.arange(M) % 3, torch.ones(M, L, dtype=torch.long)
    with handle.context(mask=mask, task=task), Watch() as watch:
        y = x
        for adapter in handle.adapters:
            y = adapter(y)
        (y.square().mean() + handle.extra_loss()).backward()
    return watch


@pytest.mark.parametrize("method", METHODS)
def test_no_loop_over_experts_no_round_trip_nothing_of_tokens_times_experts_times_width(method):
    few, many = watched(method, 4), watched(method, 8)
    assert few.waits == many.waits == []
    assert few.operations == many.operations
    d_out = 32 if method == "mixlora" else D
    assert many.largest < M * L * 8 * d_out
