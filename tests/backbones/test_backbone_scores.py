"""Scores against a slow reference: one text at a time, no batching, no padding."""

import math

import pytest
import torch
from backbone_helpers import small, tokenizer

from mosld.backbones.base import Decoder, Encoder
from mosld.config import ConfigError
from mosld.tasks.base import Example


def encoder(**options):
    return Encoder("small", small("bert"), tokenizer(True), "random", **options)


def decoder(kind, **options):
    return Decoder("small", small(kind), tokenizer(False), "random", **options)


def slow_encoder(backbone, example):
    def vector(text):
        ids = torch.tensor([backbone.tokenizer(text).input_ids])
        return backbone.model(input_ids=ids).last_hidden_state[0].mean(0)

    q = vector(example.question)
    return [float(torch.cosine_similarity(q, vector(o), dim=0)) / backbone.temperature for o in example.options]


def slow_decoder(backbone, example, start=()):
    read = lambda text: backbone.tokenizer(text, add_special_tokens=False).input_ids  # noqa: E731
    out = []
    for option in example.options:
        prompt = [*start, *read(f"Question: {example.question}"), *read("\nAnswer:")]
        tokens = read(" " + option)
        total = 0.0
        for n, token in enumerate(tokens):
            logits = backbone.model(input_ids=torch.tensor([prompt + tokens[:n]])).logits[0, -1].double()
            total += float(logits.softmax(-1)[token].log())
        out.append(total / len(tokens))
    return out


def test_encoder_scores(examples):
    backbone = encoder()
    with torch.no_grad():
        logits = backbone.score(backbone.batch(examples, [0, 1, 0]))
        for row, example in zip(logits, examples, strict=True):
            want = slow_encoder(backbone, example)
            assert row[: len(want)].tolist() == pytest.approx(want, abs=1e-4)
            assert row[len(want) :].tolist() == [-math.inf] * (3 - len(want))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_decoder_scores(kind, examples):
    backbone = decoder(kind)
    with torch.no_grad():
        logits = backbone.score(backbone.batch(examples, [0, 1, 0]))
        for row, example in zip(logits, examples, strict=True):
            want = slow_decoder(backbone, example)
            assert row[: len(want)].tolist() == pytest.approx(want, abs=1e-4)
            assert row[len(want) :].tolist() == [-math.inf] * (3 - len(want))


def test_encoder_batch_reads_each_text_of_a_task_once(examples):
    batch = encoder().batch(examples, [0, 1, 0])
    # Task 0: two questions, red (shared), "blue blue one", "green two", "two"; task 1: one question, two options.
    assert batch.input_ids.shape == (9, 12)  # the longest question has 10 words, [CLS] and [SEP]
    assert sorted(batch.task.tolist()) == [0] * 6 + [1] * 3
    assert batch.option_row[0, 0] == batch.option_row[2, 0]
    assert batch.option_row.eq(-1).tolist() == [[False] * 3, [False, False, True], [False, False, True]]
    assert batch.attention_mask.sum().item() == (8 + 3 + 10) + (1 + 3 + 2 + 1 + 1 + 4) + 2 * 9  # words, and two marks a row
    same = encoder().batch([examples[0], examples[0]], [0, 1])
    assert len(same.task) == 8  # routers may treat tasks apart, so the same text of two tasks is two rows


def test_decoder_batch(examples):
    batch = decoder("llama").batch(examples, [3, 1, 3])
    assert batch.task.tolist() == [3, 3, 3, 1, 1, 3, 3]
    assert batch.option_row.tolist() == [[0, 1, 2], [3, 4, -1], [5, 6, -1]]
    assert batch.question_row.tolist() == [-1, -1, -1]
    assert batch.option_mask.sum(1).tolist() == [1, 3, 2, 1, 4, 1, 1]
    assert (batch.option_mask & (batch.attention_mask == 0)).sum() == 0


