"""LoRAMoE's localized balancing constraint against hand-worked values; its forward pass is in test_molora.py."""

import pytest
import torch

from mosld.adapters.loramoe import localized_balance
from mosld.config import ConfigError
from tests.adapters.same import one_linear


def test_loss_by_hand():
    # two experts of types 0 and 1, texts of types 0 and 1: Z = [[1.5 * 2, .5 * 1], [.5 * 2, 1.5 * 3]] = [[3, .5], [1, 4.5]]
    q = torch.tensor([[2.0, 1.0], [2.0, 3.0]])
    loss = localized_balance(q, torch.eye(2, dtype=torch.bool), 0.5)
    mean = 9 / 4
    variance = (0.75**2 + 1.75**2 + 1.25**2 + 2.25**2) / 4
    assert loss.item() == pytest.approx(variance / mean**2)


def test_a_matching_lean_costs_nothing():
    own = torch.tensor([[True, False], [True, False], [False, True], [False, True]])
    q = torch.where(own, 1 / 1.2, 1 / 0.8)
    assert localized_balance(q, own, 0.2).item() == pytest.approx(0, abs=1e-12)
    assert localized_balance(q, ~own, 0.2).item() > 0.1


def test_types_of_tasks_and_experts_and_the_padding():
    adapter, handle, x = one_linear("loramoe", tasks=3, experts=5, balance=2.0, options={"delta": 0.3, "types": 2})
    mask, task = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0]]), torch.tensor([0, 1, 2])
    handle.train()
    with handle.context(mask=mask, task=task):
        adapter(x)
        loss = handle.extra_loss()
    z = torch.zeros(5, 3, dtype=torch.float64)
    for m, length in enumerate([5, 2, 3]):
        for token in x[m, :length]:
            z[:, m] += torch.softmax(adapter.router @ token, 0).detach()
    for e, expert_type in enumerate([0, 0, 0, 1, 1]):
        for m, task_type in enumerate([0, 1, 0]):
            z[e, m] *= 1.3 if expert_type == task_type else 0.7
    assert loss.item() == pytest.approx(2.0 * ((z - z.mean()) ** 2).mean().item() / z.mean().item() ** 2)
    loss.backward()
    assert adapter.router.grad.abs().max() > 0


def test_without_tasks_every_text_is_of_task_0_and_a_wrong_number_is_told():
    adapter, handle, x = one_linear("loramoe", tasks=2, options={"delta": 0.5})
    handle.train()
    adapter(x)
    alone = handle.extra_loss()
    with handle.context(task=torch.zeros(3, dtype=torch.long)):
        adapter(x)
        torch.testing.assert_close(handle.extra_loss(), alone)
    with handle.context(task=torch.ones(3, dtype=torch.long)):
        adapter(x)
        assert handle.extra_loss() != alone
    with (
        handle.context(task=torch.zeros(2, dtype=torch.long)),
        pytest.raises(ConfigError, match="^task: ids of 2 texts are given, but the batch has 3"),
    ):
        adapter(x)
