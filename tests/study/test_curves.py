import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.runs.statistics import mean_over_seeds
from finetune.study.curves import CellValues, by_amount, draw, interval, isotonic, reached_at

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


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_curves_drawn_means_over_seeds_have_the_t_interval(seeds):
    random = numpy.random.default_rng(seeds)
    scores, kwh = random.normal(0.7, 0.02, seeds), random.normal(2.0, 0.02, seeds)
    [drawn] = draw([CellValues(scores, kwh, None)], draws=40_000)
    for values, means, tolerance in ((scores, drawn.scores, 0.1), (kwh, drawn.kwh, 0.2)):
        exact, found = mean_over_seeds(list(values)), interval(means)
        half = exact.high - exact.value
        # That of energies is one of their logarithm, and lies a little higher.
        assert found.low == pytest.approx(exact.low, abs=tolerance * half)
        assert found.high == pytest.approx(exact.high, abs=tolerance * half)
    assert (drawn.kwh > 0).all()


def test_curves_interval_over_three_seeds_covers_the_truth():
    """A bootstrap of three would cover it in three of four cases: its intervals have 0.37 of the width."""
    random = numpy.random.default_rng(7)
    covered = 0
    for number in range(400):
        [drawn] = draw([CellValues(random.normal(0.0, 1.0, 3), None, None)], draws=400, seed=number)
        found = interval(drawn.scores)
        covered += found.low <= 0 <= found.high
    assert 0.92 < covered / 400 < 0.975


def test_curves_drawn_scores_and_energies_of_a_cell_go_together():
    scores, kwh = numpy.array([0.6, 0.7, 0.8]), numpy.array([1.0, 1.01, 1.02])
    [drawn] = draw([CellValues(scores, kwh, None)])
    ranks = [values.argsort().argsort() for values in (drawn.scores, drawn.kwh)]
    assert (ranks[0] == ranks[1]).all()


def test_curves_drawn_rows_add_their_variance():
    random = numpy.random.default_rng(1)
    rows = (random.uniform(0, 1, (3, 500)) < 0.7).astype(float)
    rows[:, 0] = [1, 0, 1]
    alone = rows[:1]
    [drawn] = draw([CellValues(alone.mean(1), None, alone)])  # of one seed the spread is not known
    assert drawn.scores.mean() == pytest.approx(alone.mean(), abs=0.005)
    assert drawn.scores.var() == pytest.approx(alone.var() / 500, rel=0.15)
    [drawn] = draw([CellValues(rows.mean(1), None, rows)])
    [seeds_only] = draw([CellValues(rows.mean(1), None, None)])
    width = [numpy.diff(numpy.quantile(each.scores, (0.25, 0.75)))[0] for each in (drawn, seeds_only)]
    assert width[0] > width[1]


def test_curves_draws_have_the_same_rows_for_all_cells_and_repeat_themselves():
    rows = (numpy.arange(200) < 120).astype(float)[None]
    one, other = draw([CellValues(rows.mean(1), numpy.array([2.0]), rows)] * 2)
    assert (one.scores == other.scores).all()
    assert one.kwh == pytest.approx(2.0)
    again, _ = draw([CellValues(rows.mean(1), numpy.array([2.0]), rows)] * 2)
    assert (one.scores == again.scores).all()


def test_curves_interval_counts_censored_draws_by_their_side():
    values = numpy.concatenate([numpy.full(10, numpy.inf), numpy.zeros(1), numpy.linspace(100, 200, 89)])
    found = interval(values)
    assert (found.beyond, found.below) == (0.10, 0.01)
    assert found.high == math.inf
    assert 100 <= found.low < 110
    assert interval(numpy.full(20, numpy.inf)).low == math.inf