def test_long_questions_are_cut_and_options_kept():
    long = Example("a " * 100, ("red", "blue blue one"), 0)
    backbone = decoder("llama", max_tokens=16)
    batch = backbone.batch([long], [0])
    assert batch.input_ids.shape == (2, 16)
    assert batch.option_mask.sum(1).tolist() == [1, 3]
    # Both options follow the same words: 'Question :', as many 'a' as fit beside the longest option, 'Answer :'.
    words = [backbone.tokenizer.decode(row[m.bool()]) for row, m in zip(batch.input_ids, batch.attention_mask, strict=True)]
    prompt = "Question : " + "a " * 9 + "Answer : "
    assert words == [prompt + "red", prompt + "blue blue one"]
    assert encoder(max_tokens=16).batch([long], [0]).input_ids.shape == (3, 16)


def test_start_token_is_put_where_the_tokenizer_puts_it(examples):
    from tokenizers import processors

    backbone = decoder("llama")
    backbone.tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 4)])
    with torch.no_grad():
        logits = backbone.score(backbone.batch(examples, [0, 0, 0]))
        assert logits[0].tolist() == pytest.approx(slow_decoder(backbone, examples[0], start=[4]), abs=1e-4)


def test_replica_shares_every_weight(examples):
    backbone = encoder()
    replica = backbone.replica()
    pairs = list(zip(backbone.model.named_parameters(), replica.named_parameters(), strict=True))
    assert pairs and all(a[0] == b[0] and a[1].data_ptr() == b[1].data_ptr() for a, b in pairs)
    assert {id(m) for m in backbone.model.modules()}.isdisjoint({id(m) for m in replica.modules()})
    before = backbone.score(backbone.batch(examples, [0, 0, 0]))
    query = replica.encoder.layer[0].attention.self.query
    replica.encoder.layer[0].attention.self.query = torch.nn.Sequential(query, torch.nn.ReLU())
    batch = backbone.batch(examples, [0, 0, 0])
    assert torch.equal(backbone.score(batch), before)  # a change of the replica's tree stays there
    assert not torch.equal(backbone.score(batch, replica), before)


def test_frozen_and_in_evaluation():
    backbone = decoder("gpt2")
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not any(m.training for m in [*backbone.model.modules(), *backbone.replica().modules()])


@pytest.mark.parametrize(("kind", "cls"), [("bert", Encoder), ("llama", Decoder), ("gpt2", Decoder)])
def test_first_layers(kind, cls, examples):
    whole, first = small(kind), cls("small", small(kind), tokenizer(kind == "bert"), "random", layers=2)
    assert (first.n_layers, first.d_model) == (2, 16)
    final = {"bert": lambda h: h, "llama": whole.base_model.norm if kind == "llama" else None, "gpt2": getattr(whole.base_model, "ln_f", None)}[kind]
    ids = first.batch(examples[:1], [0]).input_ids[:1]
    whole.eval()
    # The third entry of all hidden states is what leaves the second layer.
    want = final(whole(input_ids=ids, output_hidden_states=True).hidden_states[2])
    got = first.model.base_model(input_ids=ids).last_hidden_state
    assert torch.allclose(got, want, atol=1e-5)


def test_gradients_reach_a_replica_and_not_the_backbone(examples):
    backbone = encoder()
    replica = backbone.replica()
    query = replica.encoder.layer[2].attention.self.query
    own = torch.nn.Linear(16, 16)
    replica.encoder.layer[2].attention.self.query = torch.nn.Sequential(query, own)
    batch = backbone.batch(examples, [0, 1, 0])
    torch.nn.functional.cross_entropy(backbone.score(batch, replica), batch.answer).backward()
    assert torch.isfinite(own.weight.grad).all() and own.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in backbone.model.parameters())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"layers": 4}, "layers: 4 is above the 3 layers of small; choose at most that, or 0 for all."),
        ({"max_tokens": 65}, "max_tokens: 65 is above what small can read; choose at most 64."),
    ],
)
def test_refusals(options, sentence):
    for make in (encoder, lambda **o: decoder("llama", **o), lambda **o: decoder("gpt2", **o)):
        with pytest.raises(ConfigError) as caught:
            make(**options)
        assert str(caught.value) == sentence
