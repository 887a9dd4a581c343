"""Small models made from their config classes, and the real ones where the package index can be reached."""

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from mosld import backbones
from mosld.config import ConfigError

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<s>", "Question", ":", "Answer", *"abcdefgh"]
WORDS += ["which", "is", "red", "blue", "green", "old", "new", "one", "two", "three"]


def tokenizer(template: bool) -> PreTrainedTokenizerFast:
    """One token a word; `template` adds [CLS] and [SEP] as BERT's does."""
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.NFC()
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    if template:
        inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", bos_token="<s>")


SIZES = {
    "bert": dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64),
    "llama": dict(hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, max_position_embeddings=64),
    "gpt2": dict(n_embd=16, n_layer=3, n_head=2, n_positions=64),
}


def small(kind: str):
    """A model with random weights, large enough for every padding mistake to show."""
    torch.manual_seed(0)
    config = {"bert": BertConfig, "llama": LlamaConfig, "gpt2": GPT2Config}[kind](vocab_size=len(WORDS), **SIZES[kind])
    config.initializer_range = 0.5
    return {"bert": BertModel, "llama": LlamaForCausalLM, "gpt2": GPT2LMHeadModel}[kind](config)


def real(name: str, **options):
    """A published backbone, or a skip that says why there is none."""
    try:
        return backbones.load(name, **options)
    except ConfigError as error:
        if "could not be downloaded" in str(error) or "less than a minute ago" in str(error):
            pytest.skip(f"no route to the weights of {name}: {error}")
        raise
