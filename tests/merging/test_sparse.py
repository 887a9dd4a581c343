"""Thinned merges: against peft's functions, against counts over many draws, and by hand."""

import pytest
import torch
from peft.utils import merge_utils

from mosld.merging import sparse, ties
from mosld.merging.vectors import Factors


@pytest.fixture
def taus():
    generator = torch.Generator().manual_seed(0)
    return [{"w": torch.randn(8, 10, generator=generator).double()} for _ in range(3)]


def stacked(taus):
    return [v["w"] for v in taus]


@pytest.mark.parametrize("density", [0.2, 0.5, 1.0])  # 80 entries: peft cuts density * n down, this lab rounds; here both are whole
def test_magnitude_and_ties_are_those_of_peft(taus, density):
    weights = torch.ones(3).double()
    ours = sparse.total(taus[0], sparse.magnitude(taus, density), 1.0)["w"]
    torch.testing.assert_close(ours, merge_utils.magnitude_prune(stacked(taus), weights, density))
    torch.testing.assert_close(ties.merge(taus, density)["w"], merge_utils.ties(stacked(taus), weights, density))


def test_the_kept_share_is_rounded_where_peft_cuts_down(taus):
    density = 0.199  # of 80 entries 15.92
    ours, theirs = sparse.magnitude(taus, density)("w"), [merge_utils.prune(t, density, "magnitude") for t in stacked(taus)]
    assert [int((t != 0).sum()) for t in ours] == [16] * 3 and [int((t != 0).sum()) for t in theirs] == [15] * 3


def test_dare_keeps_a_share_and_the_mean(taus):
    draws = torch.stack([sparse.dare(taus[:1], 0.25, seed)("w")[0] for seed in range(2000)])
    kept = (draws != 0).double().mean(0)
    assert ((kept - 0.25).abs() < 5 * (0.25 * 0.75 / 2000) ** 0.5).all()
    tau = taus[0]["w"]
    torch.testing.assert_close(draws[draws != 0], (tau / 0.25).expand_as(draws)[draws != 0])
    assert ((draws.mean(0) - tau).abs() < 5 * tau.abs() * (0.75 / 0.25 / 2000) ** 0.5 + 1e-9).all()


def test_della_keeps_large_entries_more_often(taus):
    tau = {"w": torch.tensor([[0.1, -4.0, 2.0, 1.0, -0.5]]).double()}
    draws = torch.stack([sparse.della([tau], 0.5, 0.4, seed)("w")[0, 0] for seed in range(4000)])
    expected = torch.tensor([0.3, 0.7, 0.6, 0.5, 0.4]).double()  # ranks 0, 4, 3, 2, 1 of 4 steps of 0.1
    assert (((draws != 0).double().mean(0) - expected).abs() < 5 * (0.25 / 4000) ** 0.5).all()
    for column in range(5):
        values = draws[:, column][draws[:, column] != 0]
        torch.testing.assert_close(values, (tau["w"][0, column] / expected[column]).expand_as(values))


def test_della_without_spread_is_dare_and_everything_kept_is_the_sum(taus):
    assert torch.equal(sparse.della(taus, 0.5, 0.0, 3)("w"), sparse.dare(taus, 0.5, 3)("w"))
    torch.testing.assert_close(sparse.total(taus[0], sparse.della(taus, 1.0, 0.2, 0), 0.3)["w"], 0.3 * sum(stacked(taus)))


def test_draws_depend_on_seed_linear_and_task_alone_and_factors_are_taken():
    factors = {"a": Factors(torch.randn(4, 2), torch.randn(2, 6)), "b": Factors(torch.randn(4, 2), torch.randn(2, 6))}
    dense = {n: u.up @ u.down for n, u in factors.items()}
    one, two = sparse.dare([factors, factors], 0.5, 1), sparse.dare([dense, dense], 0.5, 1)
    assert torch.equal(one("b"), one("b")) and torch.equal(one("a"), two("a"))
    masks = [(one(n)[t] != 0).flatten().tolist() for n in "ab" for t in range(2)]
    assert len({tuple(m) for m in masks}) == 4


def test_election_by_hand():
    thinned = {"w": torch.tensor([[[4.0, -3.0, 0.0]], [[2.0, 1.0, 0.0]], [[-1.0, -2.0, 5.0]]])}
    # Sums 5, -4, 5: the first takes 4 and 2, the second -3 and -2, the third 5 alone.
    assert sparse.elected(["w"], thinned.__getitem__, 2.0)["w"].tolist() == [[6.0, -5.0, 10.0]]
