"""The rules that end a training before its last step; patience is in test_progress.py."""

import pytest

from finetune.emissions.budget import Account, Budget
from finetune.training.progress import Progress
from finetune.training.stopping import Rules, stop_reason


def evaluated(*points, metric="accuracy"):
    """Return the progress after evaluations of (grams so far, score)."""
    timeline = [{"emissions_g": grams, "metrics": {metric: score}} for grams, score in points]
    return Progress(step=10 * len(points), timeline=timeline)


def gain_rule(limit, metric="accuracy"):
    return Rules(metric, None, Budget(), limit)


def test_a_budget_stops_a_run_with_its_numbers():
    rules = Rules("accuracy", None, Budget(energy_kwh=1.0), None)
    assert stop_reason(Progress(step=7), rules, None) is None
    assert stop_reason(Progress(step=7), rules, Account(0.5, 0, 0.1, 0.1, 0)) is None
    assert stop_reason(Progress(step=7), rules, Account(0.8, 0, 0.1, 0.1, 0)) == (
        "energy budget of 1 kWh: 0.800 kWh were spent at step 7, and going on, scoring and saving would need about "
        "0.230 kWh"
    )


def test_the_gain_of_two_evaluations_is_set_against_their_emissions():
    # 2 points for 4 g: 2 g a point.
    progress = evaluated((1.0, 0.80), (3.0, 0.79), (5.0, 0.82))
    assert stop_reason(progress, gain_rule(2.01)) is None
    assert stop_reason(progress, gain_rule(1.99)) == (
        "marginal gain: 4.00 g over the last two evaluations brought 2.00 points of accuracy "
        "(emissions.max_g_per_point: 1.99)"
    )


def test_no_gain_is_too_little_however_cheap():
    progress = evaluated((1.0, 0.8), (1.1, 0.8), (1.2, 0.7))
    assert "no gain in accuracy" in stop_reason(progress, gain_rule(1e9))


@pytest.mark.parametrize("points", [[(1.0, 0.5)], [(1.0, 0.5), (9.0, 0.5)]])
def test_a_gain_needs_three_evaluations(points):
    assert stop_reason(evaluated(*points), gain_rule(0.001)) is None


def test_a_gain_is_judged_only_where_scores_and_emissions_are_known():
    assert stop_reason(evaluated((1.0, None), (2.0, None), (3.0, 0.5)), gain_rule(0.001)) is None
    assert stop_reason(evaluated((None, 0.1), (None, 0.1), (None, 0.1)), gain_rule(0.001)) is None


def test_of_a_lower_score_that_is_better_the_fall_is_the_gain():
    progress = evaluated((0.0, 0.30), (1.0, 0.28), (2.0, 0.26), metric="brier_score")
    assert stop_reason(progress, gain_rule(0.51, "brier_score")) is None
    assert "brought 4.00 points of brier_score" in stop_reason(progress, gain_rule(0.49, "brier_score"))
