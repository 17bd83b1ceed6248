"""What can be had without training: the score to beat."""

from __future__ import annotations

from typing import Any

from finetune.data.arrow_files import table_of
from finetune.data.spool import as_array
from finetune.evaluation.predict import Evaluation, label_array
from finetune.tasks import LabelScheme, Task


def majority_evaluation(task: Task, labels: LabelScheme, train_labels: Any, split: Any) -> Evaluation:
    """Return the constant prediction (learned from the training labels alone) for every row of a split."""
    import numpy

    references = label_array(table_of(split).column("labels"), labels)
    answers = numpy.empty_like(references)
    answers[:] = task.majority(train_labels, labels)
    return Evaluation(answers, references, as_array(table_of(split).column("row"), numpy.int64))
