import math
import random
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from finetune.runs.predictions import RowScores
from finetune.runs.record import Score
from finetune.runs.score_pairs import Judged, group_difference, judged_run, run_difference, with_holm
from tests.runs.builders import make_run


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


def test_group_difference_of_one_seed_against_several_takes_it_to_scatter_as_they_do():
    scores = (0.60, 0.99, 0.93)
    several, lone = group(*(Judged(Score(score, score - 0.02, score + 0.02)) for score in scores)), Judged(Score(0.78))
    lone = Judged(replace(lone.score, low=0.76, high=0.80))
    found, back = group_difference(several, {"9": [lone]}), group_difference({"9": [lone]}, several)
    v = 2 * (0.02 / stats.norm.ppf(0.975)) ** 2
    half = stats.t.ppf(0.975, 2) * math.sqrt(stdev(scores) ** 2 * (1 / 3 + 1) + v)
    assert (found.value, found.low, found.high) == pytest.approx((0.06, 0.06 - half, 0.06 + half))
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))
    assert found.inside_seed_noise
    assert found.p > 0.5
    without_rows = group_difference(several, {"9": [Judged(Score(0.78))]})
    assert without_rows.high == pytest.approx(0.06 + stats.t.ppf(0.975, 2) * stdev(scores) * math.sqrt(4 / 3))


def test_group_difference_of_one_seed_holds_its_confidence_when_all_scatter_alike():
    draw = random.Random(1)

    def scored():
        return [Judged(Score(draw.gauss(0.8, 0.05)))]

    wrong = sum(
        group_difference({"1": scored(), "2": scored(), "3": scored()}, {"9": scored()}).is_distinguished
        for _ in range(1000)
    )
    assert 30 <= wrong <= 70  # 50 ± 7 at 5 %


@pytest.mark.parametrize("confidence", [0.8, 0.9, 0.99])
def test_differences_take_intervals_of_any_confidence_for_what_they_are(confidence):
    def judged_at(level, value):
        half = 0.02 * stats.norm.ppf(0.5 + level / 2)
        run = make_run(recipe={"evaluation": {"confidence": level}})
        return judged_run(run, Score(value, value - half, value + half), None)

    usual = run_difference(judged_at(0.95, 0.8), judged_at(0.95, 0.74))
    found = run_difference(judged_at(confidence, 0.8), judged_at(confidence, 0.74))
    assert (found.low, found.high, found.p) == pytest.approx((usual.low, usual.high, usual.p))
    scores = {"1": 0.8, "2": 0.81, "3": 0.79}
    sides = [{seed: [judged_at(level, score)] for seed, score in scores.items()} for level in (0.95, confidence)]
    ends = [group_difference(side, {"9": [judged_at(0.95, 0.7)]}) for side in sides]
    assert (ends[1].low, ends[1].high) == pytest.approx((ends[0].low, ends[0].high))


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
