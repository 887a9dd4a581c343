"""What a frame says of words: the sentence of the batch, what experts tell of the scored rows, and the words they take."""

import json
from collections import Counter

import pytest
import torch

from mosld.backbones import nano
from mosld.backbones.base import Decoder
from mosld.config import RunConfig
from mosld.tasks import world
from mosld.training import Frame, RunLog, Trainer
from mosld.training.arms import Arm
from mosld.training.frame import READS
from mosld.training.probe import Reader
from mosld.training.sentence import WORDS, gates_of, pick, words_of

VALUES = {"tasks": "world/mood,world/place", "layers": 1, "steps": 4, "batch": 4, "eval_every": 2, "eval_rows": 20, "rank": 4}


@pytest.fixture(scope="module")
def trainer():
    trainer = Trainer(RunConfig(**VALUES, arms="method=mosld,lora,mtl-lora"))
    list(trainer.frames())
    return trainer


def test_words_of_wordpiece_and_of_byte_level_tokens():
    assert words_of(["[CLS]", "wave", "##length", "##s", "?", "a", "[SEP]"]) == [("wavelengths", [1, 2, 3]), ("?", [4]), ("a", [5])]
    assert words_of(["<s>", "Question", ":", "ĠThe", "Ġtail", "or", "ĊAnswer"]) == [
        ("Question", [1]),
        (":", [2]),
        ("The", [3]),
        ("tailor", [4, 5]),
        ("Answer", [6]),
    ]


def test_gates_of_a_word_are_the_mean_of_its_tokens():
    gate = torch.tensor([[0.75, 0.0, 0.5], [0.25, 0.5, 0.5], [0.0, 0.5, 0.0]])
    assert gates_of(gate[None], [[0, 1], [2]]) == [([[0, 1], [0, 1]], [[0.38, 0.38], [0.5, 0.5]])]


def test_the_sentence_is_of_the_batch_the_same_for_all_arms_and_its_gates_those_of_the_step(trainer):
    log = trainer.log
    for f in log.frames[1:]:
        said = f.sentence
        if f.arms[0].linears is None:
            assert said is None
            continue
        rows = trainer.mixture.batch(f.step - 1)
        assert 1 <= len(said.words) <= WORDS and said.kind in ("question", "option")
        texts = [e.question if said.kind == "question" else e.options[e.answer] for t, e in rows if t == said.task]
        joined = "".join(said.words)
        assert any(t.lower().replace(" ", "").startswith(joined) for t in texts)
        told = {"world/mood": "moodinthewords?", "world/place": "place?"}[log.tasks[said.task]]
        assert "".join(said.words[: said.instruction]) == (told if said.kind == "question" else "")
        mosld, lora, mtl = (a.linears[0] for a in f.arms)
        assert [len(w) for w in mosld.word_experts] == [2 if " " not in w else 0 for w in said.words]  # top-2, largest first
        assert all(sum(g) == pytest.approx(1, abs=0.02) and g == sorted(g, reverse=True) for g in mosld.word_gates)
        assert lora.word_experts is None and len(set(map(tuple, mtl.word_experts))) == 1
    table = log.sentences()
    assert set(table.arm) == set(log.arms[::2]) and table.groupby(["step", "arm", "linear", "place"]).gate.sum().between(0.97, 1.03).all()


def test_the_same_batch_gives_the_same_sentence(trainer):
    rows = trainer.mixture.batch(0)
    batch = trainer.backbone.batch([e for _, e in rows], [t for t, _ in rows])
    assert pick(batch, trainer.backbone.tokenizer, 1) == pick(batch, trainer.backbone.tokenizer, 1)
    assert pick(batch, trainer.backbone.tokenizer, 1).sentence == trainer.log.frames[1].sentence


def test_reads_on_scored_steps_only_and_where_there_is_a_router(trainer):
    reads = trainer.log.reads()
    assert set(reads.step) == {2, 4} and set(reads.label) == set(READS)
    assert set(reads.arm) == {trainer.log.arms[0], trainer.log.arms[2]}  # LoRA has no expert to tell anything
    assert (reads.query("arm == 'method mosld'").most == 1).all() and (reads.query("arm == 'method mtl-lora'").most == 2).all()
    assert reads.query("arm == 'method mosld'").null.notna().all() and reads.query("arm == 'method mtl-lora'").null.isna().all()
    assert (reads.bits < reads.most + 1e-6).all() and (reads.bits > -0.05).all()


def test_a_router_that_has_not_moved_tells_what_the_untrained_one_does():
    trainer = Trainer(RunConfig(**{**VALUES, "lr": 1e-30}, arms=""))
    list(trainer.frames())
    reads = trainer.log.reads()
    assert reads.bits.tolist() == pytest.approx(reads.null.tolist(), abs=1e-5)
    word = reads.query("label == 'word'").bits
    assert (word > 0.3).all() and (word > 2 * reads.query("label == 'task'").bits.values).all()


