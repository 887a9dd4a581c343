"""What real use does to an adapted model: moving, casting, loading, unfreezing, checkpointing, copying, dropping layers, masks of every kind."""

import copy
import gc
import warnings
import weakref

import pytest
import torch
import transformers
from torch import nn

from mosld.adapters import Handle, attach
from mosld.adapters.adapter import Adapter
from mosld.config import METHODS, AdapterConfig, ConfigError
from tests.adapters.models import FAMILIES, bert, run, t5
from tests.adapters.test_attach import config_of, warm

IDS = torch.arange(24).view(3, 8) + 1
MASK = torch.ones_like(IDS)
MASK[1, 5:] = 0


def mosld(**values):
    return AdapterConfig(**{"method": "mosld", "rank": 2, "dropout": 0.0, **values})


def gradients(model, handle, seed=0, **inputs):
    """Loss and gradients of one training pass."""
    for p in handle.parameters():
        p.grad = None
    torch.manual_seed(seed)
    out = model(**(inputs or {"input_ids": IDS, "attention_mask": MASK})).last_hidden_state
    loss = (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum() + handle.extra_loss()
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in handle.parameters())]


def assert_all_close(a, b, **tolerance):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, **tolerance)


# A: the frozen weight is that of now


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "mosld", "mixlora"])
def test_cast_and_moved_after_attach_equals_attached_after(family, method):
    model = FAMILIES[family]()
    other = copy.deepcopy(model).double()
    one, two = attach(model, config_of(method)), attach(other, config_of(method))
    warm(one)
    model.double()
    with torch.no_grad():
        for p, q in zip(one.parameters(), two.parameters(), strict=True):
            q.copy_(p)
    torch.testing.assert_close(run(model), run(other))
    model.to("meta")  # nothing is left behind on the old device
    assert {p.device.type for p in (*one.parameters(), *model.parameters())} == {"meta"}


def test_weights_loaded_with_assign_are_those_that_count():
    model, other = bert(1), bert(1)
    handle = attach(model, mosld())
    missing = model.load_state_dict({k: v.clone() for k, v in other.state_dict().items()}, strict=False, assign=True)
    assert not missing.unexpected_keys and all(".adapters." in k for k in missing.missing_keys)
    torch.testing.assert_close(run(model), run(other))  # B is zero
    assert torch.equal(run(handle.detach()), run(other))


def test_an_unfrozen_base_gets_the_gradients_of_its_equation():
    model = bert(1).double()
    handle = attach(model, mosld(experts=3, targets="q"))
    warm(handle)
    adapter, x = handle.adapters[0], torch.randn(2, 5, 16, dtype=torch.float64)
    layer = model.encoder.layer[0].attention.self.query
    layer.weight.requires_grad_(True)
    layer.bias.requires_grad_(True)
    probe = torch.randn(2, 5, 16, dtype=torch.float64)
    (layer(x) * probe).sum().backward()
    torch.testing.assert_close(layer.weight.grad, torch.einsum("mlo,mli->oi", probe, x))
    torch.testing.assert_close(layer.bias.grad, probe.sum((0, 1)))
    assert adapter.weight is layer.weight


@pytest.mark.parametrize("family", FAMILIES)
def test_a_full_checkpoint_is_one_of_the_base(family, tmp_path):
    model = FAMILIES[family]()
    before, names = run(model), set(model.state_dict())
    handle = attach(model, mosld())
    warm(handle)
    model.save_pretrained(tmp_path)  # a Trainer's checkpoint; GPT-2's split weights are no shared tensors
    again, said = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert not said["missing_keys"] and all(".adapters." in k for k in said["unexpected_keys"])
    torch.testing.assert_close(run(again.eval()), before)
    assert {n for n in model.state_dict() if ".adapters." not in n} == names
    model.load_state_dict(model.state_dict())


# B: draws


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("method", [m for m in METHODS])
def test_checkpointing_gives_the_same_gradients_with_dropout(method, reentrant):
    values = {"balance": 0.0} if reentrant else {}
    options = {"moelora": {"contrast": 0}} if reentrant else {}
    seen = []
    for on in (False, True):
        torch.manual_seed(0)
        model = bert(2)
        handle = attach(model, config_of(method, dropout=0.3, options=options.get(method, {}), **values))
        warm(handle)
        model.enable_input_require_grads()
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model.train()
        for module in model.modules():
            module.p = 0.0 if isinstance(module, nn.Dropout) else getattr(module, "p", None)
        seen.append(gradients(model, handle))
    assert_all_close(*seen, atol=1e-6, rtol=1e-5)
    assert any(g.any() for g in seen[0][1:])


