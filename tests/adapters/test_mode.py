"""MoDE against its equation as a loop over tokens, experts and blocks."""

import pytest
import torch

from mosld.adapters import attach
from mosld.config import AdapterConfig, ConfigError
from tests.adapters.models import bert
from tests.adapters.same import assert_same, move


def slow(a, x):
    """h = W x + b + alpha / r sum_k sum_i softmax(W_k x)_i B_ik A_k x, one product at a time."""
    blocks, E, _ = a.router.shape
    p = len(a.A) // blocks
    out = []
    for token in x.reshape(-1, a.d_in):
        y = a.weight @ token + a.bias
        for k in range(blocks):
            gate = torch.softmax(a.router[k] @ token, 0)
            for i in range(E):
                y = y + a.scale * gate[i] * (a.B[:, i, k * p : (k + 1) * p] @ (a.A[k * p : (k + 1) * p] @ token))
        out.append(y)
    return torch.stack(out).view(*x.shape[:-1], -1)


@pytest.mark.parametrize("block", [1, 2, 4])
def test_equals_the_loop(block):
    handle = attach(bert(1).double(), AdapterConfig(method="mode", rank=4, experts=3, targets="q", options={"block": block}))
    move(handle)
    adapter = handle.adapters[0]
    assert adapter.router.shape == (4 // block, 3, 16) and adapter.A.shape == (4, 16) and adapter.B.shape == (16, 3, 4)
    assert_same(adapter, lambda x: slow(adapter, x), handle, torch.randn(2, 3, 16, dtype=torch.float64))
    gate = adapter.last.gate
    assert gate.shape == (3, 6)
    torch.testing.assert_close(gate.sum(0), torch.ones(6, dtype=torch.float64))


def test_start():
    a = attach(bert(1), AdapterConfig(method="mode", rank=8, targets="up")).adapters[0]
    assert a.A.std().item() == pytest.approx(0.01, rel=0.3) and not a.B.any()  # 128 draws: a standard error of 6 %


def test_a_block_that_does_not_divide_the_rank_is_refused():
    with pytest.raises(ConfigError, match=r"^options: block=3 is not allowed; give a whole number that divides the rank, 8\.$"):
        attach(bert(1), AdapterConfig(method="mode", options={"block": 3}))
