"""MALoRA: the equation as a loop, the start from the singular value decomposition, sizes and the printed share of LLaMA2-7B."""

import math

import pytest
import torch
from transformers import BertConfig, BertModel

from mosld.adapters import attach
from mosld.config import AdapterConfig
from mosld.counting import SHAPES, count
from mosld.registry import METHODS, LinearShape
from tests.adapters.models import bert
from tests.adapters.same import assert_same, one_linear
from tests.adapters.slow import slow_gate


def test_forward_and_gradients_equal_the_equation():
    adapter, handle, x = one_linear("malora", rank=4)
    assert adapter.A.shape == (8, 16) and adapter.P.shape == (4, 6, 8) and adapter.B.shape == (16, 4, 6)  # d = .5 * 4 * 4, rb = 4 + .5 * 4

    def slow(x):
        rows = []
        for token in x.view(-1, 16):
            y = adapter.weight @ token + adapter.bias
            for t, g in enumerate(slow_gate(token, adapter.router, 2)):
                y = y + 16 / 4 * g * (adapter.B[:, t] @ (adapter.P[t] @ (adapter.A @ token)))
            rows.append(y)
        return torch.stack(rows).view(3, 5, 16)

    assert_same(adapter, slow, handle, x)


@pytest.mark.parametrize("beta", [1.0, 3.0])
def test_start_is_the_singular_value_decomposition_of_lora_like_matrices(beta):
    handle = attach(bert(1).double(), AdapterConfig(method="malora", rank=4, targets="q", options={"beta": beta}), seed=5)
    adapter = handle.adapters[0]
    g = torch.Generator().manual_seed(5 * 100_003)
    drawn = torch.empty(4, 8, 16).uniform_(-1 / 4, 1 / 4, generator=g).double()
    torch.testing.assert_close(adapter.P[0] @ adapter.A, drawn[0, :6])  # U S V is K
    torch.testing.assert_close(adapter.A @ adapter.A.t(), beta**2 * torch.eye(8, dtype=torch.float64))  # V has orthonormal rows
    for t in range(4):
        u, s, v = torch.linalg.svd(drawn[t], full_matrices=False)
        ours, theirs = adapter.P[t] * beta, (u * s)[:6]
        torch.testing.assert_close(ours.abs(), theirs.abs())  # a singular vector's sign is free
    _, _, v = torch.linalg.svd(drawn[0], full_matrices=False)
    torch.testing.assert_close(adapter.A.abs(), beta * v.abs())
    # each expert's projection of x is of the size that LoRA's A gives: uniform entries of variance 1 / (3 d_in)
    assert (adapter.P @ adapter.A).square().mean().sqrt().item() == pytest.approx(1 / math.sqrt(3 * 16), rel=0.15)


def test_sizes_never_exceed_what_there_is_to_span():
    two = attach(bert(1), AdapterConfig(method="malora", rank=4, experts=2, targets="q")).adapters[0]
    assert two.A.shape == (4, 16) and two.P.shape == (2, 4, 4)  # d = 4 rows, so rb = 6 comes down to 4
    many = attach(bert(1), AdapterConfig(method="malora", rank=8, experts=8, targets="q")).adapters[0]
    assert many.A.shape == (16, 16) and many.P.shape == (8, 12, 16)  # d = 32 comes down to d_in
    assert torch.isfinite(many.A).all() and torch.isfinite(many.P).all()
    wide = LinearShape(64, 32, 8, 4, options={"lam": 0.75})
    assert METHODS["malora"].count(wide) == 24 * 64 + 4 * 10 * (24 + 32) + 4 * 64  # d = .75 * 32, rb = 8 + 2


def test_share_of_llama2_7b_as_printed():
    """MALoRA 2.3 %, MoLoRA 8x8 2.2 %, LoRA of rank 64 2.1 % (arXiv 2410.22782): trainable over all weights, the adapters' own counted."""
    shape = SHAPES["llama2-7b"]

    def share(**config):
        n = count(AdapterConfig(targets="q,k,v,up,down,gate", **config), shape)
        return n, f"{n / (n + shape.weights):.1%}"

    assert share(method="malora", rank=8, experts=8) == (158_859_264, "2.3%")
    assert share(method="molora", rank=8, experts=8) == (151_191_552, "2.2%")
    assert share(method="lora", rank=64) == (143_130_624, "2.1%")


def test_the_start_takes_nothing_larger_than_the_gram_matrix_apart(monkeypatch):
    """d lies far below the width of a BERT's linears: singular vectors of K itself would cost d_in / d times as much."""
    sizes, real = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda t: sizes.append(t.shape[-2:]) or real(t))
    for name in ("svd", "eig", "qr"):
        monkeypatch.delattr(torch.linalg, name)
    monkeypatch.delattr(torch, "svd")
    model = BertModel(BertConfig(vocab_size=50, num_hidden_layers=1))  # d 768, ffn 3072: BERT-base
    handle = attach(model, AdapterConfig(method="malora", rank=8, experts=8, targets="q,k,v,o,up,down"))
    assert sizes == [(len(a.A), len(a.A)) for a in handle.adapters] and all(len(a.A) < 64 + 1 for a in handle.adapters)
