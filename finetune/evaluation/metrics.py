"""The metrics of labels, and evaluate.load for any other name.

scikit-learn and scipy do the arithmetic. Importing evaluate costs seconds, so it is imported when the first
score is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.recipe.metric_names import short_metric
from finetune.text import first_line

MULTI_LABEL = "multi_label_classification"
REGRESSION = "regression"


def _f1(average: str) -> Callable[..., float]:
    def score(references: Any, predictions: Any) -> float:
        from sklearn.metrics import f1_score

        return float(f1_score(references, predictions, average=average, zero_division=0.0))

    return score


def _precision(average: str) -> Callable[..., float]:
    def score(references: Any, predictions: Any) -> float:
        from sklearn.metrics import precision_score

        return float(precision_score(references, predictions, average=average, zero_division=0.0))

    return score


def _recall(average: str) -> Callable[..., float]:
    def score(references: Any, predictions: Any) -> float:
        from sklearn.metrics import recall_score

        return float(recall_score(references, predictions, average=average, zero_division=0.0))

    return score


def _accuracy(references: Any, predictions: Any) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(references, predictions))


def _matthews(references: Any, predictions: Any) -> float:
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(references, predictions))


def _pearson(references: Any, predictions: Any) -> float:
    return _correlation("pearsonr", references, predictions)


def _spearman(references: Any, predictions: Any) -> float:
    return _correlation("spearmanr", references, predictions)


def _correlation(name: str, references: Any, predictions: Any) -> float:
    """Return the correlation; NaN when one side is constant (undefined, and recorded as null)."""
    import numpy
    from scipy import stats

    if any((side == side[0]).all() for side in map(numpy.asarray, (references, predictions))):
        return float("nan")
    return float(getattr(stats, name)(references, predictions)[0])


def _mse(references: Any, predictions: Any) -> float:
    from sklearn.metrics import mean_squared_error

    return float(mean_squared_error(references, predictions))


def _mae(references: Any, predictions: Any) -> float:
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(references, predictions))


FORMULAS: dict[str, Callable[..., float]] = {
    "accuracy": _accuracy,
    "exact_match": _accuracy,  # of label sets: scikit-learn's subset accuracy
    **{f"f1_{average}": _f1(average) for average in ("macro", "micro", "weighted")},
    **{f"precision_{average}": _precision(average) for average in ("macro", "micro", "weighted")},
    **{f"recall_{average}": _recall(average) for average in ("macro", "micro", "weighted")},
    "matthews_correlation": _matthews,
    "pearson": _pearson,
    "spearman": _spearman,
    "mse": _mse,
    "mae": _mae,
}


@cache
def load_metric(name: str) -> Any:
    """Return the evaluate module for a metric of answers against references: ours, else evaluate's by name or path.

    Raises FinetuneError when evaluate does not find it (it fetches its own from the hub).
    """
    if name in FORMULAS:
        from finetune.evaluation.modules import LabelMetric

        return LabelMetric(name, FORMULAS[name])
    import evaluate

    try:
        return evaluate.load(name)
    except Exception as error:  # evaluate raises whatever its loaders meet: no hub, no file, a script's own bug
        known = ", ".join(FORMULAS)
        raise FinetuneError(
            f"evaluation.metrics: {name} is not built in and evaluate cannot load it: {first_line(error)}",
            f"Built in: {known}. Others come from the hub or from a folder that holds {Path(name).name}.py.",
        ) from error


def compute_metrics(names: Sequence[str], predictions: Any, references: Any) -> dict[str, float]:
    """Return the value of each metric; a metric that returns several values gives several entries.

    Predictions and references are arrays or lists.
    """
    found: dict[str, float] = {}
    for name in names:
        metric = load_metric(name)
        if name in FORMULAS:
            found |= metric.compute(predictions=predictions, references=references)
            continue
        try:
            result = metric.compute(predictions=_listed(predictions), references=_listed(references))
        except Exception as error:
            raise FinetuneError(  # a script of somebody else's may raise anything
                f"evaluation.metrics: {name} failed: {type(error).__name__}: {first_line(error)}",
                "Leave it out, or mend it if it is yours.",
            ) from error
        numbers = {key: float(value) for key, value in (result or {}).items() if isinstance(value, Real)}
        short = short_metric(name)
        found |= {(short if len(numbers) == 1 else f"{short}_{key}"): value for key, value in numbers.items()}
    return found


def _listed(values: Any) -> Any:
    return values.tolist() if hasattr(values, "tolist") else values
