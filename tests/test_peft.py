"""The lab's methods as PEFT methods: the same numbers as a Handle's, bit for bit, and what a PEFT user does with them."""

import copy
import dataclasses
import json

import peft
import pytest
import torch
from peft import AutoPeftModelForSequenceClassification, PeftModel, get_peft_model
from safetensors.torch import load_file
from torch._utils import ExceptionWrapper
from transformers import AutoModelForSequenceClassification

import mosld.peft
from mosld.adapters import attach
from mosld.config import METHODS, AdapterConfig, ConfigError
from mosld.peft import MoSLDConfig, Sets, fit, routing, texts
from tests.adapters.zoo import FAMILIES

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

BERT, LLAMA = FAMILIES["bert-classifier"], FAMILIES["llama"]
QV, BLOCK = ["query", "value"], r".*(query|value|intermediate\.dense|\d\.output\.dense)"


def config(method="mosld", **values):
    """Rank 2, experts by layer group, a balance loss that shows; MixLoRA gets the block that its experts are."""
    targets = BLOCK if method == "mixlora" else QV
    return MoSLDConfig(**{"method": method, "rank": 2, "experts": "3-4", "dropout": 0.3, "balance": 1.0, "target_modules": targets, **values})


def batch(family=BERT):
    inputs = family.inputs(family, (0, 1))
    return {**inputs, "labels": torch.tensor([0, 1]) if family is BERT else inputs["input_ids"]}


def warm(model):
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            if p.requires_grad:
                p.add_(torch.randn(p.shape, generator=g) * (0.1 if p.numel() > 1 else 0.003))
    return model


def logits(model, inputs=None):
    with torch.no_grad():
        return model.eval()(**(inputs or batch())).logits


def adapted(method="mosld", family=BERT, **values):
    return warm(get_peft_model(family.build(), config(method, **values)))


def same(again, model, expected):
    """The very tensors; of a mixture of blocks the sums differ by where in memory its weights begin."""
    state = model.state_dict()
    assert again.state_dict().keys() == state.keys() and all(torch.equal(t, state[n]) for n, t in again.state_dict().items())
    torch.testing.assert_close(logits(again), expected, atol=1e-7, rtol=1e-6)


def step(model, loss, parameters, seed):
    """Gradients and the parameters after one step of AdamW, with masks from this seed."""
    model.train()
    torch.manual_seed(seed)
    value = loss()
    value.backward()
    torch.optim.AdamW(parameters, lr=0.01).step()
    gradients = [None if p.grad is None else p.grad.clone() for p in parameters]
    for p in parameters:
        p.grad = None
    return value.detach(), gradients


@pytest.mark.parametrize("method", METHODS)
def test_peft_and_handle_give_the_same_numbers_bit_for_bit(method):
    ours, theirs = BERT.build(), BERT.build()
    theirs = get_peft_model(theirs, config(method))
    settings = config(method).adapter(("q", "v", "up", "down") if method == "mixlora" else ("q", "v"))
    handle = attach(ours, settings)
    own = dict(handle.named_parameters())
    of = {a.site.name: a for a in Sets.of(theirs).adapters}
    mine = {f"{name}.{n}": p for name, a in of.items() for n, p in a.named_parameters()}
    assert own.keys() == mine.keys() and all(torch.equal(own[n], mine[n]) for n in own)
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == handle.count()
    assert torch.equal(logits(ours), logits(theirs))
    inputs = batch()
    for seed in range(3):
        a = step(ours, lambda: ours(**inputs).loss + handle.extra_loss(), list(own.values()), seed)
        b = step(theirs, lambda: theirs(**inputs).loss, list(mine.values()), seed)
        assert torch.equal(a[0], b[0])
        assert all(torch.equal(x, y) for x, y in zip(a[1], b[1], strict=True))
    assert all(torch.equal(own[n], mine[n]) for n in own) and torch.equal(logits(ours), logits(theirs))
    for name, record in routing(theirs).items():
        assert torch.equal(record.gate, handle.routing()[name].gate)