def test_two_forward_passes_with_other_masks_before_one_backward():
    other = torch.ones_like(MASK)
    other[0, 2:] = 0
    seen = []
    for on in (False, True):
        torch.manual_seed(0)
        model = bert(2)
        handle = attach(model, mosld(balance=1.0))
        warm(handle)
        handle.train()
        model.train()
        for module in model.modules():
            module.p = 0.0 if isinstance(module, nn.Dropout) else getattr(module, "p", None)
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        loss = 0
        for mask in (MASK, other):
            loss = loss + model(input_ids=IDS, attention_mask=mask).last_hidden_state[:, 0].sum() + handle.extra_loss()
        loss.backward()
        seen.append([p.grad.clone() for p in handle.parameters()])
    assert_all_close(*seen, atol=1e-6, rtol=1e-5)


def test_checkpoints_of_the_reentrant_kind_say_that_the_balance_loss_is_lost():
    model = bert(2)
    handle = attach(model, mosld(balance=0.1))
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model.train()
    model(input_ids=IDS)
    with pytest.raises(ConfigError, match=r"^gradient checkpointing: its reentrant kind .* give use_reentrant=False, or set the balance to 0"):
        handle.extra_loss()


def test_a_generator_of_ones_own_is_refused_in_checkpointing_and_repeats_itself_otherwise():
    model = bert(1)
    handle = attach(model, mosld(dropout=0.5, targets="q"))
    handle.train()
    masks = []
    for _ in range(2):
        handle.generator = torch.Generator().manual_seed(3)
        torch.manual_seed(len(masks))
        run(model)
        masks.append(handle.adapters[0].mask)
    assert torch.equal(*masks)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    with pytest.raises(ConfigError, match="^generator: a handle's own generator would draw another mask in gradient checkpointing"):
        gradients(model, handle)


@pytest.mark.parametrize("method", ["mosld", "sira"])
def test_the_compiler_sees_one_graph_with_the_same_numbers(method):
    torch._dynamo.reset()
    plain = bert(1)
    attach(plain, config_of(method, dropout=0.3))
    warm(Handle.of(plain))
    twin = copy.deepcopy(plain)
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    for handle in (Handle.of(plain), Handle.of(twin)):
        handle.train()
    for seed in range(2):
        assert_all_close(gradients(plain, Handle.of(plain), seed), gradients(compiled, Handle.of(twin), seed))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1 and not torch._dynamo.utils.counters["graph_break"]


# C: passes


def test_a_pass_that_does_not_reach_an_adapter_leaves_nothing_of_the_last():
    model = bert(3)
    handle = attach(model, mosld(balance=1.0))
    handle.train()
    run(model)
    assert len(handle.routing()) == 6
    both = handle.extra_loss()
    both.backward()
    layers, model.encoder.layer = model.encoder.layer, model.encoder.layer[1:]  # as layerdrop does
    run(model)
    assert len(handle.routing()) == 4 and handle.adapters[0].aux is None and handle.adapters[0].last is None
    assert handle.extra_loss() < both
    handle.extra_loss().backward()
    model.encoder.layer = layers


def test_one_tower_alone():
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    config = transformers.CLIPConfig(
        text_config={**small, "vocab_size": 50},
        vision_config={**small, "image_size": 8, "patch_size": 4},
        projection_dim=8,
    )
    model = transformers.CLIPModel(config).eval()
    handle = attach(model, mosld(experts="2-3", balance=1.0))
    assert [a.site.experts for a in handle.adapters] == [2, 2, 3, 3] * 2  # each tower has its own groups of layers
    handle.train()
    pixels = torch.randn(3, 3, 8, 8)
    model(input_ids=IDS, attention_mask=MASK, pixel_values=pixels)
    handle.extra_loss().backward()
    seen = handle.routing()
    assert all((r.mask is None) == ("vision" in name) for name, r in seen.items())
    model.get_text_features(input_ids=IDS, attention_mask=MASK)
    assert {name.partition(".")[0] for name in handle.routing()} == {"text_model"}
    handle.extra_loss().backward()  # not a second time through the pictures' graph


