"""Stacked runs against the Trainer, one by one: the same losses, answers and imbalance within rounding."""

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from mosld import backbones
from mosld.backbones.base import Decoder
from mosld.config import ConfigError, RunConfig
from mosld.studies.claims.job import ROUTERS, Job
from mosld.studies.claims.stack import Merged, Stack, merge, shuffled, stackable, structure
from mosld.training import Trainer

COMMON = {"tasks": "world/mood,world/actor", "layers": 2, "steps": 4, "batch": 6, "warmup": 2, "experts": "3", "rank": 4, "arms": "", "eval_rows": 20}
METHODS = {
    "mosld": {"method": "mosld", "dropout": 0.2},
    "dropout on B": {"method": "mosld", "dropout_on": "B", "share": "none"},
    "shared B": {"method": "mosld", "share": "B", "dropout": 0.0},
    "mola": {"method": "mola"},
    "hydralora": {"method": "hydralora"},
    "lora": {"method": "lora"},
    "matched": {"method": "lora-matched"},
    "mtl-lora": {"method": "mtl-lora"},
    "sgd": {"method": "mosld", "optimiser": "sgd", "lr": 1.0},
}


@pytest.mark.parametrize("name", METHODS)
def test_a_stack_comes_to_what_its_runs_come_to_one_by_one(name):
    values = [{**COMMON, "seed": 5, "lr": 3e-3}, {**COMMON, "seed": 8, "lr": 1e-2}]
    values = [{**v, **METHODS[name]} for v in values]
    jobs = [Job(RunConfig(**v, probe_every=1, eval_every=4)) for v in values]
    assert len({structure(j) for j in jobs}) == 1
    stack = Stack(jobs)
    mixtures = stack.mixtures
    for step in range(4):
        stack.train(stack.merged([m.batch(step) for m in mixtures]), probing=True)
    losses = torch.stack(stack.losses)  # [steps, S]
    tests = [[(i, e) for i, t in enumerate(m.tasks) for e in t.test[:20]] for m in mixtures]
    right, _ = stack.answers([stack.merged(tests)])
    for s, job in enumerate(jobs):
        frames = list(Trainer(job.config).frames())[1:]
        torch.testing.assert_close(losses[:, s], torch.tensor([f.arms[0].loss for f in frames]), rtol=2e-4, atol=2e-4)
        score = sum(frames[-1].arms[0].accuracy.values()) / 2
        assert abs(sum(right[s]) / 40 - score) <= 1 / 40 + 1e-9  # a tie within rounding may fall to the other side
        for (_, ours), frame in zip(stack.imbalance, frames, strict=True):
            for k in range(4):
                theirs = [p.imbalance[k] for p in frame.arms[0].linears if p.imbalance[k] is not None]
                if theirs:
                    assert float(ours[s, k]) == pytest.approx(sum(theirs) / len(theirs), abs=0.02)
                else:
                    assert math.isnan(ours[s, k])


def test_a_runs_numbers_do_not_depend_on_its_neighbours():
    jobs = [Job(RunConfig(**COMMON, seed=n, dropout=0.1 * n)) for n in (1, 2, 3)]
    losses = []
    for group in (jobs, jobs[1:2]):
        stack = Stack(group)
        mixtures = stack.mixtures
        for step in range(3):
            stack.train(stack.merged([m.batch(step) for m in mixtures]))
        losses.append(torch.stack(stack.losses))
    torch.testing.assert_close(losses[0][:, 1], losses[1][:, 0], rtol=1e-4, atol=1e-4)


def test_the_rate_of_a_alone():
    config = RunConfig(**COMMON, method="mosl")
    frozen, quick = Stack([Job(config, rate_a=0)]), Stack([Job(config, rate_a=4)])
    for stack in (frozen, quick):
        before = stack.linears[0].A.detach().clone()
        for step in range(2):
            stack.train(stack.merged([m.batch(step) for m in stack.mixtures]))
        stack.moved = (stack.linears[0].A - before).abs().max()
    assert frozen.moved == 0 and quick.moved > 0
    assert frozen.linears[0].B.abs().max() > 0


