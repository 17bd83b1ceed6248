import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from finetune.runs.statistics import holm, mean_over_seeds, t_quantile, two_sided_p


@given(st.floats(-50, 50), st.integers(1, 200))
def test_statistics_p_is_that_of_students_t(statistic, degrees):
    expected = 2 * stats.t.sf(abs(statistic), degrees)
    assert two_sided_p(statistic, degrees) == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_statistics_without_end_of_degrees_it_is_the_normal():
    assert two_sided_p(1.959964, math.inf) == pytest.approx(0.05, abs=1e-6)
    assert t_quantile(math.inf) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("degrees", [1, 2, 3, 9, 30])
def test_statistics_quantiles(degrees):
    assert t_quantile(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=1e-9)


def test_statistics_mean_over_seeds():
    found = mean_over_seeds([0.8, 0.9, 0.85])
    half = 4.302653 * 0.05 / math.sqrt(3)
    assert (found.value, found.low, found.high, found.n) == pytest.approx((0.85, 0.85 - half, 0.85 + half, 3))
    assert (mean_over_seeds([0.8]).low, mean_over_seeds([0.8]).high) == (None, None)


def test_statistics_holm():
    # Sorted: 0.01·3, 0.02·2, 0.03·1, each at least the one before.
    assert holm([0.03, 0.01, None, 0.02]) == pytest.approx([0.04, 0.03, None, 0.04])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
