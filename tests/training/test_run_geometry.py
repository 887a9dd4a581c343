"""The geometry of a run: updates against the full products, gradients against autograd on a model without adapters, no trace left behind."""

import pytest
import torch
from torch.nn import functional as F

from mosld.config import ConfigError, RunConfig
from mosld.registry import METHODS
from mosld.training import Trainer
from mosld.training.geometry import Looking, conflicts, gradients, updates

SMALL = {"tasks": "world/mood,world/place", "layers": 2, "steps": 6, "batch": 4, "eval_every": 6, "eval_rows": 10, "rank": 4, "lr": 0.02}


def trained(**changes) -> Trainer:
    trainer = Trainer(RunConfig(**{**SMALL, **changes}))
    list(trainer.advance(3))
    return trainer


@pytest.fixture(scope="module")
def trainer():
    return trained(arms="rank=4,2")


def cosine(x, y) -> float:
    return float(F.cosine_similarity(x.flatten(), y.flatten(), dim=0))


def test_updates_are_those_of_the_full_matrices(trainer):
    found, across = updates(trainer)
    first, second = (arm.handle.adapters[1] for arm in trainer.arms)
    full = [[a.B[:, e].detach() @ a.A.detach() for e in range(4)] for a in (first, second)]
    for arm in (0, 1):
        seen = found[arm][1]
        assert (seen.layer, seen.target, seen.experts) == (0, "v", 4)
        for e, update in enumerate(full[arm]):
            values = torch.linalg.svdvals(update)[: trainer.arms[arm].config.rank]
            assert seen.singular[e] == pytest.approx(values.tolist(), abs=1e-5)
            assert seen.stable_rank[e] == pytest.approx(float(update.norm() ** 2 / values[0] ** 2), rel=1e-3)
    assert found[0][1].cosines[0][2] == pytest.approx(cosine(full[0][0], full[0][2]), abs=1e-4)
    assert across[1][3][1] == pytest.approx(cosine(full[0][3], full[1][1]), abs=1e-4)


def test_gradients_are_those_of_the_update_as_a_weight(trainer):
    """dL/dA_i and dL/dB from a model whose linears are plain weights, W + s B A, differentiated by W: an arm of one expert."""
    lora = trained(method="lora", arms="")
    arm, rows = lora.arms[0], lora.tasks[1].train[:5]
    batch = lora.backbone.batch(rows, [1] * 5)
    deltas = {a.site.name: a.delta().detach().requires_grad_() for a in arm.handle.adapters}
    model = lora.backbone.replica()
    hooks = [
        model.get_submodule(n).register_forward_hook(lambda m, x, y, d=d: F.linear(x[0], m.weight.detach() + d, m.bias)) for n, d in deltas.items()
    ]
    F.cross_entropy(lora.backbone.score(batch, model), batch.answer).backward()
    for hook in hooks:
        hook.remove()
    seen = gradients(lora, arm, 1, rows)
    for i, a in enumerate(arm.handle.adapters):
        by_weight = a.scale * deltas[a.site.name].grad
        torch.testing.assert_close(seen[2 * i].view_as(a.A), (a.B.t() @ by_weight).detach(), atol=1e-5, rtol=1e-3)
        torch.testing.assert_close(seen[2 * i + 1].view_as(a.B), (by_weight @ a.A.t()).detach(), atol=1e-5, rtol=1e-3)


