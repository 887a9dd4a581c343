"""Quantised bases of every kind that can be had: adapters over them start as the base, train alone, are saved, and leave it as it was."""

import copy
import importlib.util
import warnings

import pytest
import torch
import transformers
from torch import nn

import mosld.peft
from mosld.adapters import Handle, attach
from mosld.adapters.adapter import Adapter
from mosld.config import AdapterConfig, ConfigError
from tests.adapters.models import run
from tests.adapters.test_attach import config_of, warm

HAS = {name: importlib.util.find_spec(name) is not None for name in ("bitsandbytes", "torchao")}
KINDS = {
    "bitsandbytes nf4": "Params4bit",
    "bitsandbytes int8": "Int8Params",
    "torchao int8": "Int8Tensor",
    "torchao int4": "IntxUnpackedToInt8Tensor",
    "torchao float8": "Float8Tensor",
}


def ours(name, module):
    return type(module) is nn.Linear and "layer" in name


def with_bitsandbytes(model, kind):
    import bitsandbytes as bnb

    for name, module in list(model.named_modules()):
        if ours(name, module):
            place, dtype = (module.in_features, module.out_features), module.weight.dtype
            new = (
                bnb.nn.Linear4bit(*place, quant_type="nf4", compute_dtype=dtype)
                if kind == "nf4"
                else bnb.nn.Linear8bitLt(*place, has_fp16_weights=False)
            )
            new.load_state_dict(module.state_dict())
            model.set_submodule(name, new.to("cpu"))
    return model


def with_torchao(model, kind):
    from torchao import quantization as q
    from torchao.quantization.granularity import PerGroup

    made = {
        "int8": lambda: q.Int8WeightOnlyConfig(),
        "int4": lambda: q.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(32)),
        "float8": lambda: q.Float8WeightOnlyConfig(),
        "activations": lambda: q.Int8DynamicActivationInt8WeightConfig(),
    }
    q.quantize_(model, made[kind](), filter_fn=lambda module, name: ours(name, module))
    return model


