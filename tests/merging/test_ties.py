"""TIES worked by hand: trimming, the sign election with its ties, the disjoint mean."""

import pytest
import torch

from mosld.merging import ties
from mosld.merging.vectors import Factors


def vector(*rows):
    return {"w": torch.tensor([rows]).float()}


def test_trimming_keeps_the_largest_over_all_linears():
    tau = {"a": torch.tensor([[5.0, -1.0, 0.5]]), "b": torch.tensor([[-4.0, 3.0, 0.1, 2.0]])}
    assert ties.threshold(tau, 3 / 7) == 3.0  # sizes 5, 4, 3 stay
    assert ties.trim(tau["a"], 3.0).tolist() == [[5, 0, 0]] and ties.trim(tau["b"], 3.0).tolist() == [[-4, 3, 0, 0]]
    assert ties.threshold(tau, 1e-6) == 5.0  # at least one entry
    assert ties.threshold(tau, 1.0) == pytest.approx(0.1)


def test_mean_and_sum_of_the_agreeing_by_hand():
    tau = [vector(4, -3, 2, 0.1), vector(2, 1, -0.1, 3), vector(-1, -2, 4, 0.2)]
    # Keep two of four entries: (4, -3, ., .), (2, ., ., 3), (., -2, 4, .). Sums 6, -5, 4, 3: signs +, -, +, +. All entries agree.
    mean = ties.merge(tau, keep=0.5)["w"]
    torch.testing.assert_close(mean, torch.tensor([[3.0, -2.5, 4.0, 3.0]]))
    torch.testing.assert_close(ties.merge(tau, keep=0.5, of="sum")["w"], 0.3 * torch.tensor([[6.0, -5.0, 4.0, 3.0]]))
    # Untrimmed: sums 5, -4, 5.9, 3.3; at the first entry -1 is left out, at the second 1, at the third -0.1
    torch.testing.assert_close(ties.merge(tau, keep=1.0)["w"], torch.tensor([[3.0, -2.5, 3.0, 1.1]]))
    torch.testing.assert_close(ties.merge(tau, keep=1.0, lam=2.0)["w"], torch.tensor([[6.0, -5.0, 6.0, 2.2]]))


def test_the_sign_is_that_of_the_larger_mass_and_not_of_the_larger_number():
    tau = [vector(5, -5), vector(-2, 2), vector(-2, 2)]  # one against two, but 5 against 4
    assert ties.merge(tau, keep=1.0)["w"].tolist() == [[5, -5]]


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_a_zero_sum_takes_the_majoritys_sign(sign):
    # First entry: +2 and -2 cancel. Of the other three sums two have `sign`, so `sign` is elected there too.
    tau = [vector(2, 3 * sign, 5 * sign, -1 * sign), vector(-2, 1 * sign, 0, -3 * sign)]
    assert ties.merge(tau, keep=1.0)["w"].tolist() == [[2 * sign, 2 * sign, 5 * sign, -2 * sign]]


def test_the_majority_is_counted_over_all_linears():
    one = {"a": torch.tensor([[1.0]]), "b": torch.tensor([[-1.0, -1.0]])}
    two = {"a": torch.tensor([[-1.0]]), "b": torch.tensor([[-1.0, -1.0]])}
    assert ties.merge([one, two], keep=1.0)["a"].tolist() == [[-1.0]]


def test_as_many_of_each_sign_elects_plus():
    tau = [vector(2, 3, -3), vector(-2, 1, -1)]
    assert ties.merge(tau, keep=1.0)["w"].tolist() == [[2, 2, -2]]


def test_agreeing_vectors_have_the_ties_mean_and_factors_are_taken():
    torch.manual_seed(0)
    factored = [{"w": Factors(torch.randn(6, 2), torch.randn(2, 5)), "v": Factors(torch.randn(3, 2), torch.randn(2, 4))} for _ in range(4)]
    full = [{n: u.up @ u.down for n, u in tau.items()} for tau in factored]
    merged, kept = ties.merge(factored), ties.agreeing(factored)
    for name in ("w", "v"):
        torch.testing.assert_close(merged[name], ties.merge(full)[name])
        entries = torch.stack([tau[name] for tau in kept])
        count = (entries != 0).sum(0)
        torch.testing.assert_close(merged[name], entries.sum(0) / count.clamp(min=1))
        assert ((entries >= 0).all(0) | (entries <= 0).all(0)).all()  # no two entries of one place disagree
    assert sum(int((tau[n] != 0).sum()) for tau in kept for n in tau) <= 4 * round(0.2 * 42)