def tiny_decoder() -> Decoder:
    """A LLaMA of two layers with random weights; it reads bytes."""
    torch.manual_seed(0)
    words = {chr(c): c - 32 for c in range(32, 127)} | {"[UNK]": 95, "<s>": 96}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    config = LlamaConfig(vocab_size=97, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, initializer_range=0.5)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", bos_token="<s>")
    return Decoder("tiny", LlamaForCausalLM(config), wrapped, "random weights", max_tokens=64)


def test_a_decoder_is_padded_on_the_left():
    """Merged with a longer neighbour, the logits of a batch are those it has alone."""
    backbone = tiny_decoder()
    jobs = [Job(RunConfig(**{**COMMON, "layers": 0}, seed=n, method="mosl")) for n in (1, 2)]
    stack = Stack(jobs, backbone)
    rows = [m.batch(0) for m in stack.mixtures]
    rows[1] = rows[1][:3]
    both = stack.score(stack.merged(rows)).view(2, 6, -1)
    alone = Stack(jobs[1:], backbone)
    logits = alone.score(alone.merged(rows[1:]))
    torch.testing.assert_close(both[1][:3, : logits.shape[1]], logits, rtol=1e-4, atol=1e-4)


def test_what_is_not_stacked():
    assert stackable(RunConfig(method="mosld")) and not stackable(RunConfig(method="mode")) and not stackable(RunConfig(side="output"))
    with pytest.raises(ConfigError, match="train them apart"):
        Stack([Job(RunConfig(rank=4)), Job(RunConfig(rank=8))])


def test_keys_follow_what_differs_from_the_defaults():
    assert Job(RunConfig()).key == Job(RunConfig(rank=8)).key == Job(RunConfig(arms="")).key
    keys = {Job(RunConfig()).key, Job(RunConfig(seed=1)).key, Job(RunConfig(), rows=64).key, Job(RunConfig(), rate_a=0).key}
    assert len(keys) == 4


