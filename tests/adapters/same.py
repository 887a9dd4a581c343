"""An adapter against a slow function of the same tensors: outputs, and the gradients of the input and of every trainable tensor."""

import torch

from mosld.adapters import attach
from mosld.config import AdapterConfig
from tests.adapters.models import bert


def one_linear(method, tasks=1, **config):
    """An adapter of `method` on a linear of 16 to 16 in float64, away from its start; its handle; an input [3, 5, 16]."""
    handle = attach(bert(1).double(), AdapterConfig(**{"method": method, "rank": 3, "targets": "q", **config}), tasks=tasks)
    move(handle)
    x = torch.randn(3, 5, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    return handle.adapters[0], handle, x.requires_grad_()


def move(handle, seed=1, size=0.3):
    """Move every trainable tensor away from its start; scalars a little, since MoR1E's stand behind a factor of 100."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in handle.parameters():
            p.add_(torch.randn(p.shape, generator=g, dtype=p.dtype) * (size if p.numel() > 1 else 0.005))


def own(handle):
    return dict(handle.named_parameters())


def assert_same(fast, slow, handle, x):
    """`fast` and `slow` are functions of x [...]; a tensor that one of them does not use must have a zero gradient in the other."""
    x = x.requires_grad_()
    leaves = {"x": x, **own(handle)}
    y, z = fast(x), slow(x)
    torch.testing.assert_close(y, z)
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    first = torch.autograd.grad((y * probe).sum(), leaves.values())
    second = torch.autograd.grad((z * probe).sum(), leaves.values())
    for name, f, s in zip(leaves, first, second, strict=True):
        torch.testing.assert_close(f, s, msg=lambda m, name=name: f"{name}: {m}")
        assert f.abs().max() > 0, name
