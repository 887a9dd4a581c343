"""Which linears a target names, in families that call them otherwise or keep them fused, and the sentences where none can be told."""

import re

import pytest
import torch
import transformers
from torch import nn

from mosld.adapters import attach
from mosld.config import AdapterConfig, ConfigError
from tests.adapters.models import bert, llama
from tests.adapters.test_attach import warm
from tests.adapters.zoo import FAMILIES

IDS = torch.arange(24).view(3, 8) + 1
SMALL = {"vocab_size": 50, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 24}


def lora(**values):
    return AdapterConfig(**{"method": "lora", "rank": 2, **values})


def model_of(name, **values):
    config = getattr(transformers, f"{name}Config")(**values)
    return getattr(transformers, f"{name}Model")(config).eval()


GPT = {"vocab_size": 50, "n_embd": 16, "n_layer": 1, "n_head": 4, "n_positions": 16}
FUSED = {
    "gpt2": lambda: model_of("GPT2", **GPT),
    "bigcode-mqa": lambda: model_of("GPTBigCode", **GPT, multi_query=True),
    "bigcode-mha": lambda: model_of("GPTBigCode", **GPT, multi_query=False),
    "neox": lambda: model_of("GPTNeoX", **SMALL),
    "bloom": lambda: model_of("Bloom", vocab_size=50, hidden_size=16, n_layer=1, n_head=4),
    "falcon-mqa": lambda: model_of("Falcon", **SMALL, multi_query=True, new_decoder_architecture=False),
    "falcon-mha": lambda: model_of("Falcon", **SMALL, multi_query=False, new_decoder_architecture=False),
    "falcon-gqa": lambda: model_of("Falcon", **SMALL, num_kv_heads=2, new_decoder_architecture=True),
    "persimmon": lambda: model_of("Persimmon", **SMALL),
    "phi3": lambda: model_of("Phi3", **SMALL, num_key_value_heads=2, pad_token_id=0),
    "modernbert": lambda: model_of("ModernBert", **SMALL, pad_token_id=0, global_attn_every_n_layers=1),
    "mpt": lambda: model_of("Mpt", vocab_size=50, d_model=16, n_layers=1, n_heads=4),
    "deberta": lambda: model_of("Deberta", **SMALL, relative_attention=False),
}


def seen_by_attention(model):
    """q, k, v as the attention function gets them: [M, heads, L, d]."""
    caught = {}

    def spy(module, query, key, value, *args, **kwargs):
        caught.update(q=query, k=key, v=value)
        raise StopIteration

    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    model.set_attn_implementation("spy")
    with pytest.raises(StopIteration):
        model(input_ids=IDS)
    return caught


@pytest.mark.parametrize("family", ["gpt2", "bigcode-mqa", "bigcode-mha", "neox", "phi3", "modernbert"])
@pytest.mark.parametrize("target", ["q", "k", "v"])
def test_a_part_of_a_fused_linear_is_what_attention_takes_for_it(family, target):
    """An adapter on one of q, k and v changes that one at the model's own attention function, and the other two not at all."""
    model = FUSED[family]()
    before = seen_by_attention(model)
    handle = attach(model, lora(targets=target))
    warm(handle)
    after = seen_by_attention(model)
    assert {n for n in "qkv" if not torch.allclose(before[n], after[n], atol=1e-6)} == {target}
    size = handle.adapters[0].d_out
    assert size == before[target].shape[1] * before[target].shape[3] or before[target].shape[1] == 4  # heads that share keys may be repeated


@pytest.mark.parametrize("family", FUSED)
def test_parts_of_a_fused_linear_start_at_the_base_and_merge_exactly(family):
    torch.manual_seed(1)
    model = FUSED[family]().double()
    with torch.no_grad():
        base = model(input_ids=IDS).last_hidden_state
        for target in ("q", "k", "v"):
            handle = attach(model, lora(targets=target))
            torch.testing.assert_close(model(input_ids=IDS).last_hidden_state, base)
            warm(handle)
            adapted = model(input_ids=IDS).last_hidden_state
            assert (adapted - base).abs().max() > 1e-6, target
            fused = handle.frozen()[next(iter(handle.frozen()))]
            old = fused.weight.detach().clone()
            handle.merge()
            torch.testing.assert_close(model(input_ids=IDS).last_hidden_state, adapted)
            fused.weight = nn.Parameter(old)


