"""What can be had without training: the score to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from finetune.evaluation.predict import Evaluation
from finetune.tasks import LabelScheme, Task


def majority_evaluation(task: Task, labels: LabelScheme, train_labels: Sequence[Any], split: Any) -> Evaluation:
    """Return the constant prediction (learned from the training labels alone) for every row of a split."""
    constant = task.majority(train_labels, labels)
    references = [
        [int(flag) for flag in truth] if labels.problem_type == "multi_label_classification" else truth
        for truth in split["labels"]
    ]
    return Evaluation([{"prediction": constant}] * len(references), references, list(split["row"]))