def test_layers_that_are_shared_add_their_losses_up():
    config = transformers.AlbertConfig(
        vocab_size=50, hidden_size=16, embedding_size=8, num_hidden_layers=3, num_attention_heads=2, intermediate_size=24
    )
    model = transformers.AlbertModel(config).eval()
    handle = attach(model, mosld(balance=1.0, targets="q"))
    losses = []
    handle.adapters[0].register_forward_hook(lambda a, *_: losses.append(a.aux))
    handle.train()
    run(model)
    assert len(losses) == 3 and losses[0] < losses[1] < losses[2] and torch.equal(handle.extra_loss(), losses[2])


# D: masks


def test_each_side_of_an_encoder_decoder_has_its_own_mask():
    model = t5()
    handle = attach(model, mosld(balance=1.0))
    handle.train()
    decoder = torch.ones(3, 8, dtype=torch.long)
    decoder[2, 1:] = 0
    model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS, decoder_attention_mask=decoder)
    for name, seen in handle.routing().items():
        expected = decoder if name.startswith("decoder") and not ("EncDec" in name and name.endswith(".v")) else MASK
        assert torch.equal(seen.mask, expected.reshape(-1)), name
    model(input_ids=IDS, attention_mask=MASK, decoder_input_ids=IDS)
    assert handle.routing()["decoder.block.0.layer.0.SelfAttention.q"].mask is None


def test_a_mask_by_position_and_of_which_token_sees_which():
    model = bert(1)
    handle = attach(model, mosld())
    model(IDS, MASK)
    name = handle.adapters[0].site.name
    assert torch.equal(handle.routing()[name].mask, MASK.reshape(-1))
    model.encoder(model.embeddings(IDS))  # a call of an inner module: not the mask of the call before
    assert handle.routing()[name].mask is None
    see = (MASK[:, None, None, :] * torch.ones(1, 1, 8, 1, dtype=torch.long)).bool()
    model.encoder(model.embeddings(IDS), see)
    assert torch.equal(handle.routing()[name].mask, MASK.reshape(-1))
    model.encoder(model.embeddings(IDS), torch.zeros(3, 1, 8, 8).masked_fill(~see, -1e9))
    assert torch.equal(handle.routing()[name].mask, MASK.reshape(-1))


# E: layers


class Wav2Vec2Like(nn.Module):
    """Numbers in names that are no layers."""

    def __init__(self):
        super().__init__()
        self.wav2vec2 = bert(4)


@pytest.mark.parametrize(
    "model,layers",
    [
        (lambda: Wav2Vec2Like(), [0, 1, 2, 3]),
        (lambda: nn.Sequential(bert(4), nn.Linear(16, 4)), [0, 1, 2, 3]),  # as sentence-transformers puts them
        (lambda: nn.ModuleList([bert(2), bert(2)]), [0, 1, 2, 3]),
        (lambda: t5(), [0, 1, 2, 2, 3, 3]),  # q of self- and cross-attention
    ],
)
def test_a_layer_is_its_place_in_the_list_of_blocks(model, layers):
    handle = attach(model(), mosld(experts="2-3", targets="q"))
    assert [a.site.layer for a in handle.adapters] == layers
    stacks = len({a.site.stack for a in handle.adapters})
    half = [2, 3] if stacks == 2 else [2, 2, 3, 3]
    assert [a.site.experts for a in handle.adapters] == [(half * stacks)[i] for i in layers]


# F: linears that are not ordinary


class Doubled(nn.Linear):
    """A linear with a forward of its own."""

    def forward(self, x):
        return 2 * super().forward(x)


def hooked(linear):
    linear.register_forward_hook(lambda module, args, y: 2 * y)
    return linear


def parametrised(linear):
    class Double(nn.Module):
        def forward(self, w):
            return 2 * w

    return nn.utils.parametrize.register_parametrization(linear, "weight", Double())


