"""SiRA: the equation as a loop; capacity, dropout on the gate and balance loss against hand-worked values."""

import pytest
import torch

from mosld.adapters.sira import within_capacity
from tests.adapters.same import assert_same, one_linear


def test_forward_and_gradients_equal_the_equation_with_capacity():
    # top-2 of 4 experts, 15 tokens: an expert takes at most ceil(.5 * 2 * 15 / 4) = 4
    adapter, handle, x = one_linear("sira", options={"capacity": 0.5, "gate_dropout": 0})
    handle.train()

    def slow(x):
        tokens, gates = x.view(-1, 16), []
        for token in tokens:
            p = torch.softmax(adapter.router @ token, 0)
            kept = p.topk(2).indices
            gates.append([p[e] / p[kept].sum() if e in kept else torch.zeros((), dtype=p.dtype) for e in range(4)])
        rows, turned_away = [adapter.weight @ token + adapter.bias for token in tokens], 0
        for e in range(4):
            queue = sorted((n for n in range(15) if gates[n][e] > 0), key=lambda n, e=e: -float(gates[n][e].detach()))
            turned_away += len(queue[4:])
            for n in queue[:4]:
                rows[n] = rows[n] + 16 / 3 * gates[n][e] * (adapter.B[:, e] @ (adapter.A[e] @ tokens[n]))
        assert turned_away == 30 - 16
        return torch.stack(rows).view(3, 5, 16)

    assert_same(adapter, slow, handle, x)


def test_capacity_by_hand():
    gate = torch.tensor([[0.9, 0.6, 0.7, 0.0, 0.8], [0.1, 0.4, 0.3, 1.0, 0.2]])
    full = within_capacity(gate, 2, 1.0, None)  # both experts may take all five
    torch.testing.assert_close(full, gate)
    tight = within_capacity(gate, 1, 1.0, None)  # ceil(1 * 5 / 2) = 3 each
    torch.testing.assert_close(tight, torch.tensor([[0.9, 0.0, 0.7, 0.0, 0.8], [0.0, 0.4, 0.3, 1.0, 0.0]]))
    masked = within_capacity(gate, 1, 1.0, torch.tensor([1, 1, 1, 0, 0]))  # three real tokens: ceil(3 / 2) = 2 each, padding takes no room
    torch.testing.assert_close(masked, torch.tensor([[0.9, 0.0, 0.7, 0.0, 0.0], [0.0, 0.4, 0.3, 0.0, 0.0]]))


def test_gate_dropout_renormalises_over_what_is_left():
    adapter, handle, x = one_linear("sira", experts=8, options={"capacity": 64, "gate_dropout": 0.5})
    handle.train()
    p = (adapter.router @ x.view(-1, 16).t()).softmax(0)
    gate = torch.stack([adapter.choose(p) for _ in range(200)])  # [200, 8, 15]
    total = gate.sum(1)
    alive = total > 0
    torch.testing.assert_close(total[alive], torch.ones_like(total[alive]))
    # a token loses all 8 experts with probability 2^-8: of 3,000 draws 11.7 on average, standard deviation 3.4
    assert abs((~alive).sum().item() - 3000 / 256) < 4 * 3.42
    # the best expert is among the chosen just when it is not dropped: half of 3,000, standard deviation 27.4
    best = p.argmax(0)
    chosen = (gate > 0)[:, best, torch.arange(15)].sum().item()
    assert abs(chosen - 1500) < 4 * 27.4
    ratio = p[:, None] / p[None]
    two = gate[0, :, 0].nonzero()[:, 0].tolist()
    if len(two) == 2:
        torch.testing.assert_close(gate[0, two[0], 0] / gate[0, two[1], 0], ratio[two[0], two[1], 0])


def test_evaluation_has_neither():
    adapter, _, x = one_linear("sira", options={"capacity": 0.1, "gate_dropout": 0.9})
    torch.testing.assert_close(adapter(x)[1:2], adapter(x[1:2]))  # no token depends on another
    assert ((adapter.last.gate > 0).sum(0) == 2).all()


def test_balance_loss_counts_requests_and_not_what_the_capacity_left():
    adapter, handle, x = one_linear("sira", balance=1.0, options={"capacity": 0.1, "gate_dropout": 0})
    handle.train()
    adapter(x)
    p = (adapter.router @ x.view(-1, 16).t()).softmax(0)
    asked = torch.zeros(4, dtype=torch.float64)
    for column in p.t():
        asked[column.topk(2).indices] += 1
    expected = 4 * (asked / asked.sum()) @ p.mean(1)
    assert handle.extra_loss().item() == pytest.approx(expected.item())
    assert ((adapter.last.gate > 0).sum(1) == 1).all()  # ceil(.1 * 2 * 15 / 4) = 1 token an expert
