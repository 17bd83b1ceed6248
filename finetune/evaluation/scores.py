"""The scores of an evaluation: of labels against labels, or from numbers that add up over the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.spool import as_array
from finetune.errors import FinetuneError
from finetune.evaluation.intervals import bootstrap, confidence_interval
from finetune.evaluation.metrics import compute_metrics
from finetune.tasks import LabelScheme, Task

if TYPE_CHECKING:
    import numpy
    import pyarrow

    from finetune.evaluation.predict import Evaluation


def targets_of(split: Any, task: Task, labels: LabelScheme) -> Any:
    """Return all targets of a split by role: labels as one array, others as the column itself; None: it has none."""
    if task.target is None:
        return None
    column = table_of(split).column(task.target)
    return label_array(column, labels) if task.measure is None else column


def label_array(column: pyarrow.ChunkedArray, labels: LabelScheme) -> numpy.ndarray:
    """Return a column of labels as one array: ids, rows × labels of 0/1, or numbers."""
    import numpy

    if labels.problem_type == "regression":
        return as_array(column, numpy.float64)
    if labels.problem_type != "multi_label_classification":
        return as_array(column, numpy.int32)
    flags = numpy.empty((len(column), labels.num_labels), numpy.uint8)
    start = 0
    for chunk in column.chunks:
        flags[start : start + len(chunk)] = chunk.flatten().to_numpy().reshape(len(chunk), -1)
        start += len(chunk)
    return flags


def score(evaluation: Evaluation, names: Sequence[str], confidence: float | None = None) -> dict[str, dict[str, Any]]:
    """Return each metric as {value, low, high, n}, with its interval where a confidence is given.

    A value that is undefined (a correlation with a constant) is null, never a number.
    Raises FinetuneError when a model's outputs are not numbers.
    """
    scored = _from_labels if evaluation.task.measure is None else _from_sums
    scores = {}
    for name, (value, interval) in scored(evaluation, names, confidence).items():
        low, high = interval if interval is not None and math.isfinite(value) else (None, None)
        value_or_null = value if math.isfinite(value) else None
        scores[name] = {"value": value_or_null, "low": low, "high": high, "n": evaluation.n}
    return scores


Scored = Mapping[str, tuple[float, tuple[float, float] | None]]


def _from_labels(evaluation: Evaluation, names: Sequence[str], confidence: float | None) -> Scored:
    task, labels = evaluation.task, evaluation.context.labels
    answers = evaluation.answers.column("prediction")
    references = label_array(evaluation.rows.column(task.target), labels)
    _require_finite(answers)
    values = compute_metrics(names, answers, references, labels)
    return {
        name: (
            value,
            confidence_interval(name, answers, references, labels, confidence)
            if confidence is not None and math.isfinite(value)
            else None,
        )
        for name, value in values.items()
    }


def _from_sums(evaluation: Evaluation, names: Sequence[str], confidence: float | None) -> Scored:
    task, labels = evaluation.task, evaluation.context.labels
    assert task.measure is not None
    assert task.formulas is not None
    formulas = task.formulas(labels)
    measured = _measured(evaluation)
    _require_finite(measured)
    found: dict[str, tuple[float, tuple[float, float] | None]] = {}
    for name, formula in formulas.items():
        interval = None if confidence is None else bootstrap(measured, formula, confidence)
        found[name] = float(formula(measured.sum(axis=0))), interval
    foreign = [name for name in names if name not in formulas]
    if foreign:
        said = [(answer["prediction"], row[task.target or ""]) for row, answer in evaluation.answered()]
        predictions, references = ([task.words(value, labels) for value in side] for side in zip(*said, strict=True))
        values = compute_metrics(foreign, predictions, references, labels)
        found |= {name: (value, None) for name, value in values.items()}
    return found


def _measured(evaluation: Evaluation) -> numpy.ndarray:
    """Return the task's numbers (units × numbers), added up over the rows that depend on each other."""
    import numpy

    task, context = evaluation.task, evaluation.context
    assert task.measure is not None
    units: dict[Any, int] = {}
    measured: numpy.ndarray | None = None
    for place, (row, answer) in enumerate(evaluation.answered()):
        numbers = task.measure(answer, row, context)
        if measured is None:
            measured = numpy.zeros((evaluation.n, len(numbers)))
        measured[place if task.unit is None else units.setdefault(task.unit(row), len(units))] += numbers
    assert measured is not None
    return measured if task.unit is None else measured[: len(units)]


def _require_finite(numbers: numpy.ndarray) -> None:
    import numpy

    if not numpy.isfinite(numbers).all():
        raise FinetuneError(
            "the model's predictions are not finite numbers (NaN or infinity)",
            "Lower training.learning_rate, or set training.mixed_precision: no.",
        )
