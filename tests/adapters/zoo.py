"""A zoo of transformers families, each tiny and built from its config class: nothing is downloaded, weights are random.

    python -m tests.adapters.zoo             # the table of docs/zoo.md: family x check, in Markdown
    python -m tests.adapters.zoo bert clip   # some families, with the sentence of every failure

- `FAMILIES`: model, inputs, targets, and the blocks of each stack from bottom to top, written down by hand: what the checks of layers and
  expert groups are held against.
- `CHECKS`: ten checks that run alike on every family, in `tests/adapters/test_zoo.py` and in the table.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

if __name__ == "__main__":  # before torch is loaded, which takes seconds
    if {"-h", "--help"} & set(sys.argv):
        raise SystemExit(__doc__)
    print(f"Ten checks of {', '.join(sys.argv[1:]) or 'every family, some minutes'}.", file=sys.stderr, flush=True)

import torch
import transformers as T
from torch import Tensor, nn

from mosld.adapters import attach, saved_config
from mosld.config import AdapterConfig

LENGTHS = (6, 4)  # tokens of the two texts of a batch
D = 16


@dataclass(frozen=True)
class Family:
    """One row of the table.

    Args:
        model: its class, and `sizes` the arguments of its configuration.
        inputs: rows to keyword arguments of the model: the given texts, padded to the longest unless there is one alone.
        stacks: for each stack the paths of its blocks from bottom to top.
        dtypes: that the base itself can compute in.
        cannot: checks that the family cannot have, with the reason.
        remains: checks that fail today, with the cause.
    """

    model: str
    config: str
    sizes: dict
    inputs: Callable[[Family, tuple[int, ...]], dict]
    stacks: tuple[tuple[str, ...], ...]
    targets: str = "q,v"
    dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.bfloat16)
    cannot: dict[str, str] = field(default_factory=dict)
    remains: dict[str, str] = field(default_factory=dict)

    def build(self, seed: int = 0) -> nn.Module:
        torch.manual_seed(seed)
        model = getattr(T, self.model)(getattr(T, self.config)(**self.sizes)).eval()
        with torch.no_grad():
            for p in model.parameters():  # biases and layer scales that start at 0 or at 1e-6 would hide a fault
                if p.requires_grad:  # fixed sinusoids are not saved
                    p.add_(torch.randn_like(p) * 0.05)
        return model


# inputs


def _texts(rows: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Token ids and mask of the texts with these numbers; text i has LENGTHS[i] tokens. Padding has id 0."""
    longest = max(LENGTHS[i] for i in rows)
    ids, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
    for at, i in enumerate(rows):
        ids[at, : LENGTHS[i]] = torch.arange(LENGTHS[i]) * (3 + 2 * i) % 40 + 5 + i
        mask[at, : LENGTHS[i]] = 1
    return ids, mask


def text(family: Family, rows: tuple[int, ...]) -> dict:
    ids, mask = _texts(rows)
    return {"input_ids": ids, "attention_mask": mask}


def pair(family: Family, rows: tuple[int, ...]) -> dict:
    """Encoder and decoder, of different lengths."""
    ids, mask = _texts(rows)
    extra = torch.full((len(rows), 2), 7)
    return {
        "input_ids": torch.cat([extra, ids], 1),
        "attention_mask": torch.cat([torch.ones_like(extra), mask], 1),
        "decoder_input_ids": ids,
        "decoder_attention_mask": mask,
    }


def crossed(family: Family, rows: tuple[int, ...]) -> dict:
    """A decoder that looks at another model's states."""
    ids, mask = _texts(rows)
    states = torch.sin(torch.arange(3 * D, dtype=torch.get_default_dtype())).view(1, 3, D)
    return {"input_ids": ids, "attention_mask": mask, "encoder_hidden_states": torch.cat([states * (i + 1) for i in rows])}


def _wave(rows: tuple[int, ...], *shape: int) -> Tensor:
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.get_default_dtype())
    return torch.stack([torch.sin(numbers * 0.7 + i).view(shape) for i in rows])


def image(family: Family, rows: tuple[int, ...]) -> dict:
    side = family.sizes.get("image_size", 8)
    return {"pixel_values": _wave(rows, 3, side, side)}


