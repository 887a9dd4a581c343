"""MTL-LoRA: the equation as a loop over tokens and tasks, merging of each task, behaviour without tasks."""

import pytest
import torch

from mosld.adapters import attach, saved_config
from mosld.adapters.adapter import Adapter
from mosld.config import AdapterConfig, ConfigError
from mosld.registry import METHODS, LinearShape
from tests.adapters.models import FAMILIES, bert, run
from tests.adapters.same import assert_same, move, one_linear

TASK = torch.tensor([2, 0, 2])


@pytest.mark.parametrize("matrix", ["full", "diagonal"])
def test_forward_and_gradients_equal_the_equation(matrix):
    adapter, handle, x = one_linear("mtl-lora", tasks=4, experts=3, options={"matrix": matrix, "tau": 0.5})

    def slow(x):
        rows = []
        for text, t in zip(x, TASK.tolist(), strict=True):
            weights = torch.exp(adapter.w[t] / 0.5)
            own = adapter.L[t] if matrix == "full" else torch.diag(adapter.L[t])
            for token in text:
                y = adapter.weight @ token + adapter.bias
                for i in range(3):
                    y = y + 16 / 3 * weights[i] / weights.sum() * (adapter.B[:, i] @ (own @ (adapter.A @ token)))
                rows.append(y)
        return torch.stack(rows).view(3, 5, 16)

    with handle.context(task=TASK):
        assert_same(adapter, slow, handle, x)
        adapter(x).sum().backward()
    assert adapter.L.grad[[1, 3]].abs().max() == 0 and adapter.L.grad[[0, 2]].abs().max() > 0  # a task without a text learns nothing


def test_start():
    handle = attach(bert(1), AdapterConfig(method="mtl-lora", rank=3, experts=4, targets="q"), tasks=50)
    adapter = handle.adapters[0]
    assert torch.equal(adapter.L, torch.eye(3).expand(50, 3, 3)) and not adapter.B.any()
    assert adapter.w.shape == (50, 4) and 0.45 < adapter.w.abs().max() <= 0.5 and adapter.w.min() < 0  # uniform on +- 1 / sqrt(4)
    assert adapter.A.abs().max() <= 0.25


@pytest.mark.parametrize("experts", [1, 3])
@pytest.mark.parametrize("matrix", ["full", "diagonal"])
def test_counts(experts, matrix):
    options = {"matrix": matrix}
    handle = attach(bert(1), AdapterConfig(method="mtl-lora", rank=3, experts=experts, top_k=0, targets="up", options=options), tasks=5)
    own = 5 * (9 if matrix == "full" else 3) + (15 if experts == 3 else 0)
    assert handle.count() == 3 * 16 + experts * 3 * 32 + own
    assert METHODS["mtl-lora"].count(LinearShape(16, 32, 3, experts, T=5, options=options)) == handle.count()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("matrix", ["full", "diagonal"])
def test_merges_exactly_one_task_at_a_time(family, matrix):
    config = AdapterConfig(method="mtl-lora", rank=2, experts=3, options={"matrix": matrix})
    outputs = []
    for task in range(3):
        torch.manual_seed(0)
        model = FAMILIES[family]().double()
        handle = attach(model, config, tasks=3)
        move(handle)
        with handle.context(mask=None, task=torch.full((3,), task)):
            outputs.append(run(model))
        handle.merge(task=task)
        assert not any(isinstance(m, Adapter) for m in model.modules())
        torch.testing.assert_close(run(model), outputs[-1])
    assert not torch.allclose(outputs[0], outputs[1], atol=1e-3)


def test_merging_needs_a_task():
    handle = attach(bert(1), AdapterConfig(method="mtl-lora", rank=2), tasks=3)
    for task in (None, 3, -1):
        with pytest.raises(ConfigError, match=f"^merge: MTL-LoRA has one update a task, so task={task} is not allowed; give a task from 0 to 2"):
            handle.merge(task=task)


def test_without_tasks_every_text_is_of_task_0_and_a_wrong_number_is_told():
    adapter, handle, x = one_linear("mtl-lora", tasks=3)
    with handle.context(task=torch.zeros(3, dtype=torch.long)):
        first = adapter(x)
    torch.testing.assert_close(adapter(x), first)
    with (
        handle.context(task=torch.zeros(2, dtype=torch.long)),
        pytest.raises(ConfigError, match="^task: ids of 2 texts are given, but the batch has 3"),
    ):
        adapter(x)


def test_saved_with_its_tasks(tmp_path):
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mtl-lora", rank=2), tasks=3)
    move(handle)
    with handle.context(task=TASK):
        expected = run(model)
    handle.save(tmp_path)
    handle.detach()
    config, extra = saved_config(tmp_path)
    again = attach(model, config, seed=9, **extra)
    again.load(tmp_path)
    with again.context(task=TASK):
        assert torch.equal(run(model), expected)


def test_routing_of_a_text_is_its_tasks_weights():
    adapter, handle, x = one_linear("mtl-lora", tasks=3)
    with handle.context(task=TASK):
        adapter(x)
    gate = adapter.last.gate.view(4, 3, 5)
    torch.testing.assert_close(gate[:, 0], gate[:, 2])
    torch.testing.assert_close(gate[:, 1, 3], torch.softmax(adapter.w[0] / 0.1, 0).detach())
    up, down = adapter.products()
    torch.testing.assert_close(down[0], (adapter.L[0] + adapter.L[1] + adapter.L[2]) / 3 @ adapter.A)
    assert up.shape == (4, 16, 3)
