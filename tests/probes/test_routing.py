"""Routing figures against numbers worked by hand."""

import math

import pytest
import torch

from mosld.probes import routing

# four real tokens and one of padding; three experts, top-2. Tokens 0, 1 are of task 0; 2, 3 (and the padding) of task 1
GATE = torch.tensor(
    [
        [0.75, 0.50, 0.00, 0.00, 1.0],
        [0.25, 0.50, 0.60, 0.00, 0.0],
        [0.00, 0.00, 0.40, 1.00, 0.0],
    ]
)
TASK = torch.tensor([0, 0, 1, 1, 1])
MASK = torch.tensor([1, 1, 1, 1, 0])


def test_load_and_mean_gate_by_task():
    load, mean = routing.by_task(GATE, TASK, 3, MASK)
    torch.testing.assert_close(load[:2], torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.5, 1.0]]))
    torch.testing.assert_close(mean[:2], torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.3, 0.7]]))
    assert load[2].isnan().all() and mean[2].isnan().all()  # a task without a token is a gap


def test_several_linears_at_once_equal_one_at_a_time():
    both = torch.stack([GATE, GATE.flip(0)])
    for together, alone in zip(routing.by_task(both, TASK, 2, MASK), routing.by_task(GATE.flip(0), TASK, 2, MASK), strict=True):
        torch.testing.assert_close(together[1], alone)


def test_balance_effective_experts_and_idle():
    load, mean = routing.overall(GATE, MASK)
    torch.testing.assert_close(load, torch.tensor([0.5, 0.75, 0.5]))
    torch.testing.assert_close(mean, torch.tensor([0.3125, 0.3375, 0.35]))
    h = -sum(p * math.log(p) for p in (0.3125, 0.3375, 0.35))
    assert float(routing.balance(mean)) == pytest.approx(h / math.log(3), rel=1e-5)
    assert float(routing.effective_experts(mean)) == pytest.approx(math.exp(h), rel=1e-5)
    assert int(routing.idle_experts(load)) == 0
    collapsed = torch.tensor([1.0, 0.0, 0.0])
    assert float(routing.balance(collapsed)) == 0 and float(routing.effective_experts(collapsed)) == 1 and int(routing.idle_experts(collapsed)) == 2
    assert float(routing.balance(torch.ones(1))) == 1


def test_idle_is_under_a_tenth_of_the_even_share():
    assert routing.idle_experts(torch.tensor([0.024, 0.026, 0.5, 0.5])) == 1  # 1 / (10 * 4) = 0.025


def test_token_entropy():
    h = [-sum(p * math.log(p) for p in (0.75, 0.25)), math.log(2), -sum(p * math.log(p) for p in (0.6, 0.4)), 0.0]
    assert float(routing.token_entropy(GATE, MASK)) == pytest.approx(sum(h) / 4, rel=1e-5)


def test_task_information():
    # choices: task 0 makes 2 for expert 0 and 2 for expert 1; task 1 makes 1 for expert 1 and 2 for expert 2. In sevenths:
    joint = {(0, 0): 2 / 7, (0, 1): 2 / 7, (1, 1): 1 / 7, (1, 2): 2 / 7}
    p_task, p_expert = {0: 4 / 7, 1: 3 / 7}, {0: 2 / 7, 1: 3 / 7, 2: 2 / 7}
    bits = sum(p * math.log2(p / (p_task[t] * p_expert[e])) for (t, e), p in joint.items())
    assert float(routing.task_information(GATE, TASK, 2, MASK)) == pytest.approx(bits, rel=1e-5)


def test_information_is_one_bit_where_routing_tells_two_tasks_apart_and_zero_where_it_does_not():
    apart = torch.tensor([[1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0]])
    assert float(routing.task_information(apart, torch.tensor([0, 0, 1, 1]), 2)) == pytest.approx(1)
    assert float(routing.task_information(apart, torch.tensor([0, 1, 0, 1]), 2)) == pytest.approx(0, abs=1e-6)
