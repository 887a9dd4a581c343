"""The distillation recipe on a few lines of text: what is drawn, what is learnt from, what is left out, and going on after a stop."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mosld import tasks
from mosld.backbones import corpus, student
from mosld.backbones.base import mean_pool
from mosld.backbones.distil import Recipe
from mosld.backbones.sampling import NEAR, Texts, cut, word_table
from mosld.config import ConfigError
from mosld.tasks.archives import ARCHIVES
from mosld.tasks.rows import normalised

LINES = [f"line {n} of the story , where the unforgettable cat number {n} sleeps" for n in range(60)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A recipe's folder: two sources of text, a small tokenizer for both sides, a teacher of one layer with random weights."""
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("\n".join(LINES) + "\n")
    (tmp_path / "text" / "b.txt").write_text("\n".join(f"word{n}" for n in range(20)) + "\n")
    sources = {"a": corpus.Source("none", 1.0, lambda p: iter(LINES)), "b": corpus.Source("none", 9.0, lambda p: iter(()))}
    monkeypatch.setattr(corpus, "SOURCES", sources)
    student.train_tokenizer(tmp_path, 120)
    tokenizer = tmp_path / "tokenizer.json"
    torch.manual_seed(0)
    size = Tokenizer.from_file(str(tokenizer)).get_vocab_size()
    config = BertConfig(vocab_size=size, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "teacher")
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer)).save_pretrained(tmp_path / "teacher")
    return tmp_path


RECIPE = Recipe(width=8, layers=1, heads=2, inner=8, batch=16, group=4, steps=32, warmup=4)


def test_tables_cut_as_the_tokenizer_does(folder):
    texts = Texts.read(folder / "text", {"a": 1.0, "b": 1.0})
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    words, length = texts.draw(200, 4, torch.Generator().manual_seed(0))
    ids, count = cut(words, length, word_table(tokenizer, texts.vocabulary), 2, 3, 24)
    tokenizer.enable_truncation(24)
    for row in range(200):
        text = " ".join(texts.vocabulary[i] for i in words[row, : length[row]])
        assert ids[row, : count[row]].tolist() == tokenizer.encode(text).ids
    assert count.max() == 24 and count.min() < 6  # both cut and short texts were among them
    assert ids[torch.arange(24) >= count[:, None]].eq(0).all()


def test_groups_are_neighbours_and_sources_have_their_share(folder):
    texts = Texts.read(folder / "text", {"a": 1.0, "b": 9.0})
    assert len(texts.start) == 81 and len(texts.words) == sum(len(line.split()) for line in LINES) + 20
    words, length = texts.draw(8000, 4, torch.Generator().manual_seed(1))
    first = [texts.vocabulary[i] for i in words[::4, 0].tolist()]
    share = sum(w.startswith("word") for w in first) / 2000
    assert share == pytest.approx(20 * 9 / (20 * 9 + 60), abs=0.06)  # lines times weight; some anchors begin elsewhere or are swapped
    groups = words.view(-1, 4, words.shape[1])
    spread = []
    for group, lengths in zip(groups, length.view(-1, 4), strict=True):
        found = [[texts.vocabulary[i] for i in row[:n]] for row, n in zip(group.tolist(), lengths.tolist(), strict=True)]
        numbers = [int(w) for row in found for w in row if w.isdigit()]
        spread += [max(numbers) - min(numbers)] if len(numbers) > 1 else []
    # Neighbours lie up to NEAR lines to either side, and a passage runs on for NEAR more; a few words are swapped for random ones.
    assert sum(s <= 3 * NEAR for s in spread) / len(spread) > 0.6
    again, _ = texts.draw(8000, 4, torch.Generator().manual_seed(1))
    assert torch.equal(words, again)