def build(kind, dtype=torch.float32):
    """A BERT of width 64, quantised; the same each time."""
    package, _, how = kind.partition(" ")
    if not HAS[package]:
        pytest.skip(f"{package} is not installed")
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    model = transformers.BertModel(transformers.BertConfig(**sizes)).eval().to(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {"bitsandbytes": with_bitsandbytes, "torchao": with_torchao}[package](model, how)


def train(model, handle):
    handle.train()
    optimiser = torch.optim.AdamW(handle.parameters(), lr=0.01)
    torch.manual_seed(1)
    y = run(model).float()
    ((y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum() + handle.extra_loss()).backward()
    gradients = [p.grad.clone() for p in handle.parameters()]
    optimiser.step()
    handle.train(False)
    return gradients


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", KINDS)
def test_from_attach_to_detach(kind, dtype, tmp_path):
    model = build(kind, dtype)
    layer = model.encoder.layer[0].attention.self.query
    assert type(layer.weight).__name__ == KINDS[kind]
    names, before = set(model.state_dict()), run(model)
    handle = attach(model, config_of("mosld", experts="3", dropout=0.3, targets="q,v,up"))
    assert torch.equal(run(model), before)
    warm(handle)
    gradients = train(model, handle)
    assert all(g.dtype == torch.float32 and g.isfinite().all() and g.abs().max() > 0 for g in gradients)
    own = {id(p) for p in handle.parameters()}
    assert all(p.grad is None and not p.requires_grad for p in model.parameters() if id(p) not in own)
    assert {n for n in model.state_dict() if ".adapters." not in n} == names
    after = run(model)
    assert not torch.allclose(after, before, atol=1e-2)
    handle.save(tmp_path)
    again = Handle.from_pretrained(tmp_path, model=build(kind, dtype))
    assert torch.equal(run(again.model), after)
    assert torch.equal(run(copy.deepcopy(model)), after)
    with pytest.raises(ConfigError, match=r"^merge: "):
        (handle.add("plain", AdapterConfig(method="lora", rank=2)) or handle).merge()
    assert any(isinstance(m, Adapter) for m in model.modules())
    assert torch.equal(run(handle.detach()), before)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradients_are_those_over_the_dequantised_weights(kind):
    """The same base with each quantised linear's own matrix, read off its answers to unit vectors, as an ordinary weight."""
    model = build(kind)
    twin = copy.deepcopy(model)
    for name, module in list(twin.named_modules()):
        if hasattr(module, "weight") and type(module.weight).__name__ == KINDS[kind]:
            plain = nn.Linear(module.in_features, module.out_features)
            with torch.no_grad():
                shift = module(torch.zeros(1, module.in_features))[0]
                plain.bias.copy_(shift)
                plain.weight.copy_((module(torch.eye(module.in_features)) - shift).t())
            twin.set_submodule(name, plain)
    found = []
    for one in (model, twin):
        handle = attach(one, config_of("mosld", experts="3", top_k=0, dropout=0.3))  # a dense gate: no choice hangs on a last digit
        warm(handle)
        found.append(train(one, handle))
    close = 0.1 if "int8" in kind and "bits" in kind else 1e-3  # bitsandbytes rounds the input to int8 too
    for a, b in zip(*found, strict=True):
        assert (a - b).norm() <= close * b.norm()


@pytest.mark.filterwarnings("ignore")
def test_a_base_that_lets_no_gradient_through_is_refused_in_training_and_serves_in_evaluation():
    model = build("torchao activations")
    before = run(model)
    handle = attach(model, config_of("mosld"))
    assert torch.equal(run(model), before)
    handle.train()
    with pytest.raises(ConfigError, match=r"^base: encoder.layer.0.attention.self.query is in a form for evaluation alone and gives no gradient"):
        run(model)
    handle.train(False)
    assert torch.equal(run(model), before)


@pytest.mark.filterwarnings("ignore")
def test_a_base_that_an_evaluation_repacked_is_refused_or_trains_as_before():
    """bitsandbytes packs nf4 anew on some processors when it is evaluated, and gives no gradients from then on."""
    model = build("bitsandbytes nf4")
    handle = attach(model, config_of("mosld"))
    warm(handle)
    model.train()
    train(model, handle)
    with torch.no_grad():
        run(model.eval())
    model.train()
    state = model.encoder.layer[0].attention.self.query.base.weight.quant_state
    if getattr(state, "packing_format_for_cpu", False):
        with pytest.raises(ConfigError, match=r"^base: encoder.layer.0.attention.self.query is in a form for evaluation alone"):
            train(model, handle)
    else:
        assert all(g.abs().max() > 0 for g in train(model, handle))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["torchao int8", "torchao int4"])
def test_a_compiled_linear_over_torchao_is_the_same(kind):
    torch._dynamo.reset()
    model = build(kind)
    handle = attach(model, config_of("mosld", experts="3", dropout=0.3, targets="q"))
    warm(handle)
    handle.train()
    layer, x, found = model.encoder.layer[0].attention.self.query, torch.randn(2, 3, 64), []
    for one in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        torch.manual_seed(1)
        y = one(x)
        found.append([y, *torch.autograd.grad((y * x).sum(), [layer.A, layer.B, layer.router])])
    torch.testing.assert_close(*found)


@pytest.mark.filterwarnings("ignore")
def test_loaded_by_transformers_and_trained_through_peft(tmp_path):
    """`quantization_config`, as a user quantises; PEFT's way of it gives the handle's numbers."""
    if not HAS["torchao"]:
        pytest.skip("torchao is not installed")
    from peft import PeftModel, get_peft_model
    from torchao.quantization import Int8WeightOnlyConfig

    sizes = {"vocab_size": 50, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, num_key_value_heads=2)).save_pretrained(tmp_path / "base")

    def base():
        quantised = transformers.TorchAoConfig(Int8WeightOnlyConfig())
        return transformers.LlamaForCausalLM.from_pretrained(tmp_path / "base", quantization_config=quantised)

    settings = {"method": "mosld", "rank": 2, "experts": "3", "dropout": 0.3, "balance": 0.1}
    ids = torch.arange(24).view(3, 8) + 1
    ours, theirs = base(), get_peft_model(base(), mosld.peft.MoSLDConfig(**settings, target_modules=["q_proj", "v_proj"]))
    assert type(ours.model.layers[0].self_attn.q_proj.weight).__name__ == "Int8Tensor"
    handle = attach(ours, AdapterConfig(**settings, targets="q,v"))
    trained = [p for p in theirs.parameters() if p.requires_grad]
    for parameters in (handle.parameters(), trained):
        g = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for p in parameters:
                p.add_(torch.randn(p.shape, generator=g) * 0.3)
    found = []
    for model, parameters, extra in ((ours, handle.parameters(), handle.extra_loss), (theirs, trained, lambda: 0)):
        model.train()
        torch.manual_seed(3)
        (model(input_ids=ids, labels=ids).loss + extra()).backward()
        found.append([p.grad for p in parameters])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    theirs.save_pretrained(tmp_path / "adapter")
    again = PeftModel.from_pretrained(base(), tmp_path / "adapter").eval()
    assert torch.equal(again(ids).logits, theirs.eval()(ids).logits)