@pytest.mark.parametrize("family", ["falcon-mqa", "falcon-mha", "falcon-gqa", "bloom", "persimmon", "mpt", "deberta"])
def test_values_alone_leave_the_attention_weights_as_they_are_and_queries_and_keys_change_them(family):
    model = FUSED[family]()
    if family != "deberta":
        model.set_attn_implementation("eager")
    weights = lambda: model(input_ids=IDS, output_attentions=True).attentions[0]  # noqa: E731
    with torch.no_grad():
        before = weights()
        for target in ("q", "k", "v"):
            handle = attach(model, lora(targets=target))
            warm(handle)
            assert torch.allclose(weights(), before, atol=1e-7) == (target == "v"), target
            assert handle.matched == {target: 1}
            handle.detach()


def test_a_cross_attention_has_its_own_split():
    model = model_of("GPT2", **GPT, add_cross_attention=True)
    handle = attach(model, lora(targets="q,k,v"))
    names = {a.site.name: a.d_out for a in handle.adapters}
    stem = "h.0.crossattention."
    assert {n.removeprefix(stem): d for n, d in names.items() if n.startswith(stem)} == {"c_attn.k": 16, "c_attn.v": 16, "q_attn": 16}
    assert handle.matched == {"q": 2, "k": 2, "v": 2}


def test_all_linears_of_the_layers_and_what_is_excluded():
    model = transformers.BertForSequenceClassification(transformers.BertConfig(**SMALL)).eval()
    handle = attach(model, lora(targets="all-linear"))
    assert handle.matched == {"all-linear": 6} and all(".layer.0." in a.site.name for a in handle.adapters)
    handle.detach()
    handle = attach(model, lora(targets="all-linear", exclude="k,output.dense"))
    assert [a.site.target for a in handle.adapters] == ["q", "v", "up"]


def test_a_regular_expression_fits_whole_names():
    model = bert(4)
    handle = attach(model, lora(targets=r"re:encoder\.layer\.[13]\..*\.(query|key)"))
    assert [a.site.name.split(".")[2] for a in handle.adapters] == ["1", "1", "3", "3"]
    handle.detach()
    with pytest.raises(ConfigError, match=r"^targets: 're:query' is no linear of this model"):
        attach(model, lora(targets="re:query"))


def test_a_module_of_no_list_of_layers_and_its_linears():
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    handle = attach(model, lora(targets="all-linear"))
    assert [a.site.name for a in handle.adapters] == ["0", "2"] and {a.site.layer for a in handle.adapters} == {0}


def test_fused_linears_that_cannot_be_taken_apart_are_named():
    model = model_of("CodeGen", **GPT, rotary_dim=4)
    with pytest.raises(ConfigError, match=r"^targets: 'q' is inside h.0.attn.qkv_proj \(CodeGenAttention\), .*; give 'qkv_proj' to adapt it whole"):
        attach(model, lora(targets="q,v"))
    assert attach(model, lora(targets="qkv_proj")).matched == {"qkv_proj": 1}


def test_experts_that_are_one_tensor_are_named():
    model = model_of("Mixtral", **SMALL, num_key_value_heads=2, num_local_experts=4)
    with pytest.raises(ConfigError, match=re.escape("its experts are one 3-D tensor each (layers.0.mlp.experts.")):
        attach(model, lora(targets="q,up"))
    assert attach(model, lora(targets="q,v")).matched == {"q": 1, "v": 1}


def test_counts_stand_in_the_handle_and_in_the_sentence():
    assert attach(llama(), lora(targets="q,v,gate_proj")).matched == {"q": 2, "v": 2, "gate_proj": 2}
    with pytest.raises(ConfigError, match=r"its linears end in q_proj, .*; q matched 2, v matched 2\."):
        attach(llama(), lora(targets="q,v,zebra"))


def test_no_layer_with_an_expert_is_one_sentence():
    with pytest.raises(ConfigError, match=r"^experts: '0-4' leaves no layer of this model an expert"):
        attach(bert(1), AdapterConfig(method="mosld", rank=2, experts="0-4"))


@pytest.mark.parametrize(
    "values,sentence",
    [
        *(({"method": m}, "^method: .* tells the texts of a batch apart") for m in ("mtl-lora", "loramoe", "mor1e", "conditional-mixlora")),
        *(({"router": r}, f"^router: '{r}' tells the texts of a batch apart") for r in ("text", "instruction", "task", "hash")),
    ],
)
def test_a_model_with_the_texts_second_takes_what_reads_tokens_alone(values, sentence):
    """A batch as long as its texts would pass every check of shapes with texts and tokens mixed up."""
    family = FAMILIES["xlnet"]
    model = family.build()
    with pytest.raises(ConfigError, match=sentence):
        attach(model, AdapterConfig(**{"method": "mosld", "rank": 2, "targets": family.targets, **values}))
    attach(model, AdapterConfig(method="mosld", rank=2, targets=family.targets, router="random"))