def replaced(linear):
    forward = linear.forward
    linear.forward = lambda x: 2 * forward(x)  # as accelerate does
    return linear


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["subclass", "hook", "parametrisation", "forward"])
def test_any_linear_keeps_its_own_forward(kind, method):
    model = bert(1)
    layer = model.encoder.layer[0]
    change = {"hook": hooked, "parametrisation": parametrised, "forward": replaced}.get(kind)
    for owner, name in ((layer.attention.self, "query"), (layer.intermediate, "dense"), (layer.output, "dense")):
        linear = getattr(owner, name)
        if change is None:
            new = Doubled(linear.in_features, linear.out_features)
            new.load_state_dict(linear.state_dict())
            setattr(owner, name, new)
        else:
            setattr(owner, name, change(linear))
    before, names = run(model), set(model.state_dict())
    handle = attach(model, config_of(method))
    torch.testing.assert_close(run(model), before)
    warm(handle)
    handle.train()
    for loss in (run(model).square().mean() + handle.extra_loss(),):
        loss.backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for a in handle.adapters for p in (a.A, a.B))
    assert {n for n in model.state_dict() if ".adapters." not in n} == names
    model.load_state_dict(model.state_dict())
    assert torch.equal(run(handle.detach()), before)


def test_an_open_linear_gives_the_numbers_of_the_fused_one():
    seen = []
    for kind in (nn.Linear, Doubled):
        torch.manual_seed(0)
        model = bert(1).double()
        q = model.encoder.layer[0].attention.self.query
        if kind is Doubled:
            new = Doubled(16, 16).double()
            new.load_state_dict({n: t / 2 for n, t in q.state_dict().items()})
            model.encoder.layer[0].attention.self.query = new
        handle = attach(model, mosld(balance=1.0))
        warm(handle)
        handle.train()
        seen.append(gradients(model, handle))
    assert_all_close(*seen)


def test_merging_into_a_quantised_linear_is_refused():
    bnb = pytest.importorskip("bitsandbytes")
    model = bert(1)
    model.encoder.layer[0].attention.self.query = bnb.nn.Linear4bit(16, 16, quant_type="nf4").to("cpu")
    handle = attach(model, AdapterConfig(method="lora", rank=2, targets="q"))
    with pytest.raises(ConfigError, match=r"^merge: encoder.layer.0.attention.self.query is a Linear4bit .* merge into a base that is not quantised"):
        handle.merge()
    assert any(isinstance(m, Adapter) for m in model.modules())


def test_a_linear_whose_weight_is_read_past_it_is_refused_and_the_rest_of_the_layer_is_heard():
    layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, dropout=0).eval()
    model = nn.ModuleDict({"layer": layer})
    with pytest.raises(ConfigError, match=r"^targets: 'out_proj' is layer.self_attn.out_proj, whose weight MultiheadAttention reads without"):
        attach(model, mosld(targets="out_proj"))
    handle = attach(model, mosld(targets="linear1"))
    x = torch.randn(2, 3, 16)
    with torch.no_grad():
        before = layer(x)
        warm(handle)
        assert not torch.allclose(layer(x), before, atol=1e-3)  # torch's fast path reads weights past their linears


class Lonely(nn.Module):
    """One of its linears is never called."""

    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        return self.used(x) + nn.functional.linear(x, self.unused.weight)


