import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.study.curves import CellValues, bootstrap, by_amount, interval, isotonic, reached_at

SCORES = st.lists(st.floats(0, 1, width=16), min_size=1, max_size=8)


@given(SCORES)
@settings(max_examples=40, deadline=None)
def test_curves_isotonic_means_are_the_nearest_that_never_fall(scores):
    fitted = isotonic(numpy.array(scores))
    assert (numpy.diff(fitted) >= -1e-12).all()
    # What makes a projection on this cone: what is left over sums to 0 up to every rise, and is never negative before.
    left = numpy.cumsum(numpy.array(scores) - fitted)
    rises = [*(numpy.diff(fitted) > 1e-12), True]
    assert left[rises] == pytest.approx(0, abs=1e-9)
    assert (left >= -1e-9).all()


@given(SCORES, st.floats(0, 1, width=16))
@settings(max_examples=40, deadline=None)
def test_curves_what_a_score_needs_lies_on_the_curve_or_outside_of_what_was_measured(scores, target):
    amounts = numpy.array([100.0 * 3**place for place in range(len(scores))])
    curve = isotonic(numpy.array(scores))
    found = float(reached_at(amounts, curve, numpy.asarray(target)))
    if math.isinf(found):
        assert target > curve[-1]
    elif found == 0:
        assert target <= curve[0]
    else:
        assert amounts[0] <= found <= amounts[-1]
        assert numpy.interp(math.log(found), numpy.log(amounts), curve) == pytest.approx(target, abs=1e-9)


@given(SCORES, st.floats(0, 1, width=16), st.floats(0, 1, width=16))
@settings(max_examples=30, deadline=None)
def test_curves_a_higher_score_never_needs_less(scores, one, other):
    amounts, curve = by_amount(numpy.arange(1.0, len(scores) + 1), numpy.array(scores))
    low, high = (float(reached_at(amounts, curve, numpy.asarray(each))) for each in sorted((one, other)))
    assert low <= high


def test_curves_each_draw_is_inverted_as_if_it_stood_alone():
    random = numpy.random.default_rng(0)
    amounts, scores, targets = random.uniform(1, 9, (50, 4)), random.uniform(0, 1, (50, 4)), random.uniform(0, 1, 50)
    together = reached_at(*by_amount(amounts, scores), targets)
    alone = [
        float(reached_at(*by_amount(amounts[draw], scores[draw]), numpy.asarray(targets[draw]))) for draw in range(50)
    ]
    assert together == pytest.approx(alone)


def test_curves_bootstrap_has_the_variance_of_seeds_and_of_rows():
    random = numpy.random.default_rng(1)
    rows = (random.uniform(0, 1, (3, 500)) < numpy.array([[0.6], [0.7], [0.8]])).astype(float)
    scores = rows.mean(1)
    [drawn] = bootstrap([CellValues(scores, None, rows)])
    between = scores.var() / 3
    over_rows = rows.mean(0).var() / 500
    within = (rows - rows.mean(0)).var(1).mean() / 500 / 3  # of the seeds that a draw has, each has its own answers
    assert drawn.scores.mean() == pytest.approx(scores.mean(), abs=0.005)
    assert drawn.scores.var() == pytest.approx(between + over_rows + within, rel=0.15)
    [seeds_only] = bootstrap([CellValues(scores, None, None)])
    assert seeds_only.scores.var() == pytest.approx(between, rel=0.15)


def test_curves_bootstrap_draws_the_same_rows_for_all_cells_and_repeats_itself():
    rows = (numpy.arange(200) < 120).astype(float)[None]
    one, other = bootstrap([CellValues(rows.mean(1), numpy.array([2.0]), rows)] * 2)
    assert (one.scores == other.scores).all()
    assert one.kwh == pytest.approx(2.0)
    again, _ = bootstrap([CellValues(rows.mean(1), numpy.array([2.0]), rows)] * 2)
    assert (one.scores == again.scores).all()


def test_curves_interval_counts_censored_draws_by_their_side():
    values = numpy.concatenate([numpy.full(10, numpy.inf), numpy.zeros(1), numpy.linspace(100, 200, 89)])
    found = interval(values)
    assert (found.beyond, found.below) == (0.10, 0.01)
    assert found.high == math.inf
    assert 100 <= found.low < 110
    assert interval(numpy.full(20, numpy.inf)).low == math.inf
