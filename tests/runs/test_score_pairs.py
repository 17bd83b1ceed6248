import math
import random
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from finetune.runs.predictions import RowScores
from finetune.runs.record import Score
from finetune.runs.score_pairs import Judged, group_difference, run_difference, with_holm


def judged(hits, questions=None):
    """Return a run that answered each row rightly (1) or wrongly (0)."""
    rows = RowScores(tuple(questions or range(len(hits))), tuple(map(float, hits)))
    value = fmean(rows.values)
    return Judged(Score(value, value - 0.1, value + 0.1, len(hits)), rows)


def pair(gained, lost, both=100):
    """Return two runs of which ours alone is right on `gained` rows, theirs alone on `lost`."""
    return judged([1] * gained + [0] * lost + [1] * both), judged([0] * gained + [1] * lost + [1] * both)


def test_run_difference_is_bonett_and_prices():
    ours, theirs = pair(20, 5, 75)
    found = run_difference(ours, theirs)
    high, low = 21 / 102, 6 / 102
    error = math.sqrt((high + low - (high - low) ** 2) / 102)
    assert (found.value, found.paired) == (pytest.approx(0.15), True)
    assert (found.low, found.high) == pytest.approx((high - low - 1.959964 * error, high - low + 1.959964 * error))


@pytest.mark.parametrize(
    ("gained", "lost"), [(4, 0), (5, 0), (6, 0), (7, 0), (9, 1), (7, 1), (20, 8), (30, 20), (0, 9)]
)
def test_run_difference_decides_as_mcnemars_exact_test(gained, lost):
    found = run_difference(*pair(gained, lost, both=400))
    exact = stats.binomtest(gained, gained + lost, 0.5).pvalue
    if gained + lost >= 6:
        assert found.paired
        assert found.is_distinguished == (exact < 0.05)
    else:
        assert (found.paired, found.is_distinguished) == (False, False)


def test_run_difference_takes_scores_as_independent_when_the_rows_are_not_the_same():
    ours, theirs = pair(20, 5)
    elsewhere = judged([int(value) for value in theirs.rows.values], questions=range(1000, 1125))
    unread = Judged(theirs.score)
    for other in (elsewhere, unread):
        found = run_difference(ours, other)
        assert not found.paired
        assert (found.value - found.low) == pytest.approx(math.hypot(0.1, 0.1))
        assert (found.p < 0.05) == found.is_distinguished
    assert run_difference(Judged(Score(0.8)), Judged(Score(0.7))).p is None


def group(*runs):
    return {str(seed): [run] for seed, run in enumerate(runs)}


def random_runs(draw, shares, n=200):
    return [judged([int(draw.random() < share) for _ in range(n)]) for share in shares]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6))
def test_group_difference_is_d_plus_minus_t_of_seeds_and_rows(seed):
    draw = random.Random(seed)
    ours, theirs = random_runs(draw, (0.8, 0.9, 0.85)), random_runs(draw, (0.7, 0.75, 0.72))
    found = group_difference(group(*ours), group(*theirs))
    each = [one.score.value - other.score.value for one, other in zip(ours, theirs, strict=True)]
    by_row = [
        fmean(run.rows.values[row] for run in ours) - fmean(run.rows.values[row] for run in theirs)
        for row in range(200)
    ]
    v = fmean((change - fmean(by_row)) ** 2 for change in by_row) / 200
    half = stats.t.ppf(0.975, 2) * math.sqrt(stdev(each) ** 2 / 3 + v)
    assert (found.low, found.high) == pytest.approx((fmean(each) - half, fmean(each) + half))
    assert found.seeds == 3
    assert (found.p < 0.05) == (abs(fmean(each)) > half)
    back = group_difference(group(*theirs), group(*ours))
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_group_difference_v_is_what_a_bootstrap_over_the_rows_finds():
    import numpy

    draw = random.Random(3)
    ours, theirs = random_runs(draw, (0.8, 0.9)), random_runs(draw, (0.7, 0.75))
    same_seeds = [stdev([a.score.value - b.score.value for a, b in zip(ours, theirs, strict=True)]) ** 2 / 2]
    found = group_difference(group(*ours), group(*theirs))
    v = ((found.high - found.value) / stats.t.ppf(0.975, 1)) ** 2 - same_seeds[0]
    rows = numpy.array([run.rows.values for run in ours]).mean(0) - numpy.array(
        [run.rows.values for run in theirs]
    ).mean(0)
    picks = numpy.random.default_rng(0).integers(0, 200, (20_000, 200))
    assert v == pytest.approx(rows[picks].mean(1).var(), rel=0.05)


def test_group_difference_without_seeds_in_common_and_with_one_seed():
    draw = random.Random(5)
    ours, theirs = random_runs(draw, (0.8, 0.9, 0.85)), random_runs(draw, (0.7, 0.75))
    apart = {f"x{number}": [run] for number, run in enumerate(theirs)}
    found = group_difference(group(*ours), apart)
    scores = [[run.score.value for run in side] for side in (ours, theirs)]
    assert found.value == pytest.approx(fmean(scores[0]) - fmean(scores[1]))
    between = sum(stdev(side) ** 2 / len(side) for side in scores)
    assert found.high - found.value > stats.t.ppf(0.975, 1) * math.sqrt(between)
    assert found.seeds == 2
    alone = group_difference(group(*ours), {"9": [theirs[0]]})
    assert (alone.seeds, alone.inside_seed_noise) == (1, False)


def test_group_difference_inside_the_noise_of_seeds_is_called_that():
    shares = (0.6, 0.9, 0.75)
    draw = random.Random(8)
    ours, theirs = random_runs(draw, shares), random_runs(draw, shares[::-1])
    found = group_difference(group(*ours), group(*theirs))
    assert found.inside_seed_noise
    assert not found.is_distinguished


def test_differences_that_are_shown_together_count_how_many_they_are():
    clear, close = run_difference(*pair(40, 2)), run_difference(*pair(13, 4))
    assert 0.025 < close.p < 0.05
    assert close.is_distinguished
    adjusted = with_holm([clear, None, close, close])
    assert adjusted[1] is None
    assert adjusted[0].is_distinguished
    assert not adjusted[2].is_distinguished
    assert adjusted[2].p_holm == pytest.approx(2 * close.p)
