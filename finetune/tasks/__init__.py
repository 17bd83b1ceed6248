"""What the tool can fine-tune for: one file a task, and this folder is the registry.

A task's file imports only the standard library at its top, so that a recipe can be checked against it
without torch; heavy things are imported inside its functions.
"""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

# Every other metric is better the greater it is.
LOWER_IS_BETTER = frozenset({"loss", "mse", "mae", "rmse", "perplexity", "brier_score", "wer", "cer", "ter"})

# The metrics with bounds at most 2 apart: a hundredth of 1 is a point of theirs.
BOUNDED_METRICS = frozenset(
    {
        "accuracy", "exact_match", "matthews_correlation", "pearson", "spearman", "brier_score",
        *(f"{name}_{average}" for name in ("f1", "precision", "recall") for average in ("macro", "micro", "weighted")),
    }
)  # fmt: skip


def greater_is_better(metric: str) -> bool:
    """Tell the direction of a metric."""
    return metric not in LOWER_IS_BETTER


@dataclass(frozen=True)
class Column:
    """A role that a column of the user's data can play, and the names under which it usually comes."""

    role: str
    usual_names: tuple[str, ...]
    required: bool = True
    several: bool = False  # the recipe may map the role to a list of columns (0/1 flags of a multi-label set)


@dataclass(frozen=True)
class LabelScheme:
    """How the labels of a dataset are read: problem_type is transformers' own name for it.

    `names[i]` is the label with id i; empty for regression.
    """

    problem_type: str
    names: tuple[str, ...] = ()

    @property
    def num_labels(self) -> int:
        """Return the number of outputs that the model's head needs."""
        return len(self.names) or 1


@dataclass(frozen=True)
class Task:
    """One kind of fine-tuning, as data and plain functions.

    encode(rows, tokenizer, max_length, truncation) takes columns by role (lists of equal length) and returns token
    columns (input_ids …, lists of the same length, unpadded).
    loss(logits, labels, scheme, class_weights, label_smoothing) returns the loss summed over the rows, and
    loss_weight(labels, scheme, class_weights) what to divide it by, so that any split of a batch adds up exactly.
    predict(logits, scheme) turns a float array of logits into one prediction a row (JSON values).
    majority(labels, scheme) returns the constant prediction that is best without looking at the text.
    """

    name: str
    summary: str
    columns: tuple[Column, ...]
    target: str
    problem_types: tuple[str, ...]
    metrics: Mapping[str, tuple[str, ...]]  # problem type → metric names, the main one first
    auto_class: str
    encode: Callable[..., dict[str, list[Any]]]
    loss: Callable[..., Any]
    loss_weight: Callable[..., Any]
    balanced_weights: Callable[[Any, LabelScheme], list[float]]
    predict: Callable[..., list[Any]]
    majority: Callable[[Any, LabelScheme], Any]

    def column(self, role: str) -> Column:
        """Return the column that plays a role."""
        return next(column for column in self.columns if column.role == role)

    def all_metrics(self) -> tuple[str, ...]:
        """Return every metric of the task once, whatever the problem type."""
        return tuple(dict.fromkeys(name for names in self.metrics.values() for name in names))


@cache
def all_tasks() -> Mapping[str, Task]:
    """Return the tasks by name, read from the files of this folder."""
    modules = (importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__))
    return {module.TASK.name: module.TASK for module in modules}
