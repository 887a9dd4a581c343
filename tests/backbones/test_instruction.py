"""Where the instruction of a question stands in its row, in encoders and decoders, for every suite."""

import pytest

from mosld import tasks
from mosld.backbones import nano
from mosld.backbones.base import Decoder, Encoder
from mosld.tasks import world
from mosld.tasks.base import Example
from mosld.tasks.rows import Row, clean, instructed, split


@pytest.fixture(scope="module")
def encoder():
    return Encoder("nano", *nano.open_model())


def marked(backbone, batch, row):
    return backbone.tokenizer.convert_ids_to_tokens(batch.input_ids[row][batch.instruction[row]].tolist())


@pytest.mark.parametrize("name", world.TASKS)
def test_world_questions_begin_with_their_instruction_and_its_tokens_are_marked(encoder, name):
    examples = world.load(name).train[:3]
    batch = encoder.batch(examples, [0] * 3)
    for n, e in enumerate(examples):
        assert e.instruction == world.TASKS[name].instruction and e.question.startswith(e.instruction + " ")
        row = int(batch.question_row[n])
        whole = encoder.tokenizer.convert_ids_to_tokens(batch.input_ids[row].tolist())
        words = encoder.tokenizer.tokenize(e.instruction)
        assert marked(encoder, batch, row) == words == whole[1 : 1 + len(words)]
    options = set(range(len(batch.input_ids))) - set(batch.question_row.tolist())
    assert not any(batch.instruction[row].any() for row in options)


def test_without_an_instruction_nothing_is_marked_and_a_cut_text_marks_what_is_left(encoder):
    assert not encoder.batch([Example("who is it", ("a", "b"), 0)], [0]).instruction.any()
    short = Encoder("nano", *nano.open_model(), max_tokens=8)
    text = "Tell me in very many words indeed: no"
    batch = short.batch([Example(text, ("a", "b"), 0, text[:-3])], [0])
    assert batch.instruction[0].tolist() == [False] + [True] * 6 + [False]


def test_a_decoders_rows_mark_the_instruction_within_the_question():
    from transformers import LlamaConfig, LlamaForCausalLM

    _, tokenizer, _ = nano.open_model()
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2
        )
    )
    decoder = Decoder("tiny", model, tokenizer, "")
    e = world.load("world/mood").train[0]
    batch = decoder.batch([e, Example("no instruction here", ("a", "a longer one"), 0)], [0, 0])
    for row in range(len(e.options)):
        assert marked(decoder, batch, row) == tokenizer.tokenize(e.instruction)
    assert not batch.instruction[len(e.options) :].any() and not (batch.instruction & batch.option_mask).any()


def test_real_and_own_questions_name_their_instruction(tmp_path):
    rows = clean([Row(f"Science fact: what is {n}? It is: odd", ("a", "b"), n % 2) for n in range(40)])
    assert {e.instruction for part in instructed(split(rows, 0)) for e in part} == {"Science fact:"}
    (tmp_path / "mine.csv").write_text("text,label\n" + "".join(f"word{n} is here,{'yn'[n % 2]}\n" for n in range(60)))
    plain, told = (tasks.load(str(tmp_path / "mine.csv"), 0, None, text) for text in ("", "Is it: so?"))
    assert {e.instruction for e in plain.train} == {""}
    assert {e.instruction for e in told.train} == {"Is it: so?:"} and all(e.question.startswith("Is it: so?: ") for e in told.train)
