"""A small encoder with random weights, world tasks cut short, and adapters with random factors."""

import dataclasses
import itertools

import pytest
import torch
from merging_helpers import adapters
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mosld import tasks
from mosld.backbones.base import Encoder
from mosld.merging.bench import Bench
from mosld.merging.vectors import task_vector


@pytest.fixture(scope="session")
def loaded():
    """Eight world tasks of 40 training, 30 validation and 30 test rows."""
    names = [i.name for i in tasks.catalogue() if i.suite == "world"][:8]
    full = [tasks.load(n) for n in names]
    return [dataclasses.replace(t, train=t.train[:40], validation=t.validation[:30], test=t.test[:30]) for t in full]


@pytest.fixture(scope="session")
def backbone(loaded):
    """Two layers of width 16, in double precision, so that gradients can be compared closely."""
    rows = itertools.chain.from_iterable((*t.train, *t.validation, *t.test) for t in loaded)
    words = sorted({w for e in rows for text in (e.question, *e.options) for w in text.split()})
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["[PAD]", "[UNK]", *words])}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(words) + 2, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    config.initializer_range = 0.5
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]")
    return Encoder("small", BertModel(config).double(), tokenizer, "random", max_tokens=24, temperature=0.2)


@pytest.fixture
def bench(loaded, backbone):
    """Three tasks, each with a random task vector."""
    vectors = [task_vector(adapters(backbone, seed)) for seed in range(3)]
    return Bench(backbone, loaded[:3], vectors, ("q", "v"), eval_rows=30)
