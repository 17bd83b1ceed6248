"""The saved predictions of a run, row by row, so that two runs can be compared on the same rows."""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from finetune.runs.record import Run
from finetune.runs.scoring import Scored

_LARGEST_BYTES = 50_000_000
_SAME_SCORE = 1e-6


@dataclass(frozen=True)
class RowScores:
    """What each row contributes to the score of a run: the mean of `values` is the score.

    `questions` are the rows with their references; only runs that have the same can be compared row by row.
    """

    questions: tuple[Any, ...]
    values: tuple[float, ...]


def read_row_scores(run: Run, scored: Scored) -> RowScores | None:
    """Read the predictions of a run and return what each row contributes to its score.

    A mean over rows (accuracy, mae, mse) is made of the rows' own scores. For the other metrics it is their
    infinitesimal jackknife: how the score moves with the weight of the row (L. Jaeckel 1972; B. Efron, The Jackknife,
    the Bootstrap and Other Resampling Plans, 1982), whose variance is what a bootstrap over the rows tends to.
    None when there are no predictions, they are too many, they do not give the recorded score, or the metric is not
    one of these.
    """
    answers = _read(run, scored.split)
    if answers is None:
        return None
    questions, references, predictions = answers
    values = _row_values(scored.metric, references, predictions)
    if values is None or abs(fmean(values) - scored.score.value) > _SAME_SCORE:
        return None
    return RowScores(questions, values)


def _read(run: Run, split: str) -> tuple[tuple[Any, ...], list[Any], list[Any]] | None:
    if run.directory is None:
        return None
    path = run.directory / f"predictions-{split}.jsonl"
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return None
        entries = [json.loads(line) for line in path.read_bytes().splitlines()]
        lines = [(entry["row"], _plain(entry["reference"]), _plain(entry["prediction"])) for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # whatever it is, it is not our predictions
        return None
    if not lines or not all(isinstance(row, int) for row, _, _ in lines):
        return None
    lines.sort(key=lambda line: line[0])
    references = [reference for _, reference, _ in lines]
    return tuple((row, reference) for row, reference, _ in lines), references, [answer for _, _, answer in lines]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _row_values(metric: str, references: Sequence[Any], predictions: Sequence[Any]) -> tuple[float, ...] | None:
    pairs = list(zip(references, predictions, strict=True))
    if metric in ("accuracy", "exact_match"):
        return tuple(float(reference == predicted) for reference, predicted in pairs)
    numbers = all(isinstance(value, int | float) for pair in pairs for value in pair)
    if metric in ("mse", "mae"):
        power = 2 if metric == "mse" else 1
        return tuple(abs(reference - predicted) ** power for reference, predicted in pairs) if numbers else None
    formula = _formula(metric)
    if formula is None or not all(isinstance(value, str) for pair in pairs for value in pair):
        return None
    cells = Counter(pairs)
    score, moved = formula(cells), {cell: _slope(formula, cells, cell, len(pairs)) for cell in cells}
    return tuple(score + moved[pair] for pair in pairs)


Cells = Mapping[tuple[Any, Any], float]
"""How many rows have a reference and a prediction."""


def _slope(formula: Callable[[Cells], float], cells: Cells, cell: tuple[Any, Any], n: int) -> float:
    """Return the derivative of a score by the share of its rows that lie in one cell."""
    step = 1e-4 / n

    def moved(share: float) -> float:
        return formula({key: count * (1 - share) + (n * share if key == cell else 0) for key, count in cells.items()})

    return (moved(step) - moved(-step)) / (2 * step)


def _formula(metric: str) -> Callable[[Cells], float] | None:
    kind, _, average = metric.partition("_")
    if metric == "matthews_correlation":
        return _matthews
    if kind not in ("f1", "precision", "recall") or average not in ("macro", "micro", "weighted"):
        return None
    return lambda cells: _class_score(cells, kind, average)


def _sums(cells: Cells) -> tuple[Counter[Any], Counter[Any], Counter[Any]]:
    """Return by class: hits, times predicted, times true."""
    hits: Counter[Any] = Counter()
    predicted: Counter[Any] = Counter()
    true: Counter[Any] = Counter()
    for (reference, prediction), count in cells.items():
        true[reference] += count  # type: ignore[assignment]
        predicted[prediction] += count  # type: ignore[assignment]
        hits[reference] += count if reference == prediction else 0  # type: ignore[assignment]
    return hits, predicted, true


def _class_score(cells: Cells, kind: str, average: str) -> float:
    """Return precision, recall or F1 as scikit-learn does: 0/0 counts as 0, absent classes are left out."""
    hits, predicted, true = _sums(cells)
    classes = sorted({*predicted, *true})

    def score(above: float, guessed: float, there: float) -> float:
        below = {"f1": (guessed + there) / 2, "precision": guessed, "recall": there}[kind]
        return above / below if below else 0.0

    if average == "micro":
        return score(*(math.fsum(side.values()) for side in (hits, predicted, true)))
    each = [score(hits[name], predicted[name], true[name]) for name in classes]
    weights = [true[name] if average == "weighted" else 1.0 for name in classes]
    return math.fsum(map(lambda value, weight: value * weight, each, weights)) / math.fsum(weights)


def _matthews(cells: Cells) -> float:
    """Return the multi-class Matthews correlation, R_K of Gorodkin 2004."""
    hits, predicted, true = _sums(cells)
    n = math.fsum(cells.values())
    covariance = math.fsum(hits.values()) * n - math.fsum(predicted[name] * true[name] for name in true)
    squares = [n * n - math.fsum(value * value for value in side.values()) for side in (predicted, true)]
    scale = math.sqrt(max(0.0, squares[0]) * max(0.0, squares[1]))
    return covariance / scale if scale > 0 else 0.0