def test_losses_against_loops():
    torch.manual_seed(0)
    small, mapped, teacher = (F.normalize(torch.randn(6, n, dtype=torch.float64), dim=-1) for n in (3, 5, 5))
    found = student.losses(small, mapped, teacher, 3)

    def divergence(members):
        total = 0.0
        for i in members:
            others = [j for j in members if j != i]
            p = torch.tensor([math.exp(20 * teacher[i] @ teacher[j]) for j in others])
            q = torch.tensor([math.exp(20 * small[i] @ small[j]) for j in others])
            p, q = p / p.sum(), q / q.sum()
            total += float((p * (p / q).log()).sum())
        return total

    errors = {(i, j): float(small[i] @ small[j] - teacher[i] @ teacher[j]) ** 2 for i, j in itertools.product(range(6), range(6))}
    assert float(found["cosine"]) == pytest.approx(1 - sum(float(m @ t) for m, t in zip(mapped, teacher, strict=True)) / 6)
    assert float(found["pairs"]) == pytest.approx(sum(errors.values()) / 36)
    assert float(found["ranks"]) == pytest.approx(divergence(range(6)) / 6, rel=1e-4)
    inside = [errors[i, j] for i, j in errors if i // 3 == j // 3]
    near = 10 * sum(inside) / 18 + (divergence([0, 1, 2]) + divergence([3, 4, 5])) / 6
    assert float(found["near"]) == pytest.approx(near, rel=1e-4)


def test_embedding_in_parts_equals_one_by_one(folder):
    model = BertModel.from_pretrained(folder / "teacher", add_pooling_layer=False).eval()
    ids, count = torch.randint(5, 40, (7, 12)), torch.tensor([3, 12, 5, 5, 9, 2, 7])
    with torch.no_grad():
        whole = student.embed(model, ids, count, 3)
        for row in range(7):
            alone = model(input_ids=ids[row : row + 1, : count[row]]).last_hidden_state
            assert torch.allclose(whole[row], mean_pool(alone, torch.ones(1, int(count[row])))[0], atol=1e-5)


def test_a_stopped_run_goes_on_bit_for_bit(folder, monkeypatch):
    for name in ("straight", "stopped"):
        (folder / name).mkdir()
        for part in ("text", "teacher", "tokenizer.json"):
            (folder / name / part).symlink_to(folder / part)
    assert student.train(folder / "straight", RECIPE, torch.device("cpu"))
    ticks = itertools.count()
    with monkeypatch.context() as patched:
        patched.setattr(student.time, "monotonic", lambda: next(ticks))
        assert not student.train(folder / "stopped", RECIPE, torch.device("cpu"), seconds=1.5)  # time for one block of 16 steps
    assert student.train(folder / "stopped", RECIPE, torch.device("cpu"))
    straight, stopped = (load_file(folder / name / "checkpoint.safetensors") for name in ("straight", "stopped"))
    assert straight.keys() == stopped.keys() and all(torch.equal(straight[k], stopped[k]) for k in straight)
    with pytest.raises(ConfigError, match="checkpoint of another recipe"):
        student.train(folder / "stopped", dataclasses.replace(RECIPE, lr=1e-3), torch.device("cpu"))


def test_training_brings_the_student_nearer_and_export_keeps_it(folder):
    recipe = dataclasses.replace(RECIPE, batch=32, steps=192, lr=5e-3)
    student.train(folder, recipe, torch.device("cpu"))
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [64, 128, 192]
    assert all(log[-1][name] < log[0][name] for name in ("cosine", "pairs", "ranks", "near"))
    student.export(folder, folder / "weights", recipe)
    half = load_file(folder / "weights" / "model.safetensors")
    full = load_file(folder / "checkpoint.safetensors")
    assert len(half) > 10 and all(torch.equal(half[k], full[f"weights.student.{k}"].half()) for k in half)


def test_watching(folder):
    """The teacher as its own student keeps its whole margin and never differs."""
    (folder / "teacher" / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes())
    rows = [{"question": LINES[0], "options": [LINES[1], "word3"], "answer": 0}, {"question": "word4", "options": ["word5", LINES[9]], "answer": 0}]
    (folder / "watched.json").write_text(json.dumps({"toy": rows}))
    found = student.watch(folder, folder / "teacher")
    assert found["chance"] == {"toy": 0.5} and found["student"] == found["teacher"]
    assert found["divergence"]["toy"] == pytest.approx(0, abs=1e-6)
    margin = found["teacher"]["toy"] - 0.5
    assert found["mean"]["student"] == margin and (found["mean"]["kept"] == 1 if margin else math.isnan(found["mean"]["kept"]))


def test_scored_texts_never_reach_the_corpus(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus, "_names", lambda suite: ["world/mood"] if suite == "world" else [])
    task = tasks.load("world/mood", corpus.SEED)
    kept, dropped = task.train[0].question, [task.test[0].question, task.validation[0].question]
    bare = task.test[1].question.partition("? ")[2]
    inside = f"An opening sentence of five words. {bare}"
    texts = [kept, *dropped, dropped[0].upper(), bare, inside, "cat", "cat"]
    monkeypatch.setattr(corpus, "SOURCES", {"x": corpus.Source("none", 1.0, lambda p: iter(texts))})
    assert corpus.build(tmp_path) == {"x": 2}
    assert [normalised(line) for line in (tmp_path / "x.txt").read_text().splitlines()] == [normalised(kept), "cat"]


def test_sentences():
    assert corpus.sentences('He left. "Why?" she asked. It cost 3.5 pounds. e.g. this') == [
        "He left.",
        '"Why?" she asked.',
        "It cost 3.5 pounds. e.g. this",
    ]


def test_archives_are_those_of_the_tasks():
    shared = [(name, release, pin) for name, release, pin in corpus.ARCHIVES.values() if name in ARCHIVES]
    assert len(shared) == 2
    for name, release, pin in shared:
        assert (release, pin) == (ARCHIVES[name].version, ARCHIVES[name].sha256)