def test_conflicts_are_cosines_of_backward(trainer):
    whole, first = conflicts(trainer, rows=4)[1][:2]
    arm = trainer.arms[1]
    # the same by backward(): the gradient of all eight questions is the mean of the two halves
    grads = []
    for task in (0, 1):
        batch = trainer.backbone.batch(trainer.tasks[task].train[:8], [task] * 8)
        arm.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(arm.score(batch), batch.answer).backward()
        grads.append([(a.A.grad.clone(), a.B.grad.clone()) for a in arm.handle.adapters])
    (a0, b0), (a1, b1) = grads[0][0], grads[1][0]
    assert (first.layer, first.target) == (0, "q")
    assert first.a[0][1] == first.a[1][0] == pytest.approx(cosine(a0, a1), abs=1e-4)
    assert first.b[0][1] == pytest.approx(cosine(b0, b1), abs=1e-4)
    every = [torch.cat([a.flatten() for a, _ in of_task]) for of_task in grads]
    assert whole.layer is None and whole.a[0][1] == pytest.approx(cosine(*every), abs=1e-4)
    halves = [gradients(trainer, arm, 0, trainer.tasks[0].train[i : i + 4])[1] for i in (0, 4)]
    assert first.b[0][0] == pytest.approx(cosine(*halves), abs=1e-4)  # the diagonal: two halves of one task's questions


def test_at_the_start_a_has_no_gradient_and_updates_no_direction():
    trainer = Trainer(RunConfig(**{**SMALL, "arms": ""}))
    whole = conflicts(trainer, rows=2)[0][0]
    assert whole.a == [[None, None], [None, None]] and None not in whole.b[0]
    update = updates(trainer)[0][0][0]
    assert update.cosines[0][0] is None and update.stable_rank == [None] * 4 and update.singular[0] == [0.0] * 4


def test_slices_are_of_one_moment_and_what_is_not_reached_is_a_gap():
    """Steps made between two slices change nothing: the sum of the slices is what one look at the start finds."""
    run = trained()
    at_once = conflicts(run, rows=2)
    looking = Looking(run, rows=2)
    arms = len(run.arms)
    assert looking.left == 2 * arms and looking.found()[0][0].b == [[None, None], [None, None]]
    for _ in range(arms):
        looking.go_on(run)
    assert looking.done == arms and looking.found()[0][0].b[0][0] is not None and looking.found()[0][0].b[0][1] is None
    list(run.advance(1))
    while looking.left:
        looking.go_on(run)
    assert looking.found() == at_once and looking.step == run.step - 1
    assert conflicts(run, rows=2) != at_once  # the run itself has gone on


@pytest.mark.parametrize("method", ["mosld", "sira", "moelora"])
def test_a_run_that_was_looked_into_goes_on_to_the_same_frames(method):
    def frames(look: bool):
        trainer, seen = Trainer(RunConfig(**SMALL, method=method, arms="dropout=0.1,0.3" if method == "mosld" else "")), []
        for frame in trainer.frames():
            seen.append(frame)
            if look and frame.step in (0, 2, 3):
                before = [(p.grad, p.grad.clone()) for a in trainer.arms for p in a.handle.parameters() if p.grad is not None]
                drawn = [a.handle.generator.get_state() for a in trainer.arms], torch.get_rng_state()
                updates(trainer), conflicts(trainer, rows=3)
                assert all(torch.equal(now, old) for now, old in before)
                assert all(torch.equal(a.handle.generator.get_state(), g) for a, g in zip(trainer.arms, drawn[0], strict=True))
                assert torch.equal(torch.get_rng_state(), drawn[1])
        return seen

    assert frames(look=True) == frames(look=False)


@pytest.mark.parametrize("method", list(METHODS))
def test_every_method_can_be_looked_into(method):
    trainer = trained(method=method, arms="", targets="up,down" if method == "mixlora" else "q,v")
    found, _ = updates(trainer)
    adapters = trainer.arms[0].handle.adapters
    assert [u.experts for u in found[0]] == [a.site.experts for a in adapters]
    assert all(row[i] == pytest.approx(1, abs=1e-3) for u in found[0] for i, row in enumerate(u.cosines) if row[i] is not None)
    whole = conflicts(trainer, rows=2)[0][0]
    assert -1.001 <= whole.a[0][1] <= 1.001 and -1.001 <= whole.b[0][1] <= 1.001


def test_a_run_that_diverged_says_so():
    trainer = trained(arms="")
    with torch.no_grad():
        trainer.arms[0].handle.adapters[0].A.fill_(torch.inf)
    with pytest.raises(ConfigError, match="run: it has diverged"):
        updates(trainer)
