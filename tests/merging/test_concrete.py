"""Concrete Subspace: the mask's mean, its gradient against autograd through the whole merge, its seed."""

import math

import pytest
import torch
from merging_helpers import naive

from mosld.merging import adamerging, concrete
from mosld.merging.entropy import mean_entropy
from mosld.merging.model import gradients


def test_a_mask_averages_to_one_in_every_linear():
    x = {"a": torch.randn(40, 30, generator=torch.Generator().manual_seed(0)), "b": torch.full((7, 3), -4.0)}
    mask = concrete.freeze(x, torch.Generator().manual_seed(1))
    for m in mask.values():
        assert m.mean().item() == pytest.approx(1, rel=1e-5) and (m >= 0).all()
    assert mask["b"].max() > 2  # where little is kept, what is kept is scaled up


def test_two_entries_by_hand():
    # u = 1/2 and 3/4: log(u / (1 - u)) = 0 and log 3. With x = 0 and temperature 1/2: sigmoid(0) = 1/2, sigmoid(2 log 3) = 9/10; mean 7/10
    noise = torch.tensor([[0.0, math.log(3)]])
    torch.testing.assert_close(concrete.rescaled_mask(torch.zeros(1, 2), noise, 0.5), torch.tensor([[5 / 7, 9 / 7]]))
    torch.testing.assert_close(concrete.times({"w": torch.tensor([[2.0, 3.0]])}, {"w": torch.tensor([[0.5, 2.0]])})["w"], torch.tensor([[1.0, 6.0]]))


def test_density_is_the_probability_that_an_entry_is_kept():
    x = torch.full((200, 200), 1.5)
    noise = concrete.draw_noise({"w": x}, torch.Generator().manual_seed(0))["w"]
    assert concrete.density({"w": x})["w"] == pytest.approx(1 / (1 + torch.tensor(-1.5).exp().item()))
    assert ((noise + x) > 0).double().mean().item() == pytest.approx(concrete.density({"w": x})["w"], abs=0.005)


def test_the_masks_gradient_is_autograds_through_the_naive_merge(bench):
    generator = torch.Generator().manual_seed(5)
    lams = torch.full((4, 3), 0.3, dtype=torch.double)
    logits = {name: torch.randn_like(m.weight).requires_grad_() for name, m in bench.model.linears.items()}
    noise = concrete.draw_noise(logits, generator)
    plain = [dict(v) for v in bench.vectors]
    bench.vectors = concrete.masked_vectors(plain, {n: concrete.rescaled_mask(x, noise[n]) for n, x in logits.items()})
    naive(bench, lams).backward()
    expected = {n: x.grad for n, x in logits.items()}

    own = {n: x.detach().clone().requires_grad_() for n, x in logits.items()}
    masked = concrete.times(adamerging.merged(plain, lams), {n: concrete.rescaled_mask(x, noise[n]) for n, x in own.items()})
    _, gradient = gradients(bench.model, {n: d.detach() for n, d in masked.items()}, bench.stream("validation", 6)(0), mean_entropy, 3)
    torch.autograd.backward(list(masked.values()), [gradient[n] for n in masked])
    for name in own:
        torch.testing.assert_close(own[name].grad, expected[name])
        assert expected[name].abs().max() > 1e-6


@pytest.mark.parametrize("inner", [None, 1.0])
def test_the_same_seed_gives_the_same_mask(bench, inner):
    def learned(seed):
        return concrete.learn_mask(bench.model, bench.vectors, bench.stream("validation", 4), torch.Generator().manual_seed(seed), 0.3, inner, 3, 0.1)

    one, again, other = learned(0), learned(0), learned(1)
    assert all(torch.equal(one[n], again[n]) for n in one)
    assert any(not torch.equal(one[n], other[n]) for n in one)
    assert all(0.05 < x.abs().max() < 0.4 for x in one.values())  # three steps of Adam at 0.1


def test_learning_a_mask_lowers_the_entropy(bench):
    seen = []
    one_batch = list(bench.stream("validation", 8)(0))
    concrete.learn_mask(
        bench.model,
        bench.vectors,
        lambda step: one_batch,
        torch.Generator().manual_seed(0),
        steps=40,
        lr=0.1,
        watch=lambda s, x, loss: seen.append(loss),
    )
    assert sum(seen[-5:]) / 5 < sum(seen[:5]) / 5 - 0.01
