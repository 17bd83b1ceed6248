"""What can be had without training: the score to beat."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finetune.data.arrow_files import table_of
from finetune.evaluation.answers import Answers
from finetune.evaluation.predict import Evaluation
from finetune.evaluation.scores import targets_of
from finetune.tasks import Context, Task


def majority_evaluation(task: Task, context: Context, train: Any, split: Any) -> Evaluation | None:
    """Return the constant answer (learned from the training targets alone) for every row of a split.

    None for a task in which no constant answer makes sense. Splits are datasets.Datasets by role.
    """
    if task.majority is None:
        return None
    rows = table_of(split)
    answers = Answers(len(rows))
    answers.put(range(len(rows)), task.majority(targets_of(train, task, context.labels), rows, context.labels))
    return Evaluation(replace(task, answer=None), context, rows, answers)