def test_lora_equals_pefts_own_over_ten_steps():
    ours = get_peft_model(BERT.build().double(), config("lora", rank=4, alpha=16, dropout=0.0))
    theirs = get_peft_model(BERT.build().double(), peft.LoraConfig(r=4, lora_alpha=16, target_modules=QV), autocast_adapter_dtype=False)
    state = dict(theirs.named_parameters())
    mine = [p for a in Sets.of(ours).adapters for p in (a.A, a.B)]
    of = [state[f"base_model.model.{a.site.name}.lora_{m}.default.weight"] for a in Sets.of(ours).adapters for m in "AB"]
    with torch.no_grad():
        for p, q in zip(mine, of, strict=True):
            q.copy_(p)
    for model, parameters in ((ours, mine), (theirs, of)):
        model.eval()
        optimiser = torch.optim.AdamW(parameters, lr=0.01)
        for _ in range(10):
            model(**batch()).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    for p, q in zip(mine, of, strict=True):
        torch.testing.assert_close(p, q, atol=1e-9, rtol=1e-7)


@pytest.mark.parametrize("method", ["mosld", "lora", "mixlora", "mtl-lora", "mor1e"])
def test_save_and_load(tmp_path, method):
    model = adapted(method)
    expected = logits(model)
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(t.numel() for t in saved.values()) == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert all(".mosld_adapter." in name and "default" not in name for name in saved)
    again = PeftModel.from_pretrained(BERT.build(), tmp_path)
    same(again, model, expected)
    assert not any(p.requires_grad for p in again.parameters())
    assert again.peft_config["default"].method == method and again.peft_config["default"].experts == model.peft_config["default"].experts
    low = PeftModel.from_pretrained(BERT.build(), tmp_path, low_cpu_mem_usage=True, is_trainable=True)
    same(low, model, expected)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["peft_type"] == "MOSLD"


def test_one_call_loads_base_and_adapter_with_peft_and_with_transformers(tmp_path):
    BERT.build().save_pretrained(tmp_path / "base")
    base = AutoModelForSequenceClassification.from_pretrained(tmp_path / "base")
    model = warm(get_peft_model(base, config(task_type="SEQ_CLS")))
    expected = logits(model)
    model.save_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "adapter")), expected)
    native = AutoModelForSequenceClassification.from_pretrained(tmp_path / "adapter")
    assert torch.equal(logits(native), expected)


def test_several_adapters_on_different_linears(tmp_path):
    model = get_peft_model(BERT.build(), config())
    plain = logits(BERT.build())
    warm(model)
    first = logits(model)
    model.add_adapter("other", config("lora", target_modules=["key", "value"]))
    assert torch.equal(logits(model), first)
    model.set_adapter("other")
    assert torch.allclose(logits(model), plain, atol=1e-6)
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert trained and all(".mosld_adapter.other." in n for n in trained)
    warm(model)
    second = logits(model)
    assert not torch.allclose(second, plain, atol=1e-3)
    assert model.train()(**batch()).loss < 1.1  # plain LoRA has no balance loss, and none of the first adapter's is left
    model.set_adapter("default")
    assert torch.equal(logits(model), first)
    with model.disable_adapter():
        assert torch.equal(logits(model), plain)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(BERT.build(), tmp_path)
    again.load_adapter(tmp_path / "other", "other")
    again.set_adapter("other")
    assert torch.equal(logits(again), second)
    model.delete_adapter("other")
    assert torch.equal(logits(model), first)
    with pytest.raises(ConfigError, match="other, default|default, other"):
        again.base_model.set_adapter(["other", "default"])
        again(**batch())


def test_a_head_is_trained_and_saved_along(tmp_path):
    model = get_peft_model(BERT.build(), config(task_type="SEQ_CLS"))  # peft itself adds the classifier for this task type
    assert any("classifier.modules_to_save" in n for n, p in model.named_parameters() if p.requires_grad)
    named = get_peft_model(BERT.build(), config(modules_to_save=["classifier"]))
    for one in (model, named):
        warm(one)
        one.save_pretrained(tmp_path)
        again = PeftModel.from_pretrained(BERT.build(seed=0), tmp_path)
        assert torch.equal(logits(again), logits(one))


