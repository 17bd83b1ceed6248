"""finetune.evaluation.intervals: against published values, scikit-learn and plain resampling."""

import math

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.evaluation.intervals import confidence_interval, score_from_counts, wilson
from finetune.evaluation.metrics import FORMULAS
from finetune.tasks import LabelScheme

SINGLE = LabelScheme("single_label_classification", ("a", "b", "c"))
MULTI = LabelScheme("multi_label_classification", ("a", "b"))
REGRESSION = LabelScheme("regression")
COUNTED = ["matthews_correlation"] + [
    f"{kind}_{average}" for kind in ("f1", "precision", "recall") for average in ("macro", "micro", "weighted")
]


def test_wilson_equals_the_published_example():
    # Newcombe 1998 (Statistics in Medicine 17), table I, method 3: 81 of 263.
    low, high = wilson(81, 263, 0.95)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_wilson_stays_inside_zero_and_one():
    assert wilson(0, 10, 0.95)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson(10, 10, 0.95)[1] == pytest.approx(1.0, abs=1e-12)
    assert all(0 <= edge <= 1 for hits in range(11) for edge in wilson(hits, 10, 0.99))
    assert wilson(0, 0, 0.95) is None


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=40), st.sampled_from(COUNTED))
@settings(max_examples=60, deadline=None)
def test_score_from_counts_equals_scikit_learn(pairs, name):
    truth, guess = numpy.array(pairs).T
    classes = numpy.arange(3)
    true_of, guess_of = truth[:, None] == classes, guess[:, None] == classes
    counts = [(true_of & guess_of).sum(0), guess_of.sum(0), true_of.sum(0)]
    value = score_from_counts(name, *(count[None].astype(float) for count in counts), len(truth))
    assert value[0] == pytest.approx(FORMULAS[name](truth, guess), abs=1e-12)


@given(
    st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=2, max_size=30), st.sampled_from(COUNTED[1:])
)
@settings(max_examples=40, deadline=None)
def test_score_from_counts_of_several_labels_equals_scikit_learn(rows, name):
    flags = numpy.array(rows)
    truth, guess = flags[:, :2], flags[:, 2:]
    counts = [(truth * guess).sum(0), guess.sum(0), truth.sum(0)]
    counts = [count[None].astype(float) for count in counts]
    value = score_from_counts(name, *counts, len(truth), every_label=True)
    assert value[0] == pytest.approx(FORMULAS[name](truth, guess), abs=1e-12)


def test_confidence_interval_of_f1_agrees_with_plain_resampling():
    draw = numpy.random.default_rng(3)
    truth = draw.integers(0, 3, 150)
    guess = numpy.where(draw.random(150) < 0.7, truth, draw.integers(0, 3, 150))
    low, high = confidence_interval("f1_macro", guess.tolist(), truth.tolist(), SINGLE, 0.95)
    plain = []
    for _ in range(600):
        pick = draw.integers(0, 150, 150)
        plain.append(FORMULAS["f1_macro"](truth[pick], guess[pick]))
    expected = numpy.percentile(plain, [2.5, 97.5])
    assert (low, high) == pytest.approx(expected, abs=0.015)
    assert low < FORMULAS["f1_macro"](truth, guess) < high


@pytest.mark.parametrize("name", ["pearson", "spearman", "mse", "mae"])
def test_confidence_interval_of_a_regression_holds_its_value(name):
    draw = numpy.random.default_rng(5)
    truth = draw.normal(size=80)
    guess = truth + draw.normal(size=80) / 2
    low, high = confidence_interval(name, guess.tolist(), truth.tolist(), REGRESSION, 0.9)
    assert low < FORMULAS[name](truth.tolist(), guess.tolist()) < high


def test_confidence_interval_of_label_sets_holds_its_value():
    draw = numpy.random.default_rng(6)
    truth = draw.integers(0, 2, (90, 2))
    guess = numpy.where(draw.random((90, 2)) < 0.8, truth, 1 - truth)
    low, high = confidence_interval("f1_micro", guess.tolist(), truth.tolist(), MULTI, 0.95)
    assert low < FORMULAS["f1_micro"](truth, guess) < high


def test_confidence_interval_is_the_same_for_the_same_predictions():
    truth, guess = [0, 1, 2, 1, 0, 2] * 5, [0, 1, 1, 1, 0, 0] * 5
    first, again = (confidence_interval("f1_macro", guess, truth, SINGLE, 0.95) for _ in range(2))
    assert first == again


def test_confidence_interval_of_a_foreign_metric_is_none():
    assert confidence_interval("brier_score", [0, 1], [0, 1], SINGLE, 0.95) is None


def test_confidence_interval_of_a_correlation_without_variance_is_none():
    assert confidence_interval("pearson", [1.0] * 5, [1.0, 2.0, 3.0, 4.0, 5.0], REGRESSION, 0.95) is None
    assert math.isnan(FORMULAS["pearson"]([1.0, 2.0], [1.0, 1.0]))
