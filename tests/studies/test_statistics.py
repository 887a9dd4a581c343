"""Means, spreads and intervals against numbers worked by hand and from printed tables."""

import math

import pytest

from mosld.studies.statistics import mean, paired_interval, spread, t_quantile


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