def test_takes_are_the_words_of_largest_lift_by_a_slow_loop(trainer):
    arm, last = trainer.arms[0], trainer.log.frames[-1]
    adapter, tokenizer = arm.handle.adapters[1], trainer.backbone.tokenizer
    word, sent, total = Counter(), Counter(), Counter()
    for task in trainer.tasks:
        rows = task.test[: VALUES["eval_rows"]]
        for text in dict.fromkeys([e.question for e in rows] + [o for e in rows for o in e.options]):  # each text once
            ids = tokenizer(text, return_tensors="pt").input_ids
            with torch.no_grad():
                arm.model(input_ids=ids, attention_mask=torch.ones_like(ids))
            for i, token in enumerate(ids[0].tolist()):
                word[token] += 1
                for e in (adapter.last.gate[:, i] > 0).nonzero()[:, 0].tolist():
                    sent[token, e] += 0.5
                    total[e] += 0.5
    share = {e: total[e] / sum(word.values()) for e in range(4)}
    for e in range(4):
        lift = {w: (sent[w, e] + 10 * share[e]) / (word[w] + 10) / share[e] for w in word}
        names = {tokenizer.convert_ids_to_tokens(w).removeprefix("##"): v for w, v in lift.items()}
        best = sorted((v for n, v in names.items() if n.isalpha()), reverse=True)[:3]
        assert [names[w] for w in last.arms[0].linears[1].takes[e]] == pytest.approx(best, rel=1e-4)
    words = trainer.log.words()
    assert set(words["rank"]) == {0, 1, 2} and set(words.step) == {2, 4}


def test_frames_survive_json_and_logs_of_older_versions_load(trainer):
    last = trainer.log.frames[-1]
    data = json.loads(json.dumps(last.to_dict(), allow_nan=False))
    assert Frame.from_dict(data) == last
    for arm in data["arms"]:
        for probe in arm["linears"]:
            for name in ("share", "effective_load", "grad_a", "grad_b", "step_a", "step_b", "most", "reads", "null", "takes"):
                del probe[name]
            del probe["word_experts"], probe["word_gates"]
            probe["balance"] = probe.pop("evenness")
    del data["sentence"]
    old = Frame.from_dict(data)
    header = json.loads(json.dumps(trainer.log.header()))
    for info in (info for arm in header["linears"] for info in arm):
        info["projection"] = info.pop("target")
    assert RunLog.from_header(header).linears == trainer.log.linears
    assert old.arms[0].linears[0].evenness == last.arms[0].linears[0].evenness
    assert old.sentence is None and old.arms[0].linears[0].reads is None and old.arms[0].linears[0].load == last.arms[0].linears[0].load


def test_sizes_of_gradient_and_step_are_what_the_ratios_are_made_of(trainer):
    sizes = trainer.log.sizes().query("arm == 'method mosld' and step == 4 and linear == @trainer.log.linears[0][0].name")
    rms = sizes.groupby(["quantity", "matrix"]).rms.mean()
    ratios = trainer.log.frames[-1].arms[0].linears[0].imbalance
    for index, quantity in ((1, "gradient"), (2, "step")):
        assert torch.tensor(rms[quantity, "A"] / rms[quantity, "B"]).log2().item() == pytest.approx(ratios[index], abs=1e-4)
    assert sizes.query("matrix == 'A'").expert.max() == 0 and sizes.query("matrix == 'B'").expert.max() == 3


def test_a_decoders_question_is_read_once_and_every_option():
    from transformers import LlamaConfig, LlamaForCausalLM

    _, tokenizer, _ = nano.open_model()
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    torch.manual_seed(0)
    decoder = Decoder("tiny", LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size)), tokenizer, "")
    bits = {}
    for router in ("token", "task"):
        arm = Arm("one", RunConfig(rank=4, router=router, arms=""), decoder, 2)
        expected = 0
        with Reader(arm.handle, arm.starts, 2) as reader, torch.inference_mode():
            for index, name in enumerate(("world/mood", "world/place")):
                rows = world.load(name).test[:30]
                batch = decoder.batch(rows, [index] * len(rows))
                arm.score(batch)
                reader.add(batch)
                own = batch.option_mask.sum(1)
                expected += int(own.sum()) + sum(int(batch.attention_mask[n].sum() - own[n]) for n in batch.option_row[:, 0].tolist())
        assert sum(labels.shape[1] for labels in reader.labels) == expected
        bits[router] = dict(zip(READS, reader.read(tokenizer)[0]["reads"], strict=True))
    assert bits["token"]["word"] > 0.9 > 0.1 > bits["token"]["task"]  # the first layer sees the token and nothing else
    assert bits["task"]["task"] > 0.2 > bits["task"]["kind"]
