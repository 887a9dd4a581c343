"""One training step against the same step made by hand: tasks, losses with their gradients, masks, the optimiser, whose accuracy is shown."""

import pytest
import torch

from mosld import tasks
from mosld.adapters import attach
from mosld.config import RunConfig
from mosld.training import Trainer

NAMES = ("world/mood", "world/place", "world/tense")
BASE = {"tasks": ",".join(NAMES), "layers": 1, "steps": 4, "batch": 9, "eval_every": 2, "eval_rows": 40, "warmup": 0, "rank": 4}


def trainer(**values) -> Trainer:
    return Trainer(RunConfig(**{**BASE, **values}))


def first_step(run: Trainer, arm: int = 0) -> list[dict]:
    """Make step 1; of each adapted linear what it was given: real tokens [N, d_in], its router before the step, task and ids of the texts."""
    seen = []

    def note(adapter, args, y):
        known = adapter.context
        seen.append(
            {
                "x": args[0].detach().reshape(-1, adapter.d_in)[known.mask.reshape(-1) > 0],
                "router": None if adapter.router is None else adapter.router.detach().clone(),
                "task": known.task.clone(),
                "ids": known.ids.clone(),
            }
        )

    hooks = [a.register_forward_hook(note) for a in run.arms[arm].handle.adapters]
    list(run.advance(0))
    seen.clear()  # what was scored before training
    list(run.advance(1))
    for hook in hooks:
        hook.remove()
    return seen[: len(run.arms[arm].handle.adapters)]


def test_every_question_of_a_step_goes_with_its_own_task():
    run = trainer(method="mtl-lora", arms="")
    told = first_step(run)[0]
    tokens = run.backbone.tokenizer
    known = {}
    for index, name in enumerate(NAMES):  # the instruction before a question tells its task
        known[index] = tokens(tasks.load(name).train[0].instruction, add_special_tokens=False).input_ids
    found = []
    for ids, task in zip(told["ids"].tolist(), told["task"].tolist(), strict=True):
        own = [i for i, words in known.items() if ids[1 : 1 + len(words)] == words]
        if own:
            assert task == own[0]
            found.append(task)
    assert len(found) == BASE["batch"] and set(found) == {0, 1, 2}


def test_arms_start_alike_and_another_seed_starts_elsewhere():
    run, other = trainer(arms="dropout=0,0.3"), trainer(arms="dropout=0,0.3", seed=1)
    for p, q, r in zip(*(arm.handle.parameters() for arm in (*run.arms, other.arms[0])), strict=True):
        assert torch.equal(p, q) and (torch.equal(p, r) == (p.abs().max() == 0))  # B is zero in all


@pytest.mark.parametrize("seed", [0, 5])
def test_masks_are_drawn_by_the_runs_seed(seed):
    run = trainer(arms="dropout=0,0.3", seed=seed)
    first_step(run, 1)
    masks = [a.mask for a in run.arms[1].handle.adapters]
    draws = torch.Generator().manual_seed(seed)
    for mask in masks:
        assert torch.equal(mask, torch.empty_like(mask).bernoulli_(0.7, generator=draws).div_(0.7))
    assert all(a.mask is None for a in run.arms[0].handle.adapters)


@pytest.mark.parametrize("coefficient", [0.0, 0.5])
def test_the_balance_loss_and_what_it_does_to_routers(coefficient):
    """B is zero in the first step, so routers hear of nothing else: their gradient is that of c E sum f p, by autograd over the tokens seen."""
    run = trainer(arms="", dropout=0, balance=coefficient)
    seen = first_step(run)
    total = 0.0
    for adapter, told in zip(run.arms[0].handle.adapters, seen, strict=True):
        router = told["router"].requires_grad_()
        p = (told["x"] @ router.T).softmax(1)  # [N, E]
        chosen = torch.zeros_like(p).scatter(1, p.topk(2, 1).indices, 1.0).detach()
        loss = coefficient * p.shape[1] * (chosen.sum(0) / chosen.sum() * p.mean(0)).sum()
        loss.backward()
        grad = torch.zeros_like(router) if adapter.router.grad is None else adapter.router.grad
        torch.testing.assert_close(grad, router.grad, atol=1e-6, rtol=1e-4)
        assert (grad.abs().max() > 1e-6) == (coefficient > 0)
        total += float(loss.detach())
    assert run.log.frames[1].arms[0].extra == pytest.approx(total, rel=1e-4)
    assert (total >= 2 * coefficient * 0.99) and (total > 0) == (coefficient > 0)  # two linears, each at least 1 where it is even


