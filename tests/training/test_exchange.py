"""Gates dealt out anew: who gets whose, what stays, and that it ends with its block."""

import json

import pytest
import torch

from mosld.config import ConfigError, RunConfig
from mosld.training import Trainer
from mosld.training.inspector import EXCHANGES, Inspector, contribution


@pytest.fixture(scope="module")
def trainer():
    values = {"tasks": "world/mood,world/place", "layers": 1, "steps": 6, "batch": 4, "eval_every": 6, "eval_rows": 12, "rank": 4, "lr": 0.02}
    trainer = Trainer(RunConfig(**values, arms="method=mosld,mode,lora,mosld;router=token,token,token,uniform"))
    list(trainer.frames())
    return trainer


def gates(inspector, batch):
    inspector.arm.score(batch)
    return inspector.routed[0].last.gate.clone()


def test_who_gets_whose_gates(trainer):
    inspector = Inspector(trainer)
    batch = trainer.backbone.batch(trainer.tasks[0].test[:5], [0] * 5)
    real = batch.attention_mask.reshape(-1).bool()
    M, L = batch.input_ids.shape
    with torch.no_grad():
        own = gates(inspector, batch)
        new = {}
        for way in EXCHANGES:
            with inspector.exchanged(way):
                new[way] = gates(inspector, batch)
        assert torch.equal(gates(inspector, batch), own)
    # Where a token stands in a batch may move its gates' last digit, on processors with narrow vector units: compared to six.
    rows = lambda g: torch.tensor(sorted(map(tuple, g[:, real].t().round(decimals=6).tolist())))  # noqa: E731
    torch.testing.assert_close(rows(new["tokens"]), rows(own), atol=3e-6, rtol=0)
    assert not torch.allclose(new["tokens"], own, atol=1e-3)
    torch.testing.assert_close(new["mean"][:, real], own[:, real].mean(1, keepdim=True).expand(-1, int(real.sum())))
    of_text = lambda g, m: g[:, m * L : m * L + int(batch.attention_mask[m].sum())]  # noqa: E731
    for m in range(M):
        mine = of_text(new["texts"], m)
        length = mine.shape[1]
        cycled = [of_text(own, n)[:, torch.arange(length) % of_text(own, n).shape[1]] for n in range(M) if n != m]
        assert any(torch.allclose(mine, other, atol=3e-6, rtol=0) for other in cycled)
    torch.testing.assert_close(new["tokens"][:, ~real], own[:, ~real], atol=3e-6, rtol=0)


def test_what_routing_contributes_in_plain_values(trainer):
    told = contribution(trainer, rows=12, part="test")
    assert json.loads(json.dumps(told)) == told and set(told["mean"]) == {"as it is", *EXCHANGES}
    # as it is: what a run of single tasks finds, question by question
    expected = {t.name: trainer.accuracy(trainer.arms[0], i, t.test[:12]) for i, t in enumerate(trainer.tasks)}
    assert told["accuracy"]["as it is"] == pytest.approx(expected)
    even = contribution(trainer, arm=3, rows=12)
    assert len({tuple(v.values()) for v in even["accuracy"].values()}) == 1  # uniform gates may go where they like


@pytest.mark.parametrize(
    "arm,way,sentence",
    [
        (0, "words", "exchange: 'words' is not known; choose tokens, texts, mean."),
        (1, "mean", "exchange: MoDE routes by"),
        (2, "mean", "exchange: LoRA"),
    ],
)
def test_faults_are_one_sentence(trainer, arm, way, sentence):
    with pytest.raises(ConfigError) as refused, Inspector(trainer, arm).exchanged(way):
        pass
    assert str(refused.value).startswith(sentence)
