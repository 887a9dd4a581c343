"""Adapters in real transformers models: start, dropout, counts, files, the way back; LoRA against peft."""

import copy

import peft
import pytest
import torch

from mosld.adapters import attach, saved_config
from mosld.adapters.adapter import Adapter
from mosld.config import METHODS, AdapterConfig, ConfigError
from mosld.registry import LinearShape
from tests.adapters.models import FAMILIES, bert, run
from tests.adapters.slow import slow_mixture


def warm(handle, seed=1):
    """Move every trainable tensor away from its start, so that B is not zero."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in handle.parameters():
            p.add_(torch.randn(p.shape, generator=g) * (0.3 if p.numel() > 1 else 0.003))  # MoR1E's two scalars stand behind a factor of 100


def config_of(method, **values):
    """Rank 2; MixLoRA, whose experts are feed-forward blocks, gets them among its targets."""
    targets = {"targets": "q,v,up,down"} if method == "mixlora" else {}
    return AdapterConfig(**{"method": method, "rank": 2, **targets, **values})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_start_equals_base_and_detach_gives_it_back(family, method):
    model = FAMILIES[family]()
    if method == "conditional-mixlora" and family != "bert":
        with pytest.raises(ConfigError, match=r"^method: Conditional MixLoRA .* is causal, so they would depend on later tokens; take an encoder"):
            attach(model, config_of(method))
        return
    before, flags = run(model), [p.requires_grad for p in model.parameters()]
    names = [n for n, _ in model.named_parameters()]
    handle = attach(model, config_of(method))
    torch.testing.assert_close(run(model), before, atol=1e-6, rtol=1e-5)
    warm(handle)
    assert not torch.allclose(run(model), before, atol=1e-3)
    handle.detach()
    assert torch.equal(run(model), before)
    assert [p.requires_grad for p in model.parameters()] == flags and [n for n, _ in model.named_parameters()] == names


@pytest.mark.parametrize("method", METHODS)
def test_every_tensor_learns_once_b_is_not_zero_and_the_base_never(method):
    model = bert()
    handle = attach(model, config_of(method))
    warm(handle)
    handle.train()
    (run(model).square().mean() + handle.extra_loss()).backward()
    for name, p in handle.named_parameters():
        assert p.grad is not None and p.grad.abs().max() > 0, name
    own = {id(p) for p in handle.parameters()}
    assert all(p.grad is None for p in model.parameters() if id(p) not in own)


@pytest.mark.parametrize("share", ["A", "B", "none"])
@pytest.mark.parametrize("side", ["input", "output"])
def test_an_adapted_linear_equals_the_loop_for_every_reading(share, side):
    model = bert(1).double()
    handle = attach(model, AdapterConfig(method="mosld", rank=3, experts=4, share=share, side=side, dropout=0, targets="q"))
    warm(handle)
    adapter = handle.adapters[0]
    x = torch.randn(2, 5, 16, dtype=torch.float64)
    up, down = adapter.products()
    expected = slow_mixture(x.view(-1, 16), adapter.weight, adapter.bias, list(down), list(up), 16 / 3, adapter.router, 2)
    torch.testing.assert_close(adapter(x).view(-1, 16), expected)
    one = adapter.A if side == "input" else adapter.B
    assert one.shape[-1] == 16  # the factor at the input ends in d_in
    assert adapter.A.dim() == (2 if share == "A" else 3) and adapter.B.dim() == (2 if share == "B" else 3)
    assert handle.count() == METHODS["mosld"].count(LinearShape(16, 16, 3, 4, share=share, side=side))


def test_lora_equals_peft_with_the_same_weights():
    ours, theirs = bert(2), None
    theirs = peft.get_peft_model(copy.deepcopy(ours), peft.LoraConfig(r=4, lora_alpha=16, target_modules=["query", "value"], lora_dropout=0.0))
    handle = attach(ours, AdapterConfig(method="lora", rank=4, alpha=16))
    warm(handle)
    state = dict(theirs.named_parameters())
    with torch.no_grad():
        for adapter in handle.adapters:
            stem = f"base_model.model.{adapter.site.name}"
            state[f"{stem}.lora_A.default.weight"].copy_(adapter.A)
            state[f"{stem}.lora_B.default.weight"].copy_(adapter.B)
    y, z = run(ours), run(theirs.eval())
    torch.testing.assert_close(y, z)
    y.square().sum().backward()
    z.square().sum().backward()
    for adapter in handle.adapters:
        stem = f"base_model.model.{adapter.site.name}"
        torch.testing.assert_close(adapter.A.grad, state[f"{stem}.lora_A.default.weight"].grad, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(adapter.B.grad, state[f"{stem}.lora_B.default.weight"].grad, atol=1e-5, rtol=1e-4)
    assert handle.count() == sum(p.numel() for p in theirs.parameters() if p.requires_grad)


@pytest.mark.parametrize("site", ["A", "B"])
def test_weight_dropout_is_one_scaled_mask_a_pass_and_off_in_evaluation(site):
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=4, dropout=0.25, dropout_on=site, targets="q"))
    warm(handle)
    adapter, x = handle.adapters[0], torch.randn(3, 7, 16)
    assert torch.equal(adapter(x), adapter(x))  # evaluation
    handle.train()
    y = adapter(x)
    mask = adapter.mask
    w = getattr(adapter, site)
    assert mask.shape == w.shape and mask.unique().tolist() == [0.0, pytest.approx(1 / 0.75)]
    with torch.no_grad():  # the same mask for all tokens and experts: an undropped adapter with the masked weight agrees
        w.mul_(mask)
    handle.train(False)
    torch.testing.assert_close(adapter(x), y)
    handle.train()
    adapter(x)
    assert not torch.equal(adapter.mask, mask)  # a new draw the next pass


def test_dropout_rate_of_the_masks():
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=8, dropout=0.1, targets="q"), seed=3)
    handle.train()
    adapter = handle.adapters[0]
    dropped = 0
    for _ in range(200):
        adapter(torch.zeros(1, 1, 16))
        dropped += int((adapter.mask == 0).sum())
    n = 200 * 8 * 16  # 25,600 draws: four standard deviations of a binomial are 192
    assert abs(dropped - 0.1 * n) < 192


def test_activation_dropout_leaves_the_frozen_path_alone():
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=4, dropout=0.5, dropout_on="activations", targets="q"))
    adapter, x = handle.adapters[0], torch.randn(2, 3, 16)
    handle.train()
    torch.testing.assert_close(adapter(x), adapter.base(x))  # B is zero
    warm(handle)
    assert not torch.equal(adapter(x), adapter(x))
    assert adapter.mask.shape == (6, 16)


def test_experts_by_layer_group():
    handle = attach(bert(4), AdapterConfig(method="mola", rank=2, experts="0-2-4-6", targets="q,v"))
    assert [(a.site.layer, a.site.experts) for a in handle.adapters] == [(1, 2), (1, 2), (2, 4), (2, 4), (3, 6), (3, 6)]


@pytest.mark.parametrize("method", METHODS)
def test_counts_of_formula_and_tensors_agree(method):
    config = AdapterConfig(method=method, rank=2, experts="2-3-4-2", targets="q,v,up,down")
    handle = attach(bert(4), config)
    for adapter in handle.adapters:
        experts = handle.config.expert_counts[adapter.site.layer % len(handle.config.expert_counts)]  # four layers, four groups (or one)
        n = LinearShape(adapter.d_in, adapter.d_out, 2, experts, name=adapter.site.target, share=handle.config.share)
        own = sum(p.numel() for name, p in adapter.named_parameters() if not name.startswith("base."))
        assert own == METHODS[method].count(n), adapter.site


@pytest.mark.parametrize("method", METHODS)
def test_save_and_load(tmp_path, method):
    model = bert(2)
    handle = attach(model, config_of(method))
    warm(handle)
    expected = run(model)
    handle.save(tmp_path)
    handle.detach()
    config, extra = saved_config(tmp_path)
    again = attach(model, config, seed=9, **extra)
    again.load(tmp_path)
    assert torch.equal(run(model), expected)
    assert {f.name for f in tmp_path.iterdir()} == {"adapter.json", "adapter.safetensors"}


def test_loading_what_does_not_fit_is_one_sentence(tmp_path):
    handle = attach(bert(2), AdapterConfig(method="mosld", rank=2))
    handle.save(tmp_path)
    other = attach(bert(2), AdapterConfig(method="mosld", rank=3))
    with pytest.raises(ConfigError, match=r"^adapter: .* does not fit this model"):
        other.load(tmp_path)
    with pytest.raises(ConfigError, match=r"holds no adapter.safetensors"):
        other.load(tmp_path / "nowhere")


@pytest.mark.parametrize("family", FAMILIES)
def test_lora_merges_exactly_and_leaves_shared_weights_alone(family):
    model = FAMILIES[family]().double()
    kept = {n: p.clone() for n, p in model.named_parameters()}
    shared = dict(model.named_parameters())
    handle = attach(model, AdapterConfig(method="lora", rank=2))
    warm(handle)
    expected = run(model)
    handle.merge()
    torch.testing.assert_close(run(model), expected)
    assert not any(isinstance(m, Adapter) for m in model.modules())
    assert all(torch.equal(shared[n], kept[n]) for n in kept)


def test_routed_methods_say_why_they_do_not_merge():
    handle = attach(bert(1), AdapterConfig(method="mosld", rank=2))
    with pytest.raises(ConfigError, match="MoSLD weighs its experts anew for every input"):
        handle.merge()


def test_padding_is_left_out_of_the_balance_loss():
    model = bert(1)
    handle = attach(model, AdapterConfig(method="mosld", rank=2, balance=1.0, targets="q"))
    warm(handle)
    handle.train()
    ids = torch.tensor([[4, 5, 6, 0, 0, 0]])
    model(input_ids=ids, attention_mask=torch.tensor([[1, 1, 1, 0, 0, 0]]))
    padded = float(handle.extra_loss())
    model(input_ids=ids[:, :3], attention_mask=torch.ones(1, 3, dtype=torch.long))
    assert padded == pytest.approx(float(handle.extra_loss()), rel=1e-5)
    mask = handle.routing()["encoder.layer.0.attention.self.query"].mask
    assert mask.tolist() == [1, 1, 1]


def test_the_same_seed_draws_the_same_start_and_methods_of_one_shape_start_alike():
    def draw(method, seed):
        return attach(bert(2), AdapterConfig(method=method, rank=2), seed=seed).adapters[-1].A

    assert torch.equal(draw("mosld", 4), draw("mosl", 4))
    assert not torch.equal(draw("mosld", 4), draw("mosld", 5))


@pytest.mark.parametrize(
    "values,sentence",
    [
        ({"targets": "q,zebra"}, r"^targets: 'zebra' is no linear of this model; its linears end in .*query"),
        ({"rank": 17}, r"^rank: 17 is above the smaller side of encoder.layer.0.attention.self.query \(16 to 16\); give at most 16"),
    ],
)
def test_refusals_leave_the_model_as_it_was(values, sentence):
    model = bert(1)
    before = run(model)
    with pytest.raises(ConfigError, match=sentence):
        attach(model, AdapterConfig(method="mosld", **values))
    assert torch.equal(run(model), before) and all(p.requires_grad for p in model.parameters())