@pytest.mark.parametrize(
    "values,count",
    [
        ({"target_modules": "all-linear"}, 13),  # six linears in each of two layers and the pooler's; not the classifier
        ({"target_modules": ["query", "value"], "exclude_modules": ["layer.0.attention.self.query"]}, 3),
        ({"target_modules": ["query", "value"], "layers_to_transform": [1], "experts": "3"}, 2),
        ({"target_modules": r".*layer\.1.*(query|key)", "experts": "3"}, 2),
        ({"target_modules": None}, 4),
        ({"experts": "0-3"}, 2),
    ],
)
def test_targets(values, count):
    model = get_peft_model(BERT.build(), config(task_type="SEQ_CLS", **values))
    found = Sets.of(model).adapters
    assert len(found) == count and {a.site.experts for a in found} <= {3, 4}
    assert torch.allclose(logits(model), logits(BERT.build()), atol=1e-6)


def test_the_loss_holds_the_balance_loss_in_training_alone():
    model = adapted(dropout=0.0)
    extra = Sets.of(model).extra_loss
    with_it = model.train()(**batch()).loss
    assert float(extra()) > 1
    for a in Sets.of(model).adapters:
        a.context.balance = 0.0
    without = model(**batch()).loss
    torch.testing.assert_close(with_it - without, with_it.new_tensor(4.0), atol=2.0, rtol=0)
    assert model(**batch(), return_dict=False)[0].shape == ()
    with torch.no_grad():
        a = model.eval()(**batch()).loss
    assert torch.equal(a, torch.nn.functional.cross_entropy(logits(model), batch()["labels"]))


def test_gradient_checkpointing_is_exact_with_dropout():
    def gradients(on):
        model = adapted(family=LLAMA, target_modules=["q_proj", "v_proj"])
        if on:
            model.enable_input_require_grads()
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
        torch.manual_seed(3)
        model(**batch(LLAMA)).loss.backward()
        return [p.grad for p in model.parameters() if p.requires_grad]

    assert all(torch.equal(a, b) for a, b in zip(gradients(False), gradients(True), strict=True))


def test_adapters_are_float32_on_a_bfloat16_base_and_stay_so():
    model = get_peft_model(BERT.build().bfloat16(), config())
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    model(**batch()).loss.backward()
    model.to(torch.bfloat16)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert logits(model).dtype == torch.bfloat16


def test_deepcopy_has_adapters_and_hooks_of_its_own():
    model = adapted()
    model.train()(**batch())
    before = logits(model)
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), before)
    for p in twin.parameters():
        if p.requires_grad:
            p.data.add_(1.0)
    assert torch.equal(logits(model), before) and not torch.equal(logits(twin), before)
    assert Sets.of(twin) is not Sets.of(model)
    assert float(twin.train()(**batch()).loss.detach()) > 1 and not any(a.last is not None and a.aux is not None for a in Sets.of(model).adapters)


def test_lora_merges_and_comes_apart_again_bit_for_bit():
    model = adapted("lora", dropout=0.0)
    adapted_logits = logits(model)
    with model.disable_adapter():
        plain = logits(model)
    model.merge_adapter()
    torch.testing.assert_close(logits(model), adapted_logits)
    model.unmerge_adapter()
    assert torch.equal(logits(model), adapted_logits)
    merged = model.merge_and_unload()
    torch.testing.assert_close(logits(merged), adapted_logits)
    assert not torch.allclose(logits(merged), plain, atol=1e-3)
    assert not merged._forward_hooks and not merged._forward_pre_hooks


def test_routed_methods_say_why_they_do_not_merge_and_unload_gives_the_base_back():
    model = adapted()
    for merge in (model.merge_and_unload, model.merge_adapter):
        with pytest.raises(ConfigError, match="MoSLD weighs its experts anew for every input"):
            merge()
    assert torch.equal(logits(model.unload()), logits(BERT.build()))


