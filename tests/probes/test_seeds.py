"""Means and intervals over seeds, against tabled t values and sums by hand."""

import numpy as np
import pytest

from mosld.probes.seeds import interval, t_quantile


def test_interval_by_hand():
    mean, low, high = interval([[1.0, 2.0, 3.0], [4.0, np.nan, 6.0], [5.0, np.nan, np.nan]])
    assert mean == pytest.approx([2, 5, 5])
    assert high[0] - 2 == pytest.approx(4.303 / 3**0.5, abs=1e-3)  # standard deviation 1, n 3
    assert low[1] == pytest.approx(5 - 12.706, abs=1e-2)  # standard deviation sqrt 2, n 2: the half width is t itself
    assert np.isnan(low[2]) and np.isnan(high[2])
    assert [t_quantile(k) for k in (1, 9, 10, 30)] == pytest.approx([12.706, 2.262, 2.228, 2.042], abs=1e-3)
