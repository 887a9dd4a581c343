"""The channel after R-MTLLMF: the jammer's water-filling, the size of the noise, realignment."""

import math
import random

import pytest
import torch

from mosld.merging import mtllmf
from mosld.merging.channel import jam, sum_rate, water_filling


def test_sum_rate_by_hand():
    assert sum_rate([3.0, 1.0], 1.0, [0.0, 0.0]) == pytest.approx(2 + 1)
    assert sum_rate([3.0, 1.0], 1.0, [2.0, 0.0]) == pytest.approx(1 + 1)


def test_equal_users_are_jammed_alike_and_a_weak_one_is_spared():
    assert water_filling([2.0, 2.0, 2.0], 0.5, 3.0) == pytest.approx([1.0, 1.0, 1.0])
    # p = 4 and 0.01, n0 = 1, P = 0.1: at j = (0.1, 0) jamming costs user 1 4 / (1.1 * 5.1) = .71 a unit, user 2 only .01 / 1.01
    assert water_filling([4.0, 0.01], 1.0, 0.1) == pytest.approx([0.1, 0.0])
    assert water_filling([4.0, 1.0], 1.0, 0.0) == [0.0, 0.0]


@pytest.mark.parametrize("seed", range(5))
def test_water_filling_meets_its_budget_and_beats_random_allocations(seed):
    rng = random.Random(seed)
    powers = [10 ** rng.uniform(-1, 1) for _ in range(rng.randint(2, 8))]
    noise, budget = 10 ** rng.uniform(-2, 0), 10 ** rng.uniform(-1, 2)
    best = water_filling(powers, noise, budget)
    assert min(best) >= 0 and sum(best) == pytest.approx(budget, rel=1e-9) and sum(best) <= budget * (1 + 1e-12)
    rate = sum_rate(powers, noise, best)
    for _ in range(500):
        share = [rng.expovariate(1) ** rng.choice([1, 3]) for _ in powers]
        other = [budget * s / sum(share) for s in share]
        assert sum_rate(powers, noise, other) >= rate - 1e-9
    for case in ("ideal", "strongest"):
        assert sum_rate(powers, noise, jam(case, powers, noise, budget)) >= rate - 1e-9


def test_the_other_cases():
    assert jam("ideal", [1.0, 2.0], 0.1, 5.0) == [0.0, 0.0]
    assert jam("strongest", [1.0, 4.0, 4.0], 0.1, 5.0) == [0.0, 5.0, 0.0]


def test_received_noise_has_the_size_of_the_formula():
    torch.manual_seed(0)
    tau = [{"w": torch.full((300, 200), 2.0), "v": torch.zeros(100, 100)}, {"w": torch.zeros(300, 200), "v": torch.ones(100, 100)}]
    powers, jammed, noise, lams = [4.0, 1.0], [3.0, 0.0], 1.0, [0.5, 0.25]
    merged = mtllmf.received(tau, jammed, powers, noise, lams, torch.Generator().manual_seed(0))
    rms = [2 * math.sqrt(60000 / 70000), math.sqrt(10000 / 70000)]
    spread = math.sqrt(sum((lam * r) ** 2 * (noise + j) / p for lam, r, j, p in zip(lams, rms, jammed, powers, strict=True)))
    for name, mean in (("w", 0.5 * 2.0), ("v", 0.25)):
        assert (merged[name] - mean).std().item() == pytest.approx(spread, rel=0.02)
        assert merged[name].mean().item() == pytest.approx(mean, abs=4 * spread / math.sqrt(merged[name].numel()))


def test_realignment_lowers_the_labelled_loss_and_leaves_its_input(bench):
    start = mtllmf.received(bench.vectors, [9.0] * 3, [1.0] * 3, 0.1, [0.3] * 3, torch.Generator().manual_seed(0))
    before = {n: u.clone() for n, u in start.items()}
    seen, one_batch = [], list(bench.stream("labelled", 8)(0))
    out = mtllmf.realign(bench.model, start, lambda step: one_batch, 3, 15, 0.02, lambda step, loss: seen.append(loss))
    assert seen[-1] < seen[0] - 0.1 and all(torch.equal(start[n], before[n]) for n in start)
    assert all(not torch.equal(out[n], start[n]) for n in start)
