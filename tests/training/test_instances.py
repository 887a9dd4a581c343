"""Sentence embeddings for instance-routed methods: from the bare backbone, the same in training and scoring, and after a resume."""

import pytest
import torch

from mosld.config import RunConfig
from mosld.training import Trainer
from mosld.training.instances import Instances


def config(**changes):
    values = {"method": "mor1e", "tasks": "world/mood,world/place", "layers": 1, "steps": 4, "batch": 4, "eval_every": 2, "eval_rows": 10}
    return RunConfig(**{**values, "rank": 2, "experts": 2, "warmup": 1, "arms": "lr=0.003,0.001", **changes})


@pytest.fixture(scope="module")
def trainer(tmp_path_factory):
    trainer = Trainer(config(), out=tmp_path_factory.mktemp("run") / "a")
    trainer.seen = list(trainer.frames())
    return trainer


def batch_of(trainer, step=0):
    rows = trainer.mixture.batch(step)
    return trainer.backbone.batch([e for _, e in rows], [t for t, _ in rows])


def test_embeddings_are_the_frozen_backbones_and_computed_once(trainer):
    batch, calls = batch_of(trainer), []
    expected = trainer.backbone.embed(batch)
    instances = Instances(trainer.backbone)
    hook = trainer.backbone.model.register_forward_hook(lambda *a: calls.append(1))
    assert torch.equal(instances(batch), expected) and torch.equal(instances(batch_of(trainer)), expected) and len(calls) == 1
    hook.remove()


def test_arms_share_them_and_centroids_come_from_training_rows(trainer):
    one, two = trainer.arms
    assert one.instances is two.instances is not None
    points = one.handle._context.centroids[4]
    assert torch.equal(points, two.handle._context.centroids[4])
    questions = torch.cat([trainer.backbone.embed(trainer.backbone.batch(t.train[:64], [0] * 64))[:1] for t in trainer.tasks])
    assert points.shape == (4, trainer.backbone.d_model) and (questions @ points.t()).amax(1).min() > 0.3


def test_two_texts_of_a_batch_are_gated_apart_by_their_embeddings(trainer):
    arm, batch = trainer.arms[0], batch_of(trainer)
    M, L = batch.attention_mask.shape
    with torch.no_grad():
        arm.handle.adapters[0].router.zero_()
    arm.score(batch)
    gate = arm.handle.adapters[0].last.gate.view(4, M, L)
    torch.testing.assert_close(gate[:, :, 0], gate[:, :, -1])  # what is left is the text's own
    assert not torch.allclose(gate[:, 0, 0], gate[:, 1, 0])


def test_a_run_goes_on_bit_for_bit(trainer, tmp_path):
    first = Trainer(config(), out=tmp_path / "b")
    stream = first.frames()
    seen = [next(stream) for _ in range(3)]
    stream.close()
    again = Trainer.resume(tmp_path / "b")
    assert seen + list(again.frames()) == trainer.seen


def test_a_method_that_does_not_ask_gets_none():
    assert Trainer(config(method="lora", arms="")).arms[0].instances is None
