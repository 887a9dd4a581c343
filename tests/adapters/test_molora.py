"""MoLoRA and LoRAMoE's layer: dense experts. The loop is written from the equation."""

import pytest
import torch

from mosld.adapters import attach
from mosld.config import AdapterConfig
from tests.adapters.models import bert
from tests.adapters.same import assert_same, one_linear


@pytest.mark.parametrize("method", ["molora", "loramoe"])
def test_forward_and_gradients_equal_the_equation(method):
    adapter, handle, x = one_linear(method)

    def slow(x):
        rows = []
        for token in x.view(-1, 16):
            weights = torch.exp(adapter.router @ token)
            y = adapter.weight @ token + adapter.bias
            for i in range(4):
                y = y + 16 / 3 * weights[i] / weights.sum() * (adapter.B[:, i] @ (adapter.A[i] @ token))
            rows.append(y)
        return torch.stack(rows).view(3, 5, 16)

    assert_same(adapter, slow, handle, x)


def test_start_is_gaussian_of_deviation_002():
    handle = attach(bert(2), AdapterConfig(method="molora", rank=16, experts=16, targets="q,v,up"))
    drawn = torch.cat([a.A.flatten() for a in handle.adapters])  # 24,576 draws: the deviation's own error is 0.02 / sqrt(2 n)
    assert drawn.numel() == 6 * 16 * 16 * 16
    assert drawn.std().item() == pytest.approx(0.02, abs=4 * 0.02 / (2 * drawn.numel()) ** 0.5)
    assert abs(drawn.mean().item()) < 4 * 0.02 / drawn.numel() ** 0.5
    assert all(not a.B.any() for a in handle.adapters)
