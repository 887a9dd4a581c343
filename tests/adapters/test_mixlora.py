"""MixLoRA of TUDB against its equation: for each token, each chosen expert's whole feed-forward block, one after the other."""

import copy

import pytest
import torch

from mosld.adapters import attach
from mosld.config import AdapterConfig, ConfigError
from mosld.counting import SHAPES, count
from tests.adapters.models import FAMILIES, bert, llama, run
from tests.adapters.same import assert_same, move


def chosen(router, token, k):
    scores = [float(row @ token.detach()) for row in router.detach()]
    keep = sorted(range(len(scores)), key=lambda e: -scores[e])[: k or len(scores)]
    exp = {e: torch.exp(torch.dot(router[e], token)) for e in keep}
    return {e: v / sum(exp.values()) for e, v in exp.items()}


def linear(a, e, v):
    y = a.weight @ v + a.scale * (a.B[:, e] @ (a.A[e] @ v))
    return y if a.bias is None else y + a.bias


def slow_llama(mlp, x, k):
    out = []
    for token in x.reshape(-1, x.shape[-1]):
        y = 0
        for e, g in chosen(mlp.up_proj.router, token, k).items():
            inner = torch.nn.functional.silu(linear(mlp.gate_proj, e, token)) * linear(mlp.up_proj, e, token)
            y = y + g * linear(mlp.down_proj, e, inner)
        out.append(y)
    return torch.stack(out).view(x.shape)


@pytest.mark.parametrize("k", [1, 2, 0])
def test_a_gated_block_equals_the_loop(k):
    handle = attach(llama().double(), AdapterConfig(method="mixlora", rank=2, experts="0-4", top_k=k, targets="gate,up,down"))
    move(handle)
    mlp = handle.model.layers[1].mlp
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    if k == 1:  # one chosen expert has the weight 1 whatever the router says
        mlp.up_proj.router.requires_grad_(False)
        torch.testing.assert_close(mlp(x), slow_llama(mlp, x, 1))
    else:
        assert_same(mlp, lambda x: slow_llama(mlp, x, k), handle, x)
    assert all(a.last.gate.shape == (4, 6) for a in handle.adapters)


def test_a_plain_block_equals_the_loop():
    handle = attach(bert(1).double(), AdapterConfig(method="mixlora", rank=2, experts=3, targets="up,down"))
    move(handle)
    layer = handle.model.encoder.layer[0]
    up, down = layer.intermediate.dense, layer.output.dense

    def slow(x):
        rows = []
        for token in x.reshape(-1, 16):
            parts = chosen(up.router, token, 2).items()
            rows.append(sum(g * linear(down, e, torch.nn.functional.gelu(linear(up, e, token))) for e, g in parts))
        return torch.stack(rows).view(x.shape)

    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert_same(lambda x: down(layer.intermediate(x)), slow, handle, x)


def test_a_gate_that_is_not_a_target_stays_frozen():
    handle = attach(llama().double(), AdapterConfig(method="mixlora", rank=2, experts=4, targets="up,down"))
    move(handle)
    mlp, x = handle.model.layers[0].mlp, torch.randn(1, 3, 16, dtype=torch.float64)
    rows = []
    for token in x[0]:
        parts = chosen(mlp.up_proj.router, token, 2).items()
        gate = torch.nn.functional.silu(mlp.gate_proj.weight @ token)
        rows.append(sum(g * linear(mlp.down_proj, e, gate * linear(mlp.up_proj, e, token)) for e, g in parts))
    torch.testing.assert_close(mlp(x)[0], torch.stack(rows))


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_gets_plain_lora_that_merges_on_its_own(family):
    mixed = FAMILIES[family]().double()
    plain = copy.deepcopy(mixed)
    one = attach(mixed, AdapterConfig(method="mixlora", rank=2, targets="q,v"))
    two = attach(plain, AdapterConfig(method="lora", rank=2, targets="q,v"))
    move(one)
    move(two)
    torch.testing.assert_close(run(mixed), run(plain))
    assert one.routing() == {} and one.count() == two.count()
    expected = run(mixed)
    torch.testing.assert_close(run(one.merge()), expected)


def test_the_balance_loss_is_counted_once_a_block():
    model = bert(2)
    handle = attach(model, AdapterConfig(method="mixlora", rank=2, experts=3, balance=0.5, targets="q,up,down"))
    move(handle)
    handle.train()
    run(model)
    expected = 0.0
    for layer in range(2):
        p, g, mask, _ = (getattr(model.encoder.layer[layer].intermediate.dense.last, n) for n in ("probabilities", "gate", "mask", "shape"))
        real = mask.bool()
        share = (g[:, real] > 0).double().sum(1)
        expected += 0.5 * 3 * float((share / share.sum() * p[:, real].double().mean(1)).sum())
    assert float(handle.extra_loss().detach()) == pytest.approx(expected, rel=1e-5)
    assert handle.config.replace(balance=None).effective().balance == 0.001


@pytest.mark.parametrize("targets", ["up", "down", "q,gate,up", "gate"])
def test_half_a_block_is_refused_before_anything_is_touched(targets):
    model = llama()
    with pytest.raises(ConfigError, match=r"^targets: .* is not allowed; MixLoRA's experts are whole feed-forward blocks: give up and down together"):
        attach(model, AdapterConfig(method="mixlora", rank=2, targets=targets))
    assert all(p.requires_grad for p in model.parameters())


def test_count_of_llama2_7b():
    config = AdapterConfig(method="mixlora", rank=16, experts=8, targets="q,k,v,o,gate,up,down")
    # a layer: attention 4 x 16 x 8192; three linears of 8 x 16 x (4096 + 11008); a router of 8 x 4096
    assert count(config, SHAPES["llama2-7b"]) == 32 * (4 * 16 * 8192 + 3 * 8 * 16 * (4096 + 11008) + 8 * 4096)