def test_shuffled_gates_stay_on_real_tokens():
    real = torch.tensor([[[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 0, 0]]]).bool()
    for by in ("tokens", "texts"):
        place = shuffled(real, by, seed=3)[0]
        flat = real.flatten()
        assert flat[place[flat]].all() and (place[~flat] == torch.arange(12)[~flat]).all()
    tokens = shuffled(real, "tokens", 3)[0]
    assert sorted(tokens.tolist()) == list(range(12)), "each gate is used once"
    texts = shuffled(real, "texts", 3)[0] // 4
    assert all(texts[n] != n // 4 for n in range(12) if real.flatten()[n]), "no text keeps its own"


def test_rows_that_fill_up_are_seen_by_nobody():
    backbone = backbones.load("nano", 1)
    config = RunConfig(**COMMON)
    stack = Stack([Job(config)], backbone)
    rows = stack.mixtures[0].batch(0)
    few, many = (backbone.batch([e for _, e in rows[:n]], [0] * n) for n in (2, 6))
    merged, real, _, asked = merge([few, many], left=False)
    assert asked.sum(1).tolist() == [2, 6]
    assert (merged.attention_mask.sum(1) > 0).all() and real[0].sum() == few.attention_mask.sum()
    assert Merged.of([few, many], False, torch.device("cpu")).batch.input_ids.shape == merged.input_ids.shape


@pytest.mark.parametrize("reads", ROUTERS)
def test_what_a_router_reads_decides_where_its_gates_are_alike(reads):
    """Gates are equal for tokens that the router cannot tell apart, and the stack's answer is the sum over experts weighed by them."""
    backbone = backbones.load("nano", 1)
    stack = Stack([Job(RunConfig(**{**COMMON, "layers": 1, "lr": 0.05}, seed=n), router=reads) for n in (1, 2)], backbone)
    mixtures = stack.mixtures
    for step in range(3):
        stack.train(stack.merged([m.batch(step) for m in mixtures]))
    m = stack.merged([x.batch(5) for x in mixtures])
    stack.score(m)
    linear = stack.linears[0]
    gate = linear.gate.view(*m.real.shape, 3)
    torch.testing.assert_close(gate[m.real].sum(-1), torch.ones(int(m.real.sum())))
    ids = m.batch.input_ids.view(m.real.shape)
    for s in range(2):
        for row in range(m.real.shape[1]):
            real = m.real[s, row]
            if not real.any():
                continue
            own = gate[s, row][real]
            alike = {"text": True, "instruction": True, "uniform": True, "task": True, "token": False, "random": False, "hash": False}[reads]
            if alike:
                torch.testing.assert_close(own, own[:1].expand_as(own))
            if reads == "task":
                same = [r for r in range(m.real.shape[1]) if m.task[s, r] == m.task[s, row] and m.real[s, r].any()]
                torch.testing.assert_close(own[0], gate[s, same[0]][0])
            if reads == "hash":
                for place, token in enumerate(ids[s, row][real].tolist()):
                    where = (ids[s] == token) & m.real[s]
                    torch.testing.assert_close(own[place].expand(int(where.sum()), -1), gate[s][where])
            if reads == "instruction" and row in m.batch.question_row.view(2, -1)[0].tolist():
                assert 0 < m.instruction[s, row].sum() < real.sum() or s
    x = torch.randn(m.real.numel() // m.real.shape[2], m.real.shape[2], linear.weight.shape[1])
    y = linear(x)
    flat, g = x.view(2, -1, x.shape[-1]), linear.gate
    for s, n in ((0, 0), (1, 3)):
        slow = linear.weight @ flat[s, n] + linear.bias
        for e in range(3):
            slow = slow + linear.scale * g[s, n, e] * linear.B[s, :, e] @ (linear.A[s] @ flat[s, n])
        torch.testing.assert_close(y.view(2, -1, y.shape[-1])[s, n], slow, rtol=1e-4, atol=1e-4)
    if reads == "random":
        fresh = Stack([Job(RunConfig(**{**COMMON, "layers": 1, "lr": 0.05}, seed=1))], backbone)
        assert torch.equal(linear.router[0], fresh.linears[0].router[0])


def test_information_of_an_oracle_and_of_a_hash():
    """A router told the task knows all of it and nothing of the word within a task; one that hashes the word knows the word."""
    backbone = backbones.load("nano", 1)
    found = {}
    for reads in ("task", "hash"):
        stack = Stack([Job(RunConfig(**{**COMMON, "layers": 1, "experts": "2", "top_k": 1}, seed=3), router=reads)], backbone)
        if reads == "task":
            for x in stack.linears:
                x.router.data[:] = torch.tensor([[[5.0, -5.0], [-5.0, 5.0]]])
        rows = [(i, e) for i, t in enumerate(stack.mixtures[0].tasks) for e in t.test[:60]]
        found[reads] = stack.information([stack.merged([rows])], 2)[0]
    assert found["task"][2] == pytest.approx(1, abs=0.1), "two tasks, two experts: one bit, less what the tokens' shares leave"
    assert found["hash"][0] > 0.5 and found["hash"][2] < 0.2


def test_disturbed_gates_change_answers_and_leave_no_trace():
    config = RunConfig(**{**COMMON, "lr": 0.05})
    stack = Stack([Job(config, router="task")])
    mixture = stack.mixtures[0]
    for step in range(6):
        stack.train(stack.merged([mixture.batch(step)]))
    rows = [(i, e) for i, t in enumerate(mixture.tasks) for e in t.test[:20]]
    parts = [stack.merged([rows])]
    plain = stack.answers(parts)[1][0]
    for by in ("tokens", "texts", "mean"):
        assert stack.answers(parts, by)[1][0] != plain
    assert stack.answers(parts)[1][0] == plain
