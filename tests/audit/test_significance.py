import numpy
import pytest
from scipy.stats import binomtest

from finetune.audit import significance
from finetune.audit.results import Finding, corrected
from finetune.audit.significance import (
    difference_interval,
    exchange_test,
    fisher,
    mean_of_shares,
    paired_difference,
    sign_test,
)
from finetune.evaluation.intervals import wilson


@pytest.mark.parametrize(("above", "below"), [(0, 0), (1, 0), (3, 3), (10, 2), (2, 10), (751, 690)])
def test_significance_sign_test_is_mcnemars_exact_test(above, below):
    expected = binomtest(above, above + below).pvalue if above + below else 1.0
    assert sign_test(above, below) == pytest.approx(expected, rel=1e-9)


def test_significance_fisher_of_the_lady_tasting_tea():
    assert fisher(3, 4, 1, 4) == pytest.approx(34 / 70)  # R. A. Fisher 1935: (1 + 16 + 16 + 1) of 70 orders


def test_significance_exchange_test_equals_the_exact_distribution():
    # In each row a group has an error with the chance of that row: a sum of Bernoulli variables, by convolution.
    cells = numpy.array([[1, 0, 0], [1, 1, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0], [1, 1, 1], [1, 0, 1]], dtype=float)
    chances = cells.mean(axis=1)
    distribution = numpy.array([1.0])
    for chance in chances:
        distribution = numpy.convolve(distribution, [1 - chance, chance])
    beyond = (
        abs(numpy.arange(len(distribution)) - chances.sum()) >= abs(cells.sum(axis=0) - chances.sum())[:, None] - 1e-9
    )
    assert exchange_test(cells) == pytest.approx((beyond * distribution).sum(axis=1), abs=0.02)


def test_significance_exchange_flags_one_in_twenty_at_most_when_nothing_is_there(monkeypatch):
    monkeypatch.setattr(significance, "DRAWS", 999)
    draw, flagged = numpy.random.default_rng(5), 0
    for _ in range(100):
        cells = (draw.random((40, 1)) > draw.random((40, 5))).astype(float)
        findings = corrected([Finding("", "", 0.0, None, None, 40, 0.0, "", p) for p in exchange_test(cells)])
        flagged += any(finding.p_adjusted <= 0.05 for finding in findings)
    assert flagged <= 5


def test_significance_intervals_of_differences_are_newcombes():
    low, high = difference_interval((56, 70), (48, 80), 0.95)  # his first example, method 10
    assert (round(low, 4), round(high, 4)) == (0.0524, 0.3339)
    assert paired_difference(0, 0, 0, 50, 0.95) == pytest.approx(difference_interval((0, 50), (0, 50), 0.95))


def test_significance_paired_interval_covers():
    draw, chances = numpy.random.default_rng(1), [0.08, 0.12, 0.05, 0.75]
    inside = [
        low <= 0.07 <= high
        for low, high in (paired_difference(*cells, 0.95) for cells in draw.multinomial(120, chances, 400))
    ]
    assert 0.92 <= numpy.mean(inside) <= 0.99


def test_significance_interval_of_a_mean_of_shares_is_tighter_than_each():
    low, high = mean_of_shares((30, 40), (10, 40), 0.95)
    own = wilson(30, 40, 0.95)
    assert low < 0.5 < high
    assert high - low < own[1] - own[0]


def test_significance_corrected_is_holms_procedure():
    ps = [0.01, 0.04, None, 0.03, 0.005]
    findings = corrected([Finding("", "", 0.0, None, None, 9, 0.0, "", p) for p in ps])
    expected = [0.03, 0.06, None, 0.06, 0.02]  # of four: 4 × 0.005, 3 × 0.01, 2 × 0.03, then no less than that
    assert [finding.p_adjusted for finding in findings] == [None if p is None else pytest.approx(p) for p in expected]
    assert [finding.to_json()["flagged"] for finding in findings] == [True, False, None, False, True]
