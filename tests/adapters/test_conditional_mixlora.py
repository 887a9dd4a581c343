"""Conditional MixLoRA against its equations as a loop over texts, with each text's own d_out x d_in update."""

import pytest
import torch

from mosld.adapters import attach
from mosld.config import AdapterConfig
from tests.adapters.models import bert
from tests.adapters.same import assert_same, move


def picked(scores, r, order):
    """The r best, in the order of the pool or best first, each with its score over the mean of the r."""
    kept = sorted(range(len(scores)), key=lambda e: -float(scores[e].detach()))[:r]
    kept = sorted(kept) if order == "pool" else kept
    mean = sum(scores[e] for e in kept) / r
    return [(e, scores[e] / mean) for e in kept]


def slow(a, x, mask):
    r, order, out = a.config.rank, a.config.option("order"), []
    for tokens, real in zip(x, mask, strict=True):
        mean = tokens[real.bool()].mean(0)
        rows = picked(torch.softmax(a.router_a @ mean, 0), r, order)
        score = torch.softmax(a.router_b @ mean, 0)
        for i, (e, _) in enumerate(rows):
            score = score + torch.softmax(a.A[e] @ a.conditional[i], 0)
        columns = picked(score, r, order)
        delta = sum(u * v * torch.outer(a.B[:, q], a.A[p]) for (p, u), (q, v) in zip(rows, columns, strict=True))
        out.append(tokens @ (a.weight + a.scale * delta).t() + a.bias)
    return torch.stack(out)


@pytest.mark.parametrize("order", ["pool", "score"])
@pytest.mark.parametrize("rank,experts", [(2, 3), (3, 1), (4, 2)])
def test_equals_the_loop(rank, experts, order):
    config = AdapterConfig(method="conditional-mixlora", rank=rank, experts=experts, targets="q", options={"order": order})
    handle = attach(bert(1).double(), config)
    move(handle)
    a = handle.adapters[0]
    x = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 1]])

    def fast(x):
        with handle.context(mask=mask):
            return a(x)

    assert_same(fast, lambda x: slow(a, x, mask), handle, x)
    gate = a.last.gate
    assert gate.shape == (rank * experts, 12)
    torch.testing.assert_close(gate.sum(0), torch.ones(12, dtype=torch.float64))
    assert torch.equal(gate[:, 0], gate[:, 3])  # one choice a text


def test_an_even_router_weighs_every_factor_by_one():
    handle = attach(bert(1).double(), AdapterConfig(method="conditional-mixlora", rank=2, experts=2, targets="q", alpha=8))
    move(handle)
    a = handle.adapters[0]
    with torch.no_grad():
        for router in (a.router_a, a.router_b, a.conditional):
            router.zero_()
    x = torch.randn(2, 3, 16, dtype=torch.float64)
    gate = (a(x), a.last.gate)[1][:, 0]
    e, f = gate.nonzero()[:, 0].tolist()  # a tie: the same two rows and columns are picked for every text
    delta = torch.outer(a.B[:, e], a.A[e]) + torch.outer(a.B[:, f], a.A[f])
    torch.testing.assert_close(a(x), x @ (a.weight + 4 * delta).t() + a.bias)


def test_without_a_sequence_every_row_is_a_text():
    handle = attach(bert(1).double(), AdapterConfig(method="conditional-mixlora", rank=2, experts=2, targets="q"))
    move(handle)
    a, x = handle.adapters[0], torch.randn(5, 16, dtype=torch.float64)
    torch.testing.assert_close(a(x), a(x[:, None])[:, 0])


def test_start():
    a = attach(bert(1), AdapterConfig(method="conditional-mixlora", rank=4, experts=4, targets="q")).adapters[0]
    assert a.A.shape == (16, 16) and a.A.std().item() == pytest.approx(0.25, rel=0.2) and not a.B.any()  # 1 / sqrt(16)
    assert a.scale == 16 / 4
