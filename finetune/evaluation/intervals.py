"""Confidence intervals of scores: Wilson for a share of rows, percentile bootstrap over rows otherwise."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from finetune.evaluation.metrics import FORMULAS, MULTI_LABEL, REGRESSION
from finetune.tasks import LabelScheme

if TYPE_CHECKING:
    import numpy

RESAMPLES = 2000
_WEIGHTS_AT_ONCE = 1 << 22  # of units in resamples: 32 MB
_SEED = 0  # an interval is a property of the predictions: the same predictions give the same interval


def confidence_interval(
    name: str, predictions: Any, references: Any, scheme: LabelScheme, confidence: float
) -> tuple[float, float] | None:
    """Return (low, high) of a metric at the given confidence, or None where it is not defined.

    The independent unit is the row (methods: accuracy by Wilson 1927, the rest by a percentile bootstrap of
    2,000 resamples).
    """
    import numpy

    if name in {"accuracy", "exact_match"}:
        equal = numpy.asarray(predictions) == numpy.asarray(references)
        hits = int(equal.all(axis=1).sum() if equal.ndim == 2 else equal.sum())
        return wilson(hits, len(references), confidence)
    values = _resampled(name, predictions, references, scheme)
    return None if values is None else _percentiles(values, confidence)


def bootstrap(measured: Any, formula: Callable[[Any], Any], confidence: float) -> tuple[float, float] | None:
    """Return (low, high) of a formula of sums over independent units, by a percentile bootstrap of 2,000 resamples.

    measured: units × numbers. Units with the same numbers are alike to the formula, so that resampling them is drawing
    how often each kind of unit comes from a multinomial. None where the formula is undefined in most resamples.
    """
    import numpy

    if len(measured) < 2:
        return None
    kinds, sizes = numpy.unique(measured, axis=0, return_counts=True)
    draw = numpy.random.default_rng(_SEED)
    at_once = max(1, _WEIGHTS_AT_ONCE // len(kinds))
    parts = [min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once)]
    sums = (draw.multinomial(len(measured), sizes / len(measured), size=part) @ kinds for part in parts)
    return _percentiles(numpy.concatenate([formula(part) for part in sums]), confidence)


def _percentiles(values: numpy.ndarray, confidence: float) -> tuple[float, float] | None:
    import numpy

    values = values[numpy.isfinite(values)]
    if len(values) < RESAMPLES // 2:  # undefined in most resamples, as a correlation of three rows is
        return None
    tail = 50 * (1 - confidence)
    low, high = numpy.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def wilson(hits: float, n: int, confidence: float) -> tuple[float, float] | None:
    """Return Wilson's score interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    from statistics import NormalDist

    if n == 0:
        return None
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _resampled(name: str, predictions: Any, references: Any, scheme: LabelScheme) -> numpy.ndarray | None:
    """Return the metric on each resample of the rows, or None for a metric that is not ours."""
    import numpy

    if name not in FORMULAS or len(references) < 2:
        return None
    draw = numpy.random.default_rng(_SEED)
    truth, guess = numpy.asarray(references), numpy.asarray(predictions)
    if scheme.problem_type == REGRESSION:
        picks = (draw.integers(0, len(truth), len(truth)) for _ in range(RESAMPLES))
        return numpy.array([_regression_score(name, truth[pick], guess[pick]) for pick in picks])
    if scheme.problem_type == MULTI_LABEL:
        counts = _multi_label_counts(truth, guess, draw)
    else:
        counts = _single_label_counts(truth, guess, draw)
    return score_from_counts(name, *counts, every_label=scheme.problem_type == MULTI_LABEL)


def _regression_score(name: str, truth: numpy.ndarray, guess: numpy.ndarray) -> float:
    if name == "spearman":
        return FORMULAS[name](truth.tolist(), guess.tolist())
    return _MOMENTS[name](truth, guess)


def _pearson_fast(truth: numpy.ndarray, guess: numpy.ndarray) -> float:
    x, y = truth - truth.mean(), guess - guess.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


_MOMENTS: dict[str, Callable[[Any, Any], float]] = {
    "pearson": _pearson_fast,
    "mse": lambda truth, guess: float(((truth - guess) ** 2).mean()),
    "mae": lambda truth, guess: float(abs(truth - guess).mean()),
}


def _single_label_counts(
    truth: numpy.ndarray, guess: numpy.ndarray, draw: numpy.random.Generator
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, int]:
    """Return per resample and class: hits, times predicted, times true (resamples × classes), and n.

    Resampling rows is drawing the cells of the confusion matrix from a multinomial: the rows of a cell are
    alike to the metric. That is thousands of times less work than calling the metric on every resample.
    """
    import numpy

    classes = numpy.union1d(numpy.unique(truth), numpy.unique(guess))
    cells = numpy.searchsorted(classes, truth) * len(classes) + numpy.searchsorted(classes, guess)
    found, sizes = numpy.unique(cells, return_counts=True)
    pairs = classes[found // len(classes)], classes[found % len(classes)]
    weights = draw.multinomial(len(truth), sizes / len(truth), size=RESAMPLES).astype(float)
    true_of = (pairs[0][:, None] == classes).astype(float)
    guess_of = (pairs[1][:, None] == classes).astype(float)
    return weights @ (true_of * guess_of), weights @ guess_of, weights @ true_of, len(truth)


def _multi_label_counts(
    truth: numpy.ndarray, guess: numpy.ndarray, draw: numpy.random.Generator
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, int]:
    import numpy

    n = len(truth)
    hits, predicted, true = (truth * guess).astype(float), guess.astype(float), truth.astype(float)
    sums = [numpy.zeros((RESAMPLES, truth.shape[1])) for _ in range(3)]
    for index in range(RESAMPLES):
        weight = numpy.bincount(draw.integers(0, n, n), minlength=n).astype(float)
        for total, column in zip(sums, (hits, predicted, true), strict=True):
            total[index] = weight @ column
    return sums[0], sums[1], sums[2], n


def score_from_counts(
    name: str, hits: numpy.ndarray, predicted: numpy.ndarray, true: numpy.ndarray, n: int, every_label: bool = False
) -> numpy.ndarray | None:
    """Return precision, recall, F1 or Matthews' correlation from class counts (… × classes), as scikit-learn does.

    A class that neither occurs nor is predicted is left out of the macro average, unless `every_label` (label sets);
    0/0 counts as 0.
    """
    import numpy

    if name == "matthews_correlation":
        # R_K of Gorodkin 2004, the multi-class form.
        covariance = hits.sum(-1) * n - (predicted * true).sum(-1)
        scale = numpy.sqrt((n**2 - (predicted**2).sum(-1)) * (n**2 - (true**2).sum(-1)))
        return _ratio(covariance, scale)
    kind, _, average = name.partition("_")
    above = 2 * hits if kind == "f1" else hits
    below = {"f1": predicted + true, "precision": predicted, "recall": true}.get(kind)
    if below is None:
        return None
    if average == "micro":
        return _ratio(above.sum(-1), below.sum(-1))
    each = _ratio(above, below)
    weight = true if average == "weighted" else (every_label | ((predicted + true) > 0)).astype(float)
    return _ratio((each * weight).sum(-1), weight.sum(-1))


def _ratio(above: numpy.ndarray, below: numpy.ndarray) -> numpy.ndarray:
    import numpy

    ratio: numpy.ndarray = numpy.divide(above, below, out=numpy.zeros_like(above, dtype=float), where=below > 0)
    return ratio
