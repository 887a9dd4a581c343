"""AdaMerging: entropy and gradient by hand and against autograd through the naive merge; steps, bounds, memory, no look at answers."""

import dataclasses
import math
import weakref

import pytest
import torch
from merging_helpers import adapters, naive
from torch.utils._python_dispatch import TorchDispatchMode

from mosld.merging import adamerging
from mosld.merging.bench import Bench
from mosld.merging.config import MergeConfig
from mosld.merging.entropy import entropy, mean_entropy
from mosld.merging.methods import run
from mosld.merging.model import gradients
from mosld.merging.vectors import task_vector


def test_entropy_by_hand():
    inf = torch.inf
    logits = torch.tensor(
        [[0.0, 0.0, -inf, -inf], [0.0, math.log(3.0), -inf, -inf], [2.0, 2.0, 2.0, 2.0], [5.0, -inf, -inf, -inf]], requires_grad=True
    )
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    torch.testing.assert_close(entropy(logits), torch.tensor([math.log(2), quarter, math.log(4), 0.0]))
    entropy(logits).sum().backward()
    assert torch.isfinite(logits.grad).all() and logits.grad[2].abs().max() < 1e-6
    # dH/dz_i = -p_i (log p_i + H)
    expected = [-p * (math.log(p) + quarter) for p in (0.25, 0.75)]
    assert logits.grad[1, :2].tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_of_two_coefficients_by_hand():
    # theta = [[1 + 2 a, 3 b]], L with dL/dtheta = [[0.5, -1]]: dL/da = 0.5 * 2, dL/db = -1 * 3
    vectors = [{"w": torch.tensor([[2.0, 0.0]])}, {"w": torch.tensor([[0.0, 3.0]])}]
    assert adamerging.coefficient_gradient({"w": torch.tensor([[0.5, -1.0]])}, vectors).tolist() == [[1.0, -3.0]]
    assert adamerging.merged(vectors, torch.tensor([[0.5, 0.1]]))["w"].tolist() == [pytest.approx([1.0, 0.3])]


def test_the_gradient_is_autograds_through_the_naive_merge(bench):
    lams = torch.full((4, 3), 0.3, dtype=torch.double) + 0.1 * torch.arange(12).view(4, 3) / 12
    lams.requires_grad_()
    expected = naive(bench, lams)
    expected.backward()
    batches = bench.stream("validation", 6)(0)
    loss, gradient = gradients(bench.model, adamerging.merged(bench.vectors, lams.detach()), batches, mean_entropy, 3)
    assert loss == pytest.approx(expected.item(), rel=1e-9)
    torch.testing.assert_close(adamerging.coefficient_gradient(gradient, bench.vectors), lams.grad)
    assert lams.grad.abs().min() > 1e-6


def test_entropy_falls_and_coefficients_stay_in_bounds(bench):
    seen = []
    one_batch = list(bench.stream("validation", 16)(0))
    watch = lambda step, lams, loss: seen.append((step, lams.clone(), loss))  # noqa: E731
    lams = adamerging.learn(bench.model, bench.vectors, lambda step: one_batch, True, 0.3, 40, 0.05, watch)
    assert [s for s, _, _ in seen] == list(range(1, 41)) and torch.equal(seen[-1][1], lams)
    assert seen[-1][2] < seen[0][2] - 0.01
    assert all(v.min() >= 0 and v.max() <= 1 for _, v, _ in seen) and (lams == 0).any() | (lams == 1).any()
    # Adam's first step is its learning rate in every coordinate, whatever the size of the gradient
    torch.testing.assert_close((seen[0][1] - 0.3).abs(), torch.full((4, 3), 0.05), rtol=1e-3, atol=0)
    task_wise = adamerging.learn(bench.model, bench.vectors, lambda step: one_batch, False, 0.3, 1, 0.05)
    assert task_wise.shape == (1, 3)


def test_answers_are_not_looked_at(bench, loaded, backbone):
    assert all((b.answer == -1).all() for kind in ("validation", "test") for b in bench.stream(kind, 8)(3))
    assert all((b.answer >= 0).all() for b in bench.stream("labelled", 8)(3))
    wrong = [
        dataclasses.replace(t, validation=tuple(dataclasses.replace(e, answer=(e.answer + 1) % len(e.options)) for e in t.validation))
        for t in loaded[:3]
    ]
    other = Bench(backbone, wrong, bench.vectors, ("q", "v"))
    learned = [adamerging.learn(b.model, b.vectors, b.stream("validation", 8), steps=3) for b in (bench, other)]
    assert torch.equal(*learned)


def test_questions_without_answers_are_validation_questions_unless_asked_for(bench, loaded, backbone):
    """A merge does not move when the test rows are others, and moves when the validation rows are; with unlabelled=test the other way round."""
    config = MergeConfig(ada_steps=2, ada_lr=0.05, merge_batch=6)
    found = {}
    for part in ("validation", "test"):
        swapped = [dataclasses.replace(t, **{part: t.train[:30]}) for t in loaded[:3]]
        other = Bench(backbone, swapped, bench.vectors, ("q", "v"), eval_rows=30)
        for looks in ("validation", "test"):
            own, theirs = (run("adamerging-task", b, config.replace(unlabelled=looks)).losses for b in (bench, other))
            found[part, looks] = own == theirs
    assert found == {("validation", "validation"): False, ("test", "validation"): True, ("validation", "test"): True, ("test", "test"): False}


class Peak(TorchDispatchMode):
    """The largest sum of bytes of the tensors that were made inside the block and live at one time."""

    def __enter__(self):
        self.live, self.peak = {}, 0
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self.live:
                    self.live[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.live.pop, storage._cdata, None)
        self.peak = max(self.peak, sum(self.live.values()))
        return out


def test_memory_does_not_grow_with_the_number_of_tasks(loaded, backbone):
    """The same task over and over: the same questions and sizes, so that only the number of tasks differs."""
    own, all_at_once = {}, {}
    for count in (2, 8):
        vectors = [task_vector(adapters(backbone, seed)) for seed in range(count)]
        bench = Bench(backbone, [loaded[0]] * count, vectors, ("q", "v"))
        batches = bench.stream("validation", 8)
        lams = torch.full((4, count), 0.3, dtype=torch.double, requires_grad=True)
        naive(bench, lams)  # token ids are kept from here on
        with Peak() as peak:
            adamerging.learn(bench.model, vectors, batches, steps=1)
        own[count] = peak.peak
        with Peak() as peak:
            naive(bench, lams).backward()
        all_at_once[count] = peak.peak
    assert own[8] < 1.02 * own[2]
    assert all_at_once[8] > 2 * all_at_once[2]  # the meter sees what one graph over all tasks would keep
