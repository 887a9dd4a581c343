"""Linears that read one input answer together: the same numbers as alone, in fewer nodes, and alone again wherever that would be wrong."""

import copy

import pytest
import torch

from mosld.adapters import attach, together
from mosld.config import AdapterConfig
from tests.adapters.models import FAMILIES, bert, run
from tests.adapters.same import move, own


def adapted(family="llama", **config):
    torch.manual_seed(0)
    targets = {"llama": "q,k,v,o,gate,up,down", "t5": "q,k,v"}.get(family, "q,k,v")
    model = FAMILIES[family]().double()
    handle = attach(model, AdapterConfig(**{"method": "mosld", "rank": 2, "experts": 3, "balance": 0.1, "targets": targets, **config}))
    move(handle)
    handle.train()
    return model, handle


def alone(handle):
    for a in handle.adapters:
        a.together = None


def step(model, handle, seed=5):
    """Output, extra loss, routing and gradients of one training pass with dropout."""
    torch.manual_seed(seed)
    for p in handle.parameters():
        p.grad = None
    y = run(model)
    extra = handle.extra_loss()
    (y.square().sum() + extra).backward()
    return y.detach(), extra.detach(), {n: r.gate for n, r in handle.routing().items()}, {n: p.grad for n, p in own(handle).items()}


@pytest.fixture
def nodes(monkeypatch):
    """Sizes of the nodes that were made for several linears."""
    sizes, real = [], together.mixtures
    monkeypatch.setattr(together, "mixtures", lambda x, linears, *rest: sizes.append(len(linears)) or real(x, linears, *rest))
    return sizes


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["mosld", "mola"])
def test_the_same_numbers_as_alone(family, method, nodes):
    model, handle = adapted(family, method=method)
    first = step(model, handle)
    joint, nodes[:] = list(nodes), []
    alone(handle)
    second = step(model, handle)
    assert joint and not nodes
    torch.testing.assert_close(first, second)


def test_which_linears_read_one_input(nodes):
    model, handle = adapted("llama", experts=3)
    step(model, handle)
    assert nodes == [3, 2] * 2  # q, k and v; gate and up; of two layers
    assert all(not a.together.kept for a in handle.adapters if a.together)


def test_attention_over_another_text_is_left_alone(nodes):
    _, handle = adapted("t5")
    crossing = [a for a in handle.adapters if "EncDec" in a.site.name]
    assert crossing and all(a.together is None for a in crossing)


def test_an_answer_that_is_not_fetched_parts_the_group(nodes):
    model, handle = adapted("llama", targets="q,v")
    q, v = handle.adapters[:2]
    x = torch.randn(2, 5, 16, dtype=torch.float64, requires_grad=True)
    model.layers[0].self_attn.q_proj(x)
    assert nodes == [2] and v.together.kept
    model.layers[0].self_attn.v_proj(x + 1)  # another input than q's
    first = step(model, handle)
    assert q.together is None and v.together is None and nodes == [2, 2]  # the other layer goes on together
    alone(handle)
    torch.testing.assert_close(first, step(model, handle))


def test_a_changed_input_is_not_answered_from_before(nodes):
    model, handle = adapted("llama", targets="q,v", dropout=0.0)
    q, v = model.layers[0].self_attn.q_proj, model.layers[0].self_attn.v_proj
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    q(x)
    x.add_(1)
    got = v(x)
    alone(handle)
    torch.testing.assert_close(got, v(x))


def test_evaluation_checkpointing_and_copies(nodes):
    model, handle = adapted("llama")
    handle.train(False)
    run(model)
    assert nodes == []
    handle.train()
    model.train()
    expected = step(model, handle)
    count = len(nodes)
    model.gradient_checkpointing_enable()
    found = step(model, handle)
    assert count == 4 and len(nodes) == 3 * count  # forward, forward and again
    torch.testing.assert_close(found[3], expected[3])
    torch.testing.assert_close(step(model, handle)[3], expected[3])
    assert all(a.together for a in handle.adapters if a.site.target in ("q", "k", "v", "gate", "up"))
    copied = copy.deepcopy(model)
    assert copied.layers[0].self_attn.q_proj.together.members[0] is not model.layers[0].self_attn.q_proj.together.members[0]


def test_bfloat16_under_autocast_is_answered_together(nodes):
    torch.manual_seed(0)
    model = bert(2)
    handle = attach(model, AdapterConfig(method="mosld", rank=2, experts=3, targets="q,k,v"))
    move(handle)
    handle.train()
    with torch.autocast("cpu", torch.bfloat16):
        first = step(model, handle)
    assert nodes == [3, 3]
    alone(handle)
    with torch.autocast("cpu", torch.bfloat16):
        second = step(model, handle)
    torch.testing.assert_close(first[0], second[0], atol=0.05, rtol=0.05)
    for name, grad in first[3].items():
        assert (grad - second[3][name]).norm() <= 0.05 * second[3][name].norm() + 1e-6, name
