"""Means, spreads and intervals against numbers worked by hand and from printed tables."""

import math

import pytest

from mosld.studies.statistics import evidence, holm, mean, paired_interval, spread, t_quantile


def test_mean_and_spread():
    assert mean([1, 2, 6]) == 3 and spread([1, 2, 6]) == pytest.approx(math.sqrt((4 + 1 + 9) / 2))
    assert math.isnan(mean([])) and math.isnan(spread([1.0]))


# from the table of Student's distribution that every textbook prints
@pytest.mark.parametrize("freedom,level,expected", [(1, 0.95, 12.706), (2, 0.95, 4.303), (4, 0.9, 2.132), (9, 0.95, 2.262), (30, 0.99, 2.750)])
def test_t_quantile(freedom, level, expected):
    assert t_quantile(freedom, level) == pytest.approx(expected, abs=6e-4)


def test_paired_interval():
    # differences 1, 2, 3: mean 2, spread 1, half width 4.303 / sqrt 3
    centre, low, high = paired_interval([2, 4, 6], [1, 2, 3])
    assert (centre, low, high) == pytest.approx((2, 2 - 2.4843, 2 + 2.4843), abs=1e-3)
    assert paired_interval([3.0], [1.0])[0] == 2 and math.isnan(paired_interval([3.0], [1.0])[1])


def test_the_interval_is_never_narrower_than_the_questions_allow():
    # three seeds that agree to the last of 100 questions: sqrt(.5 * .5 * 2 / 100 / 3) is the least standard error
    centre, low, high = paired_interval([0.5] * 3, [0.5] * 3, rows=100)
    assert (centre, high) == pytest.approx((0, 4.303 * math.sqrt(0.5 / 100 / 3)), abs=1e-3) and low == -high
    assert paired_interval([0.5] * 3, [0.5] * 3)[1:] == (0, 0)
    wide = [0.2, 0.5, 0.8]
    assert paired_interval(wide, [0.5] * 3, rows=100) == paired_interval(wide, [0.5] * 3)


def test_evidence_against_sums_by_hand():
    # differences 1, 2, 3 against delta 1: mean 2, spread 1, t = 2 sqrt 3
    e = evidence([1.0, 2.0, 3.0], delta=1.0)
    assert e.mean == 2 and e.spread == pytest.approx(1) and e.interval == pytest.approx((2 - 2.4843, 2 + 2.4843), abs=1e-3)
    assert e.p == pytest.approx(0.0742, abs=1e-4)  # printed in tables for t = 3.464 and 2 degrees of freedom
    assert e.p_permutation == pytest.approx(2 / 8), "all eight sign flips; only the two with one sign are as far from 0"
    assert e.equivalence == pytest.approx((2 - 2.920 / 3**0.5, 2 + 2.920 / 3**0.5), abs=1e-3)
    assert e.p_equivalence == pytest.approx(1 - 0.1127, abs=1e-3)  # t = (2 - 1) sqrt 3 against the upper bound
    assert e.detectable == pytest.approx((4.3027 + 1.0607) / 3**0.5, abs=1e-3)
    assert e.bootstrap[0] < 2 < e.bootstrap[1]


def test_five_seeds_cannot_reach_significance_by_sign_flips():
    assert evidence([1.0, 1.1, 0.9, 1.2, 1.05], delta=1.0).p_permutation == pytest.approx(2 / 2**5)


def test_evidence_of_too_little():
    assert math.isnan(evidence([1.0], 1.0).p) and math.isnan(evidence([], 1.0).mean)
    flat = evidence([0.0, 0.0, 0.0], 1.0)
    assert flat.p == 1 and flat.p_equivalence == 0 and flat.interval == (0, 0)


def test_holm():
    # .01 and .02 pass alpha / 4 = .0125 and .05 / 3 = .0167? no: .02 fails, and all later ones keep its level
    assert holm([0.02, 0.01, 0.03, 0.5]) == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 4, 1 - 0.05 / 3, 1 - 0.05 / 3])
    assert holm([0.001, 0.002]) == pytest.approx([0.975, 0.95])
    assert holm([math.nan, 0.001]) == pytest.approx([0.95, 0.975])