def test_an_adapter_that_never_runs_is_named_after_the_first_training_pass():
    model = Lonely()
    handle = attach(model, mosld(targets="used,unused"))
    handle.train()
    with pytest.warns(UserWarning, match="^adapters: 1 of 2 took no part in the first training pass, unused first"):
        model(torch.randn(2, 8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(2, 8))


# Several sets, copies, what stays as it was


def test_two_handles_on_one_model_and_either_order_of_detaching():
    for first in (0, 1):
        model = bert(1)
        flags = [p.requires_grad for p in model.parameters()]
        handles = [attach(model, mosld(targets="q,v")), attach(model, mosld(targets="up"))]
        assert all(p.requires_grad for h in handles for p in h.parameters())
        assert Handle.of(model) is handles[1]
        handles[first].detach()
        own = {id(p) for p in handles[1 - first].parameters()}
        assert all(p.requires_grad == (id(p) in own) for p in model.parameters())
        handles[1 - first].detach()
        assert [p.requires_grad for p in model.parameters()] == flags
        with pytest.raises(ConfigError, match="^model: this BertModel has no adapters; attach some first"):
            Handle.of(model)


def test_pefts_adapters_stay_trainable_and_are_left_alone():
    import peft

    model = peft.get_peft_model(bert(1), peft.LoraConfig(r=2, target_modules=["query"]))
    theirs = [p for n, p in model.named_parameters() if "lora_" in n]
    with pytest.raises(ConfigError, match="has adapters already"):
        attach(model, mosld(targets="q,v"))
    handle = attach(model, mosld(targets="v"))
    assert all(p.requires_grad for p in theirs) and len(handle.adapters) == 1
    handle.detach()
    assert all(p.requires_grad for p in theirs)


def test_sets_by_name_are_switched_disabled_and_taken_out():
    model = bert(2)
    base = run(model)
    handle = attach(model, mosld(targets="q,v"))
    warm(handle)
    first = run(model)
    handle.add("second", AdapterConfig(method="lora", rank=3, targets="q,up"))
    assert handle.names == ["default", "second"] and handle.active == "second" and handle.config.method == "lora"
    torch.testing.assert_close(run(model), base)
    warm(handle, seed=5)
    second = run(model)
    assert {n for n, p in model.named_parameters() if p.requires_grad} == {n for n, _ in model.named_parameters() if ".adapters.second." in n}
    with handle.disabled():
        assert torch.equal(run(model), base)
    assert torch.equal(run(model), second)
    handle.switch("default")
    assert torch.equal(run(model), first) and all(p.requires_grad for p in handle.parameters())
    for sentence, act in [
        ("^name: 'third' is no set of adapters here; choose default, second", lambda: handle.switch("third")),
        ("^name: 'second' is not allowed", lambda: handle.add("second", mosld())),
        ("^name: 'default' cannot be taken out; choose second", lambda: handle.remove("default")),
    ]:
        with pytest.raises(ConfigError, match=sentence):
            act()
    with pytest.raises(ConfigError, match="^targets: 'zebra' is no linear"):
        handle.add("third", mosld(targets="zebra"))
    assert torch.equal(run(model), first)
    handle.remove("second")
    assert handle.names == ["default"] and not any("second" in n for n, _ in model.named_parameters())
    assert torch.equal(run(handle.detach()), base)


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_after_a_training_pass_has_adapters_and_a_handle_of_its_own(method):
    model = bert(1)
    handle = attach(model, config_of(method))
    warm(handle)
    handle.train()
    run(model)
    twin = copy.deepcopy(model)
    other = Handle.of(twin)
    assert other.model is twin and other is not handle
    handle.train(False)
    other.train(False)
    before = run(model)
    assert torch.equal(run(twin), before)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    run(twin)
    assert torch.equal(run(model), before)
    other.detach()
    assert any(isinstance(m, Adapter) for m in model.modules()) and not any(isinstance(m, Adapter) for m in twin.modules())


@pytest.mark.parametrize("values", [{"targets": "q,zebra"}, {"rank": 17}, {"targets": "q,up,down", "method": "mixlora", "rank": 17}])
def test_what_is_refused_leaves_no_trace(values):
    model = bert(1)
    before = {n: (p, p.requires_grad) for n, p in model.named_parameters()}
    modules, hooks = list(model.modules()), len(model._forward_pre_hooks)
    with pytest.raises(ConfigError):
        attach(model, mosld(**values))
    assert list(model.modules()) == modules and len(model._forward_pre_hooks) == hooks
    assert {n: (p, p.requires_grad) for n, p in model.named_parameters()} == before


def test_a_failing_method_leaves_no_trace():
    class Broken(Adapter):
        def build(self):
            raise RuntimeError("no room")

    model = bert(1)
    modules = list(model.modules())
    with pytest.raises(RuntimeError):
        attach(model, mosld(), cls=Broken)
    assert list(model.modules()) == modules and all(p.requires_grad for p in model.parameters())


def test_a_detached_model_keeps_no_adapters_alive():
    model = bert(1)
    handle = attach(model, mosld())
    seen = weakref.ref(handle.adapters[0])
    handle.detach()
    del handle
    gc.collect()
    assert seen() is None
    assert not model._forward_pre_hooks and not model._forward_hooks


def test_gpt2_generates_alike_with_and_without_its_cache():
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=32)).eval()
    handle = attach(model, mosld())
    warm(handle)
    out = [model.generate(IDS[:, :4], max_new_tokens=6, do_sample=False, use_cache=c, pad_token_id=0) for c in (True, False)]
    assert torch.equal(*out)
