"""Slow motion: the stages multiply out to what the module gave, the mask is a real draw, and the run goes on as if nobody had looked."""

import pytest
import torch

from mosld.config import ConfigError, RunConfig
from mosld.registry import METHODS
from mosld.training import Trainer
from mosld.training.walk import walk, walkable

SMALL = {"tasks": "world/mood,world/place", "layers": 2, "batch": 6, "eval_every": 50, "eval_rows": 10, "rank": 4, "lr": 0.02, "warmup": 0}


def trained(steps=4, **values) -> Trainer:
    trainer = Trainer(RunConfig(**SMALL, steps=20, **values))
    list(trainer.advance(steps))
    return trainer


def fits(seen) -> None:
    """The stages make up the module's output, and the update is not nothing."""
    assert seen.update().norm() > 1e-3
    torch.testing.assert_close(seen.output(), seen.y, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("some", [list(METHODS)[i : i + 6] for i in range(0, len(METHODS), 6)], ids=lambda m: m[0])
def test_stages_of_every_method_multiply_out_to_the_modules_output(some):
    trainer = trained(arms="method=" + ",".join(some)) if len(some) > 1 else trained(method=some[0], arms="")
    for arm, method in enumerate(some):
        for training in (True, False):
            for linear in (0, 3):
                fits(walk(trainer, arm, linear, training))
        assert (walk(trainer, arm).weight is None) == (method in ("lora", "lora-matched", "mixlora")), method


@pytest.mark.parametrize("on", ["A", "B", "activations"])
@pytest.mark.parametrize("knobs", [{}, {"share": "none"}, {"share": "B", "side": "output"}], ids=str)
def test_wherever_dropout_acts_the_mask_is_in_the_stages(on, knobs):
    trainer = trained(dropout=0.3, dropout_on=on, arms="", **knobs)
    seen = walk(trainer)
    assert seen.mask.unique().tolist() == pytest.approx([0, 1 / 0.7])
    fits(seen)
    assert seen.shown()["dropout"]["on"] == on
    assert walk(trainer, training=False).mask is None


def test_a_token_by_hand():
    """MoSLD's equation in plain loops over one token's numbers."""
    trainer = trained(dropout=0.2, arms="")
    seen = walk(trainer, linear=1)
    a, n = seen.adapter, seen.texts[1]["columns"][4]
    x = seen.x[:, n].tolist()
    A, B, R, M = (t.tolist() for t in (a.A, a.B, a.router, seen.mask))
    h = [sum(w * m * v for w, m, v in zip(row, kept, x, strict=True)) for row, kept in zip(A, M, strict=True)]
    logits = torch.tensor([sum(w * v for w, v in zip(row, x, strict=True)) for row in R])
    p = logits.exp() / logits.exp().sum()
    first, second = sorted(range(4), key=lambda e: -p[e])[:2]
    gate = {first: float(p[first] / (p[first] + p[second])), second: float(p[second] / (p[first] + p[second]))}
    scale = a.config.alpha / a.config.rank
    for d in (0, 77):
        update = scale * sum(g * sum(B[d][e][k] * h[k] for k in range(4)) for e, g in gate.items())
        frozen = sum(w * v for w, v in zip(a.weight[d].tolist(), x, strict=True)) + float(a.bias[d])
        assert float(seen.y[d, n]) == pytest.approx(frozen + update, abs=1e-4)
        assert float(seen.update()[d, n]) == pytest.approx(update, abs=1e-5)


def test_the_mask_is_the_one_the_next_step_draws():
    trainer = trained(dropout=0.3, arms="")
    seen = [walk(trainer, linear=i).mask for i in range(4)]
    list(trainer.advance(1))
    for mask, adapter in zip(seen, trainer.arms[0].handle.adapters, strict=True):
        assert torch.equal(mask, adapter.mask)


def test_a_walk_leaves_no_trace_in_the_run():
    quiet, looked = trained(0, arms="method=mosld,moelora,sira"), trained(0, arms="method=mosld,moelora,sira")
    for _ in range(4):
        for arm in range(3):
            walk(looked, arm)
        list(looked.advance(1))
    list(quiet.advance(4))
    assert quiet.log.frames == looked.log.frames


def test_what_is_shown_are_the_numbers_themselves():
    trainer = trained(dropout=0.3, arms="")
    seen = walk(trainer)
    row = 2
    shown, text = seen.shown(row), seen.texts[row]
    ids = trainer.backbone.tokenizer(text["text"]).input_ids
    assert shown["sentence"] == trainer.backbone.tokenizer.convert_ids_to_tokens(ids) and len(shown["tokens"]) == 5
    for i, token in enumerate(shown["tokens"]):
        n = text["columns"][token["place"]]
        assert shown["x"][i]["values"] == pytest.approx(seen.x[:8, n].tolist(), rel=1e-3)
        assert shown["y"][i]["norm"] == pytest.approx(float(seen.y[:, n].norm()), rel=1e-3)
        # the experts shown, times their gates and the scale, are the update
        total = sum(e["weight"] * torch.tensor(e["values"]) for e in shown["experts"][i]) * shown["scale"]
        torch.testing.assert_close(total, torch.tensor(shown["update"][i]["values"]), atol=1e-4, rtol=1e-2)
    gate = shown["gate"]
    assert gate["experts"] == [0, 1, 2, 3]
    for p, w in zip(gate["probabilities"], gate["weights"], strict=True):
        assert sum(p) == pytest.approx(1, abs=1e-3) and sum(w) == pytest.approx(1, abs=1e-3) and sum(v > 0 for v in w) == 2
    drop = shown["dropout"]
    assert drop["shape"] == [4, 128] and drop["entries"] == 512 and drop["dropped"] == sum(m == 0 for r in drop["mask"] for m in r) > 100
    assert shown["error"] < 2e-5


def test_routed_blocks_are_left_out_and_faults_are_one_sentence():
    trainer = trained(0, method="mixlora", targets="q,up,down", arms="")
    assert [a.site.target for a in walkable(trainer)] == ["q", "q"]
    for act, words in (
        (lambda: walk(trainer, linear=2), "linear: 2 of MixLoRA is not allowed; give a whole number from 0 to 1."),
        (lambda: walk(trainer, arm=1), "arm: 1 is not allowed; give a whole number from 0 to 0."),
    ):
        with pytest.raises(ConfigError) as refused:
            act()
        assert str(refused.value) == words