def audio(family: Family, rows: tuple[int, ...]) -> dict:
    """Waves of 60 and 40 samples."""
    lengths = [LENGTHS[i] * 10 for i in rows]
    wave, mask = _wave(rows, max(lengths)), torch.zeros(len(rows), max(lengths), dtype=torch.long)
    for at, n in enumerate(lengths):
        wave[at, n:], mask[at, :n] = 0, 1
    return {"input_values": wave, "attention_mask": mask}


def speech(family: Family, rows: tuple[int, ...]) -> dict:
    """Whisper: as many frames for every text, and a decoder."""
    ids, mask = _texts(rows)
    return {"input_features": _wave(rows, 4, 20), "decoder_input_ids": ids, "decoder_attention_mask": mask}


def layout(family: Family, rows: tuple[int, ...]) -> dict:
    ids, mask = _texts(rows)
    box = torch.stack([ids, ids, ids + 5, ids + 6], -1)
    return {"input_ids": ids, "attention_mask": mask, "bbox": box, "pixel_values": _wave(rows, 3, 8, 8)}


def both(family: Family, rows: tuple[int, ...]) -> dict:
    """Two towers: texts and pictures."""
    ids, mask = _texts(rows)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": _wave(rows, 3, 8, 8)}


# families


def blocks(path: str, n: int = 2) -> tuple[str, ...]:
    return tuple(f"{path}.{i}" for i in range(n))