def test_a_routers_rate_is_a_multiple_of_the_others():
    """SGD moves a tensor by its rate times its gradient; the balance loss gives routers one in the first step."""
    multiples = (1.0, 10.0, 0.0)
    run = trainer(arms="router_lr=1,10,0", optimiser="sgd", lr=0.01, balance=1.0, dropout=0)
    start = [[(a.router.detach().clone(), a.B.detach().clone()) for a in arm.handle.adapters] for arm in run.arms]
    first_step(run)
    for arm, before, multiple in zip(run.arms, start, multiples, strict=True):
        for adapter, (router, b) in zip(arm.handle.adapters, before, strict=True):
            assert adapter.router.grad.abs().max() > 1e-4 and adapter.B.grad.abs().max() > 0
            torch.testing.assert_close(adapter.router, router - 0.01 * multiple * adapter.router.grad, rtol=1e-5, atol=1e-8)
            torch.testing.assert_close(adapter.B, b - 0.01 * adapter.B.grad, rtol=1e-5, atol=1e-10)


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_weight_decay_shrinks_what_has_no_gradient(optimiser):
    """B is zero in the first step, so A has no gradient: what is left is A (1 - lr decay), with AdamW as with SGD."""
    run = trainer(arms="weight_decay=0,0.5", optimiser=optimiser, lr=0.1, dropout=0)
    start = [[a.A.detach().clone() for a in arm.handle.adapters] for arm in run.arms]
    first_step(run)
    for arm, before, left in zip(run.arms, start, (1.0, 1 - 0.1 * 0.5), strict=True):
        for adapter, a in zip(arm.handle.adapters, before, strict=True):
            torch.testing.assert_close(adapter.A, a * left, rtol=1e-5, atol=1e-7)


def test_accuracies_are_each_arms_own_on_test_rows_at_the_end_and_on_validation_rows_before():
    run = trainer(arms="lr=0.05,0.0001", method="lora", held_out="world/indoors")
    list(run.frames())
    backbone, every = run.backbone, [tasks.load(n, 0) for n in (*NAMES, "world/indoors")]

    def share(arm, rows, task):
        model = backbone.replica()
        handle = attach(model, arm.config, 9)
        with torch.no_grad():
            for own, trained in zip(handle.parameters(), arm.handle.parameters(), strict=True):
                own.copy_(trained)
        handle.train(False)
        right = [int(backbone.score(backbone.batch([e], [task]), model).argmax()) == e.answer for e in rows]
        return sum(right) / len(right)

    with torch.no_grad():
        by_hand = [{t.name: share(arm, t.test[:40], min(i, 2)) for i, t in enumerate(every)} for arm in run.arms]
        middle = [{t.name: share(arm, t.validation[:40], min(i, 2)) for i, t in enumerate(every)} for arm in run.arms]
    shown = [a.accuracy for a in run.log.frames[-1].arms]
    # a tie between two options may fall either way where rows are scored one by one: one question of 40
    for a, b in zip(by_hand, shown, strict=True):
        assert a == pytest.approx(b, abs=1 / 40 + 1e-9)
    apart = lambda p, q: sum(abs(p[n] - q[n]) for n in p)  # noqa: E731
    assert apart(*by_hand) > 0.3 and apart(by_hand[0], middle[0]) > 0.1, "else this could not tell arms, or parts, from one another"
    assert apart(shown[0], by_hand[0]) < apart(shown[0], middle[0])
    assert set(run.log.untrained) == set(shown[0])
