"""Solved examples for a prompt: from the training rows alone, the classes in turn, seeded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.splits import seeded_order
from finetune.evaluation.scores import targets_of
from finetune.tasks import LabelScheme, Task

if TYPE_CHECKING:
    import numpy


def draw_examples(train: Any, task: Task, labels: LabelScheme, count: int, seed: int) -> list[dict[str, Any]]:
    """Return `count` rows of the training split by role, fewer where it has no more, in the order of the prompt.

    Each class comes once before any comes twice, the classes in a seeded order; rows without classes come at random.
    """
    import numpy

    order = seeded_order(len(train), seed, "few-shot examples")
    if labels.names:
        order = _in_turn(
            targets_of(train, task, labels), order, seeded_order(labels.num_labels, seed, "few-shot turns")
        )
    taken = order[:count]
    # Not class after class, which the model would read as a pattern.
    shown = taken[seeded_order(len(taken), seed, "few-shot order")]
    rows: list[dict[str, Any]] = table_of(train).take(numpy.asarray(shown)).to_pylist()
    return rows


def _in_turn(known: Any, order: numpy.ndarray, turns: numpy.ndarray) -> numpy.ndarray:
    """Return an order of rows in which the classes take turns, the rows of each as in `order`."""
    import numpy

    classes = numpy.asarray(known)[order]
    turn = numpy.empty(len(turns), dtype=numpy.int64)
    turn[turns] = numpy.arange(len(turns))
    rounds = numpy.empty(len(order), dtype=numpy.int64)
    for one in numpy.unique(classes):
        own = classes == one
        rounds[own] = numpy.arange(own.sum())
    return order[numpy.lexsort((turn[classes], rounds))]