BERT = {"vocab_size": 50, "hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "max_position_embeddings": 32}
LLAMA = {**BERT, "num_key_value_heads": 1, "pad_token_id": 0}
MOE = {**LLAMA, "moe_intermediate_size": 8, "num_local_experts": 2, "num_experts": 2, "num_experts_per_tok": 1}
BART = {
    "vocab_size": 50,
    "d_model": D,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 24,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
}
T5 = {"vocab_size": 50, "d_model": D, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_decoder_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
VIT = {"hidden_size": D, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 8, "patch_size": 4}
WAVE = {
    **{k: v for k, v in BERT.items() if k != "max_position_embeddings"},
    "conv_dim": (8, 8),
    "conv_kernel": (4, 2),
    "conv_stride": (3, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 4,
    "num_conv_pos_embedding_groups": 2,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "mask_time_prob": 0.0,
    "num_negatives": 2,
    "codevector_dim": 8,
    "proj_codevector_dim": 8,
    "pad_token_id": 0,
}
TOWER = {
    "text_config": {**BERT, "projection_dim": 8, "eos_token_id": 2, "pad_token_id": 0, "bos_token_id": 1},
    "vision_config": {**VIT, "projection_dim": 8},
}
ENC, DEC = blocks("model.encoder.layers"), blocks("model.decoder.layers")
NO_CHECKPOINTS = {"checkpointing": "transformers offers none for this class"}
NO_PADDING = {"padding": "its inputs are all of one length"}
TWO = (ENC, DEC)

FAMILIES: dict[str, Family] = {
    # encoders
    "bert": Family("BertModel", "BertConfig", BERT, text, (blocks("encoder.layer"),)),
    "bert-classifier": Family("BertForSequenceClassification", "BertConfig", BERT, text, (blocks("bert.encoder.layer"),)),
    "roberta": Family("RobertaModel", "RobertaConfig", {**BERT, "pad_token_id": 0}, text, (blocks("encoder.layer"),)),
    "distilbert": Family(
        "DistilBertModel",
        "DistilBertConfig",
        {"vocab_size": 50, "dim": D, "n_layers": 2, "n_heads": 2, "hidden_dim": 24, "max_position_embeddings": 32},
        text,
        (blocks("transformer.layer"),),
    ),
    "albert": Family(
        "AlbertModel",
        "AlbertConfig",
        {**BERT, "embedding_size": 8},
        text,
        (blocks("encoder.albert_layer_groups.0.albert_layers", 1),),
        cannot=NO_CHECKPOINTS,
    ),
    "deberta": Family("DebertaModel", "DebertaConfig", BERT, text, (blocks("encoder.layer"),), "in_proj"),
    "deberta-v2": Family(
        "DebertaV2Model",
        "DebertaV2Config",
        {**BERT, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 4, "norm_rel_ebd": "layer_norm"},
        text,
        (blocks("encoder.layer"),),
        "query_proj,value_proj",
    ),
    "electra": Family("ElectraModel", "ElectraConfig", {**BERT, "embedding_size": 8}, text, (blocks("encoder.layer"),)),
    "mpnet": Family("MPNetModel", "MPNetConfig", {**BERT, "pad_token_id": 0}, text, (blocks("encoder.layer"),), cannot=NO_CHECKPOINTS),
    "modernbert": Family(
        "ModernBertModel",
        "ModernBertConfig",
        {**BERT, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2, "local_attention": 4},
        text,
        (blocks("layers"),),
        "Wqkv",
    ),
    "xlm-roberta": Family("XLMRobertaModel", "XLMRobertaConfig", {**BERT, "pad_token_id": 0}, text, (blocks("encoder.layer"),)),
    "camembert-mlm": Family("CamembertForMaskedLM", "CamembertConfig", {**BERT, "pad_token_id": 0}, text, (blocks("roberta.encoder.layer"),)),
    "ernie": Family("ErnieModel", "ErnieConfig", BERT, text, (blocks("encoder.layer"),)),
    "xlnet": Family(
        "XLNetModel",
        "XLNetConfig",
        {"vocab_size": 50, "d_model": D, "n_layer": 2, "n_head": 2, "d_inner": 24, "pad_token_id": 0},
        text,
        (blocks("layer"),),
        "layer_1,layer_2",
        cannot=NO_CHECKPOINTS,
    ),
    "layoutlmv3": Family(
        "LayoutLMv3ForTokenClassification",
        "LayoutLMv3Config",
        {
            **BERT,
            "pad_token_id": 0,
            "coordinate_size": 2,
            "shape_size": 4,
            "max_2d_position_embeddings": 64,
            "input_size": 8,
            "patch_size": 4,
            "rel_pos_bins": 8,
            "max_rel_pos": 16,
            "rel_2d_pos_bins": 8,
            "max_rel_2d_pos": 16,
        },
        layout,
        (blocks("layoutlmv3.encoder.layer"),),
        cannot=NO_CHECKPOINTS,
    ),
    # decoders
    "gpt2": Family(
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": 50, "n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 32},
        text,
        (blocks("transformer.h"),),
    ),
    "gpt2-cross": Family(
        "GPT2Model",
        "GPT2Config",
        {"vocab_size": 50, "n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 32, "add_cross_attention": True},
        crossed,
        (blocks("h"),),
    ),
    "bigcode": Family(
        "GPTBigCodeForCausalLM",
        "GPTBigCodeConfig",
        {"vocab_size": 50, "n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 32},
        text,
        (blocks("transformer.h"),),
    ),
    "gpt-neox": Family("GPTNeoXForCausalLM", "GPTNeoXConfig", BERT, text, (blocks("gpt_neox.layers"),), "query_key_value"),
    "gpt-neo": Family(
        "GPTNeoForCausalLM",
        "GPTNeoConfig",
        {
            "vocab_size": 50,
            "hidden_size": D,
            "num_layers": 2,
            "num_heads": 2,
            "attention_types": [[["global", "local"], 1]],
            "max_position_embeddings": 32,
            "intermediate_size": 24,
        },
        text,
        (blocks("transformer.h"),),
    ),
    "gpt-j": Family(
        "GPTJForCausalLM",
        "GPTJConfig",
        {"vocab_size": 50, "n_embd": D, "n_layer": 2, "n_head": 2, "n_positions": 32, "rotary_dim": 4},
        text,
        (blocks("transformer.h"),),
    ),
    "opt": Family(
        "OPTForCausalLM",
        "OPTConfig",
        {
            "vocab_size": 50,
            "hidden_size": D,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "ffn_dim": 24,
            "max_position_embeddings": 32,
            "word_embed_proj_dim": D,
            "pad_token_id": 0,
        },
        text,
        (blocks("model.decoder.layers"),),
    ),
    "bloom": Family(
        "BloomForCausalLM",
        "BloomConfig",
        {"vocab_size": 50, "hidden_size": D, "n_layer": 2, "n_head": 2},
        text,
        (blocks("transformer.h"),),
        "query_key_value",
    ),
    "falcon": Family("FalconForCausalLM", "FalconConfig", {**BERT, "pad_token_id": 0}, text, (blocks("transformer.h"),), "query_key_value"),
    "llama": Family("LlamaForCausalLM", "LlamaConfig", LLAMA, text, (blocks("model.layers"),)),
    "mistral": Family("MistralForCausalLM", "MistralConfig", {**LLAMA, "sliding_window": 4}, text, (blocks("model.layers"),)),
    "qwen2": Family("Qwen2ForCausalLM", "Qwen2Config", LLAMA, text, (blocks("model.layers"),)),
    "qwen3": Family("Qwen3ForCausalLM", "Qwen3Config", {**LLAMA, "head_dim": 8}, text, (blocks("model.layers"),)),
    "gemma2": Family("Gemma2ForCausalLM", "Gemma2Config", {**LLAMA, "head_dim": 8}, text, (blocks("model.layers"),)),
    "gemma3": Family("Gemma3ForCausalLM", "Gemma3TextConfig", {**LLAMA, "head_dim": 8}, text, (blocks("model.layers"),)),
    "phi": Family("PhiForCausalLM", "PhiConfig", {**LLAMA, "num_key_value_heads": 2}, text, (blocks("model.layers"),)),
    "phi3": Family("Phi3ForCausalLM", "Phi3Config", {**LLAMA, "bos_token_id": 1, "eos_token_id": 2}, text, (blocks("model.layers"),), "qkv_proj"),
    "stablelm": Family("StableLmForCausalLM", "StableLmConfig", LLAMA, text, (blocks("model.layers"),)),
    "olmo2": Family("Olmo2ForCausalLM", "Olmo2Config", LLAMA, text, (blocks("model.layers"),)),
    "smollm3": Family("SmolLM3ForCausalLM", "SmolLM3Config", {**LLAMA, "bos_token_id": 1, "eos_token_id": 2}, text, (blocks("model.layers"),)),
    "granite": Family("GraniteForCausalLM", "GraniteConfig", LLAMA, text, (blocks("model.layers"),)),
    "cohere": Family("CohereForCausalLM", "CohereConfig", {**LLAMA, "bos_token_id": 1, "eos_token_id": 2}, text, (blocks("model.layers"),)),
    "xglm": Family(
        "XGLMForCausalLM",
        "XGLMConfig",
        {"vocab_size": 50, "d_model": D, "num_layers": 2, "attention_heads": 2, "ffn_dim": 24, "max_position_embeddings": 32, "pad_token_id": 0},
        text,
        (blocks("model.layers"),),
        dtypes=(torch.bfloat16,),
    ),
    "mamba": Family(
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": 50, "hidden_size": D, "num_hidden_layers": 2, "state_size": 4, "time_step_rank": 2, "pad_token_id": 0},
        text,
        (blocks("backbone.layers"),),
        "in_proj,x_proj",
    ),
    # mixtures of experts
    "mixtral": Family("MixtralForCausalLM", "MixtralConfig", MOE, text, (blocks("model.layers"),), dtypes=(torch.bfloat16,)),
    "qwen2-moe": Family(
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        {**MOE, "shared_expert_intermediate_size": 8},
        text,
        (blocks("model.layers"),),
        dtypes=(torch.bfloat16,),
    ),
    "qwen3-moe": Family("Qwen3MoeForCausalLM", "Qwen3MoeConfig", {**MOE, "head_dim": 8}, text, (blocks("model.layers"),), dtypes=(torch.bfloat16,)),
    "gpt-oss": Family("GptOssForCausalLM", "GptOssConfig", {**MOE, "head_dim": 8}, text, (blocks("model.layers"),), dtypes=(torch.bfloat16,)),
    "switch": Family(
        "SwitchTransformersForConditionalGeneration",
        "SwitchTransformersConfig",
        {**T5, "num_experts": 2, "expert_capacity": 64, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1},
        pair,
        (blocks("encoder.block"), blocks("decoder.block")),
    ),
    # encoder-decoders
    "t5": Family("T5ForConditionalGeneration", "T5Config", T5, pair, (blocks("encoder.block"), blocks("decoder.block"))),
    "t5-gated": Family(
        "T5Model", "T5Config", {**T5, "feed_forward_proj": "gated-gelu"}, pair, (blocks("encoder.block"), blocks("decoder.block")), "q,v,up,gate,down"
    ),
    "umt5": Family("UMT5ForConditionalGeneration", "UMT5Config", T5, pair, (blocks("encoder.block"), blocks("decoder.block"))),
    "mt5": Family("MT5ForConditionalGeneration", "MT5Config", T5, pair, (blocks("encoder.block"), blocks("decoder.block"))),
    "bart": Family("BartForConditionalGeneration", "BartConfig", BART, pair, TWO),
    "mbart": Family("MBartForConditionalGeneration", "MBartConfig", BART, pair, TWO),
    "pegasus": Family("PegasusForConditionalGeneration", "PegasusConfig", BART, pair, TWO),
    "marian": Family("MarianMTModel", "MarianConfig", BART, pair, TWO),
    "whisper": Family(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        {**BART, "num_mel_bins": 4, "max_source_positions": 10, "max_target_positions": 32, "suppress_tokens": [], "begin_suppress_tokens": []},
        speech,
        TWO,
    ),
    # vision, audio, two towers
    "vit": Family("ViTModel", "ViTConfig", VIT, image, (blocks("layers"),), cannot=NO_PADDING),
    "dinov2": Family("Dinov2ForImageClassification", "Dinov2Config", VIT, image, (blocks("dinov2.encoder.layer"),), cannot=NO_PADDING),
    "deit": Family("DeiTModel", "DeiTConfig", VIT, image, (blocks("layers"),), cannot=NO_PADDING),
    "beit": Family("BeitModel", "BeitConfig", VIT, image, (blocks("layers"),), cannot=NO_PADDING),
    "swin": Family(
        "SwinModel",
        "SwinConfig",
        {"image_size": 8, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 2},
        image,
        ((*blocks("encoder.layers.0.blocks"), *blocks("encoder.layers.1.blocks")),),
        cannot=NO_PADDING,
    ),
    "clip": Family(
        "CLIPModel", "CLIPConfig", {**TOWER, "projection_dim": 8}, both, (blocks("text_model.encoder.layers"), blocks("vision_model.encoder.layers"))
    ),
    "siglip": Family("SiglipModel", "SiglipConfig", TOWER, both, (blocks("text_model.encoder.layers"), blocks("vision_model.encoder.layers"))),
    "wav2vec2": Family("Wav2Vec2ForCTC", "Wav2Vec2Config", WAVE, audio, (blocks("wav2vec2.encoder.layers"),)),
    "hubert": Family("HubertModel", "HubertConfig", WAVE, audio, (blocks("encoder.layers"),)),
}


# checks


def config(family: Family, **values) -> AdapterConfig:
    return AdapterConfig(
        **{"method": "mosld", "rank": 2, "experts": "3-4", "top_k": 2, "dropout": 0.0, "balance": 1.0, "targets": family.targets, **values}
    )


def run(model: nn.Module, inputs: dict) -> Tensor:
    """The first output, in the precision of the model."""
    dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
    return model(**{k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()})[0]


def warm(handle) -> None:
    """Move every trainable tensor away from its start, by numbers that bfloat16 holds exactly."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in handle.parameters():
            p.copy_((torch.randn(p.shape, generator=g) * 0.3).bfloat16())


def start_equals_base(f: Family) -> None:
    model, inputs = f.build(), f.inputs(f, (0, 1))
    before = run(model, inputs)
    handle = attach(model, config(f))
    torch.testing.assert_close(run(model, inputs), before, atol=1e-5, rtol=1e-5)
    warm(handle)
    assert not torch.allclose(run(model, inputs), before, atol=1e-3), "the adapters change nothing"


def gradients(f: Family) -> None:
    """Every trainable tensor gets a gradient and no weight of the base does."""
    model = f.build()
    handle = attach(model, config(f))
    warm(handle)
    handle.train()
    (run(model, f.inputs(f, (0, 1))).square().sum() + handle.extra_loss()).backward()
    without = [n for n, p in handle.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without, f"no gradient for {without}"
    own = {id(p) for p in handle.parameters()}
    assert all(p.grad is None for p in model.parameters() if id(p) not in own), "a base weight got a gradient"


def detach(f: Family) -> None:
    """Bit for bit the base again: outputs, names, flags."""
    model, inputs = f.build(), f.inputs(f, (0, 1))
    facts = lambda: [(n, p.requires_grad) for n, p in model.named_parameters()] + [(n, type(m)) for n, m in model.named_modules()]  # noqa: E731
    before, were = run(model, inputs), facts()
    handle = attach(model, config(f))
    warm(handle)
    run(model, inputs)
    handle.detach()
    assert torch.equal(run(model, inputs), before) and facts() == were


def files(f: Family) -> None:
    """Saved and loaded into a fresh copy of the base: the same numbers, bit for bit."""
    model, inputs = f.build(), f.inputs(f, (0, 1))
    fresh = copy.deepcopy(model)
    handle = attach(model, config(f))
    warm(handle)
    with tempfile.TemporaryDirectory() as folder:
        handle.save(folder)
        settings, further = saved_config(folder)
        attach(fresh, settings, seed=9, **further).load(folder)
    assert torch.equal(run(fresh, inputs), run(model, inputs))


def layers(f: Family) -> None:
    """A layer is a block; the first half of every stack has 3 experts a linear, the second 4."""
    handle, seen = attach(f.build(), config(f)), {}
    for stack in f.stacks:
        for i, block in enumerate(stack):
            inside = [a.site for a in handle.adapters if a.site.name.startswith(block + ".")]
            assert inside, f"no adapter in {block}"
            assert len({s.layer for s in inside}) == 1, f"{block} counts as several layers"
            seen.setdefault((inside[0].stack, inside[0].layer), []).append(block)
            wanted = (3, 4)[2 * i // len(stack)]
            assert {s.experts for s in inside} == {wanted}, f"{block} has {inside[0].experts} experts, not {wanted}"
    assert all(len(b) == 1 for b in seen.values()), f"one layer: {max(seen.values(), key=len)}"
    known = tuple(f"{block}." for stack in f.stacks for block in stack)
    assert all(a.site.name.startswith(known) for a in handle.adapters)


def padding(f: Family) -> None:
    """Two texts in one batch, the shorter one padded, against the two alone: router probabilities of the tokens that count, and the loss."""
    model = f.build()
    handle = attach(model, config(f))
    warm(handle)
    handle.train()
    calls: dict[str, list] = {}
    for a in handle.adapters:
        a.register_forward_hook(lambda a, *_: calls.setdefault(a.site.name, []).append(a.last))
    real = lambda r, t: t if r.mask is None else t[:, r.mask.reshape(-1) > 0]  # noqa: E731
    sorted_ = lambda p: p[:, p[0].argsort()]  # noqa: E731  # some models put time before the batch
    run(model, f.inputs(f, (0, 1)))
    together, loss, expected = dict(calls), float(handle.extra_loss().detach()), 0.0
    alone = []
    for i in (0, 1):
        calls.clear()
        run(model, f.inputs(f, (i,)))
        alone.append(dict(calls))
    for name, records in together.items():
        for at, record in enumerate(records):
            p, g = (torch.cat([real(one[name][at], getattr(one[name][at], what)) for one in alone], 1) for what in ("probabilities", "gate"))
            own = real(record, record.probabilities)
            assert own.shape == p.shape, f"{own.shape[1]} tokens count at {name}, not {p.shape[1]}"
            torch.testing.assert_close(sorted_(own), sorted_(p), atol=1e-4, rtol=1e-4)
            share = (g > 0).double().sum(1)
            expected += float(len(p) * (share / share.sum() * p.double().mean(1)).sum())
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-4)


def cast(f: Family) -> None:
    """Cast after attach equals attach after the cast, in float64 (where the base itself can) and in bfloat16."""
    for dtype in f.dtypes:
        inputs, outputs = f.inputs(f, (0, 1)), []
        for first in (False, True):
            model = f.build()
            if first:
                model.to(dtype)
            handle = attach(model, config(f))
            warm(handle)
            outputs.append(run(model.to(dtype), inputs))
            handle.train()
            (run(model, inputs).float().square().sum() + handle.extra_loss()).backward()
        assert outputs[0].dtype == outputs[1].dtype and outputs[0].isfinite().all()
        torch.testing.assert_close(*outputs)


def checkpointing(f: Family) -> None:
    """Gradient checkpointing with dropout gives the gradients of the same step without it."""
    seen = []
    for on in (False, True):
        model = f.build()
        handle = attach(model, config(f, dropout=0.3))
        warm(handle)
        model.train()
        if on:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(5)
        with contextlib.suppress(AttributeError):
            handle.generator.manual_seed(5)
        loss = run(model, f.inputs(f, (0, 1))).square().sum() + handle.extra_loss()
        loss.backward()
        seen.append([loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in handle.parameters())])
    for a, b in zip(*seen, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)
    assert any(g.any() for g in seen[0][1:])


def deepcopy(f: Family) -> None:
    """A copy, also after a forward in training, gives the same numbers and has weights of its own."""
    model, inputs = f.build(), f.inputs(f, (0, 1))
    handle = attach(model, config(f))
    warm(handle)
    handle.train()
    run(model, inputs)
    twin = copy.deepcopy(model)
    handle.train(False)
    twin.eval()
    before = run(model, inputs)
    assert torch.equal(run(twin, inputs), before)
    with torch.no_grad():
        for p in twin.parameters():
            if p.requires_grad:
                p.add_(1.0)
    assert torch.equal(run(model, inputs), before) and not torch.equal(run(twin, inputs), before)


def full_save(f: Family) -> None:
    """`save_pretrained` of the adapted model loads as the base, with no weight missing."""
    model, inputs = f.build(), f.inputs(f, (0, 1))
    before = run(model, inputs)
    warm(attach(model, config(f)))
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again, found = type(model).from_pretrained(folder, output_loading_info=True)
    assert not found["missing_keys"], f"missing: {sorted(found['missing_keys'])[:3]}"
    assert torch.equal(run(again.eval(), inputs), before)


CHECKS: dict[str, Callable[[Family], None]] = {
    "start": start_equals_base,
    "gradients": gradients,
    "detach": detach,
    "files": files,
    "layers": layers,
    "padding": padding,
    "cast": cast,
    "checkpointing": checkpointing,
    "deepcopy": deepcopy,
    "full save": full_save,
}


def table(names: list[str], say: bool) -> str:
    """Family x check in Markdown: ✓ holds, ✗ does not, – the family cannot have it; the reasons stand below."""
    lines, notes = [f"| family | {' | '.join(CHECKS)} |", "|" + " --- |" * (len(CHECKS) + 1)], {}
    for name in names:
        cells, f = [], FAMILIES[name]
        for check, function in CHECKS.items():
            try:
                if check in f.cannot:
                    notes.setdefault(f"–, {check}: {f.cannot[check]}", []).append(name)
                    cells.append("–")
                    continue
                function(f)
                cells.append("✓")
            except Exception as error:
                cells.append("✗")
                sentence = " ".join(str(error).split())[:200] if say else f.remains.get(check, type(error).__name__)
                notes.setdefault(f"✗, {check}: {sentence}", []).append(name)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {note} ({', '.join(where)})" for note, where in notes.items())])


if __name__ == "__main__":
    if wrong := [name for name in sys.argv[1:] if name not in FAMILIES]:
        raise SystemExit(f"'{wrong[0]}' is no family here; the families are {', '.join(FAMILIES)}.\n\n{__doc__}")
    T.logging.set_verbosity_error()
    T.logging.disable_progress_bar()
    print(table(sys.argv[1:] or list(FAMILIES), bool(sys.argv[1:])))
