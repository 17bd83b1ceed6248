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
    values = compute_metrics(names, answers, references)
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
    from finetune.evaluation.modules import SumMetric

    task, context = evaluation.task, evaluation.context
    metric = SumMetric(task, context, names)
    for row, answer in evaluation.answered():
        metric.add(prediction=answer, reference=row)
    measured = metric.measured
    _require_finite(measured)
    intervals = {
        name: None if confidence is None else bootstrap(measured, formula, confidence)
        for name, formula in metric.formulas.items()
    }
    found = {name: (value, intervals[name]) for name, value in metric.compute().items()}
    foreign = [name for name in names if name not in found]
    if foreign:
        found |= {name: (value, None) for name, value in _foreign(evaluation, foreign).items()}
    return found


def _foreign(evaluation: Evaluation, names: Sequence[str]) -> dict[str, float]:
    """Return the values of metrics that are not the task's own, of answers and references in the user's words."""
    task, labels = evaluation.task, evaluation.context.labels
    pairs = [(task.words(answer["prediction"], labels), task.reference_of(row, labels))
             for row, answer in evaluation.answered()]  # fmt: skip
    predictions, references = (list(side) for side in zip(*pairs, strict=True))
    return compute_metrics(names, predictions, references)


def _require_finite(numbers: numpy.ndarray) -> None:
    import numpy

    if not numpy.isfinite(numbers).all():
        raise FinetuneError(
            "the model's predictions are not finite numbers (NaN or infinity)",
            "Lower training.learning_rate, or set training.mixed_precision: no.",
        )