@pytest.mark.parametrize(
    "make,sentence",
    [
        (lambda: MoSLDConfig(method="zebra"), "^method: 'zebra' is not known; choose one of"),
        (lambda: MoSLDConfig(top_k=9), "^top_k: 9 is above the number of experts, 4"),
        (lambda: config(target_modules=".*query", layers_to_transform=[0]), "^layers_to_transform: "),
        (lambda: get_peft_model(BERT.build(), config(rank=30)), "^rank: 30 is above the smaller side of"),
        (lambda: get_peft_model(BERT.build(), config("mixlora", target_modules=["query", "intermediate.dense"])), "^targets: .* together"),
        (lambda: adapted()(**batch(), adapter_names=["default", "default"]), "^adapter_names: "),
        (lambda: Sets.of(BERT.build()), "has no adapters of the lab"),
    ],
)
def test_what_cannot_be_is_one_sentence(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_a_refused_adapter_leaves_the_model_as_it_was():
    model = BERT.build()
    names, before = [n for n, _ in model.named_modules()], logits(model)
    with pytest.raises(ConfigError):
        get_peft_model(model, config(rank=30))
    assert [n for n, _ in model.named_modules()] == names and torch.equal(logits(model), before) and not model._forward_hooks


def test_task_ids_reach_the_adapters():
    model = adapted("mtl-lora", tasks=2)
    with texts(model, task=torch.tensor([0, 1])):
        mixed = logits(model)
    with texts(model, task=torch.tensor([0, 0])):
        same = logits(model)
    assert torch.equal(mixed[0], same[0]) and not torch.allclose(mixed[1], same[1], atol=1e-4)


def test_centroids_are_fitted_count_and_are_saved(tmp_path):
    """MoR1E's gate holds the similarity of a text with centroids: as with the handle, through files, in a copy, after a cast and with beams."""
    points, instance = torch.randn(40, 6), torch.randn(2, 6)
    model, ours = adapted("mor1e", dropout=0.0), BERT.build()
    handle = attach(ours, config("mor1e", dropout=0.0).adapter(("q", "v")))
    with pytest.raises(ConfigError, match="^instance: sentence embeddings are given, but no centroids"), texts(model, instance=instance):
        logits(model)
    fit(model, points)
    handle.fit(points)
    for p, q in zip(handle.parameters(), [q for a in Sets.of(model).adapters for q in a.parameters()], strict=True):
        p.data.copy_(q.data)
    with texts(model, instance=instance), handle.context(instance=instance):
        expected = logits(model)
        assert torch.equal(logits(ours), expected)
    assert not torch.allclose(logits(model), expected, atol=1e-4)
    model.save_pretrained(tmp_path)
    for low in (False, True):
        again = PeftModel.from_pretrained(BERT.build(), tmp_path, low_cpu_mem_usage=low)
        with texts(again, instance=instance):
            torch.testing.assert_close(logits(again), expected, atol=1e-7, rtol=1e-6)
    twin = copy.deepcopy(model)
    assert twin.to(torch.bfloat16) is twin and all(a.centroids.dtype == torch.float32 for a in Sets.of(twin).adapters)
    inputs = {k: v.repeat_interleave(2, 0) for k, v in batch().items()}
    with texts(model, instance=instance):
        torch.testing.assert_close(logits(model, inputs)[::2], expected)
        with pytest.raises(ConfigError, match="^instance: embeddings of 2 texts are given, but the batch has 4; give one a text"):
            model(**inputs)
    with (
        texts(model, instance=instance[:, :4]),
        pytest.raises(ConfigError, match="^instance: embeddings of size 4 are compared"),
    ):
        logits(model)
    with pytest.raises(ConfigError, match="^fit: MoSLD looks at no sentence embedding; mor1e does"):
        fit(adapted(), points)


def test_nf4_trains_and_equals_the_handle():
    bnb = pytest.importorskip("bitsandbytes")

    family = dataclasses.replace(BERT, sizes={**BERT.sizes, "hidden_size": 64, "intermediate_size": 64})  # what its kernels can pack

    def quantised():
        model = family.build()
        for name, module in list(model.named_modules()):
            if type(module) is torch.nn.Linear and "layer" in name:
                new = bnb.nn.Linear4bit(module.in_features, module.out_features, quant_type="nf4", compute_dtype=torch.float32)
                new.weight = bnb.nn.Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
                new.bias = module.bias
                model.set_submodule(name, new)
        return model.to("cpu")

    ours, theirs = quantised(), get_peft_model(quantised(), config(dropout=0.0))
    handle = attach(ours, config(dropout=0.0).adapter())
    # bitsandbytes packs a weight anew for the CPU when it is first evaluated, and no gradient passes it from then on: evaluate copies
    torch.testing.assert_close(logits(get_peft_model(quantised(), config())), logits(quantised()), atol=1e-5, rtol=1e-5)
    own, mine = handle.parameters(), [p for a in Sets.of(theirs).adapters for p in a.parameters()]
    for seed in range(3):
        a = step(ours, lambda: ours(**batch()).loss + handle.extra_loss(), own, seed)
        b = step(theirs, lambda: theirs(**batch()).loss, mine, seed)
        assert torch.equal(a[0], b[0])
    assert torch.equal(logits(ours), logits(theirs)) and all(torch.equal(x, y) for x, y in zip(own, mine, strict=True))
    with pytest.raises(ConfigError, match="^merge: "):
        get_peft_model(quantised(), config("lora")).merge_and_unload()


def test_a_peft_that_is_built_otherwise_is_refused_in_one_sentence(monkeypatch):
    monkeypatch.setattr(mosld.peft, "register_peft_method", lambda *, label, cls: None)
    with pytest.raises(ImportError, match=rf"^peft: version {peft.__version__} is built otherwise inside; mosld.peft was written for peft .*\.$"):
        mosld.peft._register()


def test_every_knob_of_the_schema_is_there_once():
    fields = {f for f in MoSLDConfig.__dataclass_fields__}
    assert set(AdapterConfig.model_fields) - {"targets", "exclude"} <= fields
    assert all(MoSLDConfig.__dataclass_fields__[k].metadata["help"] for k in AdapterConfig.model_fields if k not in ("targets", "exclude"))


@pytest.mark.parametrize("router", ["text", "instruction", "task", "random", "hash", "uniform"])
def test_every_router_is_as_in_a_handle_and_comes_back_from_disk(tmp_path, router):
    model = adapted("mosld", router=router, tasks=2)
    instruction = torch.zeros_like(batch()["input_ids"])
    instruction[:, 1:3] = 1
    known = {"task": torch.tensor([0, 1]), "instruction": instruction}
    with texts(model, **known):
        expected = logits(model)
    handle = attach(other := BERT.build(), config("mosld", router=router).adapter(("q", "v")), tasks=2)
    for own, theirs in zip(handle.adapters, Sets.of(model).adapters, strict=True):
        own.load_state_dict(theirs.state_dict())
    with handle.context(**known):
        assert torch.equal(logits(other), expected)
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(BERT.build(seed=0), tmp_path)
    with texts(again, **known):
        assert torch.equal(logits(again), expected)


@pytest.mark.parametrize("through", ["handle", "peft"])
def test_a_copy_for_data_parallel_is_refused_in_one_sentence(through):
    """What nn.DataParallel makes of a module before it runs it on another device: a shallow copy that is marked."""
    base = BERT.build()
    model = get_peft_model(base, config()) if through == "peft" else attach(base, AdapterConfig(rank=2, targets=("q", "v"))).model
    layer = next(m for m in model.modules() if type(m).__name__ in ("MoSLDLayer", "AdaptedLinear"))
    copied, width = layer._replicate_for_data_parallel(), base.config.hidden_size
    assert layer(torch.randn(1, 3, width)).shape[:2] == (1, 3)
    with pytest.raises(ConfigError, match="DataParallel: its copies of a model share no adapters") as own:
        copied(torch.randn(1, 3, width))
    with pytest.raises(ConfigError) as across:  # as torch hands it from the copy's thread to the caller's
        ExceptionWrapper((ConfigError, own.value, own.tb), where="in replica 1 on device 1").reraise()
    assert str(across.value) == str(own.value)
