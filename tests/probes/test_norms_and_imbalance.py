"""Norms against the matrices themselves; the four definitions of imbalance by hand and against autograd on a trained step."""

import math

import pytest
import torch

from mosld.adapters import attach
from mosld.config import AdapterConfig
from mosld.probes import imbalance, norms
from mosld.training.probe import before_step, measure
from tests.adapters.models import bert, run


def test_norms_by_hand():
    assert norms.frobenius(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])).tolist() == [5.0]
    assert norms.rms(torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])).tolist() == [2.5]  # sqrt(25 / 4)


@pytest.mark.parametrize("ups,downs", [(4, 1), (1, 4), (4, 4)])
def test_product_norm_equals_the_product_itself(ups, downs):
    up, down = torch.randn(ups, 7, 3, dtype=torch.float64), torch.randn(downs, 3, 5, dtype=torch.float64)
    expected = [float((up[e % ups] @ down[e % downs]).norm()) for e in range(4)]
    assert norms.product_norm(up, down).tolist() == pytest.approx(expected)


def test_log_ratio_and_its_gaps():
    assert imbalance.log_ratio(torch.tensor([4.0]), torch.tensor([1.0, 3.0])) == 1.0
    assert imbalance.log_ratio(torch.tensor([1.0]), torch.tensor([0.0, 0.0])) is None
    assert imbalance.log_ratio(torch.tensor([0.0]), torch.tensor([1.0])) is None
    assert imbalance.log_ratio(torch.tensor([2.0]), torch.tensor([float("nan"), 1.0])) == 1.0
    assert imbalance.log_ratio(torch.tensor([2.0]), torch.tensor([float("nan")])) is None


def test_update_counts_follow_experts_over_top_k_and_thin_with_dropout():
    even = torch.full((4,), 0.5)  # E = 4, K = 2, even load
    assert imbalance.log_ratio(*imbalance.update_counts(even, True, False)) == pytest.approx(math.log2(4 / 2))
    assert imbalance.log_ratio(*imbalance.update_counts(even, True, False, kept_a=0.9)) == pytest.approx(math.log2(0.9 * 2))
    assert imbalance.log_ratio(*imbalance.update_counts(torch.ones(4), True, False)) == 0  # E = K
    assert imbalance.log_ratio(*imbalance.update_counts(even, False, False)) == 0  # nothing shared


def _one_step(share="A", optimiser=torch.optim.SGD):
    torch.manual_seed(0)
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=2, experts=3, dropout=0, share=share, targets="q"))
    adapter = handle.adapters[0]
    with torch.no_grad():
        adapter.B.normal_()
        adapter.router.normal_()
    step = optimiser(handle.parameters(), lr=0.5)
    ids_mask = torch.ones(3, 8)
    ids_mask[1, 5:] = 0
    before = before_step(handle)
    handle.train()
    with handle.context(ids_mask, torch.tensor([0, 1, 1]), probing=True):
        (run(model) * torch.randn(16)).sum().backward()  # not a square: a layer norm's output has a fixed one
    step.step()
    return adapter, before, measure(handle, before, torch.tensor([0, 1, 1]), ids_mask, 2)[0]


def test_a_measured_step_equals_the_definitions_on_autograds_own_tensors():
    adapter, before, probe = _one_step()
    a, b = adapter.A, adapter.B
    rms = lambda t: float(t.detach().square().mean().sqrt())  # noqa: E731
    mean_b = lambda t: sum(rms(t[:, e]) for e in range(3)) / 3  # noqa: E731
    tokens = adapter.last.gate[:, torch.ones(3, 8).flatten().bool()]
    real = torch.ones(3, 8)
    real[1, 5:] = 0
    reached = [(tokens[e] * real.flatten() > 0).sum().item() for e in range(3)]
    expected = [
        math.log2(real.sum() / (sum(reached) / 3)),
        math.log2(rms(a.grad) / mean_b(b.grad)),
        math.log2(rms(a - before[a]) / mean_b(b - before[b])),
        math.log2(rms(a - before[a]) / rms(before[a]) / (sum(rms((b - before[b])[:, e]) / rms(before[b][:, e]) for e in range(3)) / 3)),
    ]
    assert probe.imbalance == pytest.approx(expected, rel=1e-4)
    assert probe.imbalance[1] == pytest.approx(probe.imbalance[2], rel=1e-3)  # SGD: a step is the gradient times lr
    assert probe.norm_a == pytest.approx([float(a.norm())]) and probe.norm_b == pytest.approx([float(b[:, e].norm()) for e in range(3)])
    assert probe.norm_ba == pytest.approx([float((b[:, e] @ a).norm()) for e in range(3)], rel=1e-4)


def test_with_adam_the_first_step_has_the_same_size_everywhere():
    _, _, probe = _one_step(optimiser=torch.optim.Adam)
    # Adam's first step is lr * sign(gradient) in every entry: the step definition is even whatever the gradients are
    assert probe.imbalance[2] == pytest.approx(0, abs=1e-3) and abs(probe.imbalance[1]) > 0.05


def test_before_b_has_moved_the_ratios_are_gaps():
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=2, experts=3, dropout=0, targets="q"))
    handle.train()
    before = before_step(handle)
    (run(model) * torch.randn(16)).sum().backward()
    torch.optim.SGD(handle.parameters(), lr=0.1).step()
    probe = measure(handle, before, torch.zeros(3, dtype=torch.long), torch.ones(3, 8), 1)[0]
    assert probe.imbalance[0] is not None and probe.imbalance[1:] == [None, None, None]  # dL/dA is zero while B is zero


def test_one_expert_has_no_router_and_an_even_gate():
    model = bert(1)
    handle = attach(model, AdapterConfig(method="lora", rank=2, targets="q"))
    handle.train()
    before = before_step(handle)
    (run(model) * torch.randn(16)).sum().backward()
    probe = measure(handle, before, torch.zeros(3, dtype=torch.long), torch.ones(3, 8), 1)[0]
    assert probe.load == [[1.0]] and probe.evenness == 1 and probe.information == 0 and probe.imbalance[0] == 0
