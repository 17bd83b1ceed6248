"""Solved examples for a prompt: from the training rows alone, none that is asked about; the classes in turn, seeded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.sources import input_hashes
from finetune.data.splits import seeded_order
from finetune.evaluation.scores import targets_of
from finetune.tasks import LabelScheme, Task

if TYPE_CHECKING:
    import numpy


def draw_examples(
    train: Any, asked: Any, task: Task, labels: LabelScheme, count: int, seed: int
) -> tuple[list[dict[str, Any]], int]:
    """Return `count` rows of the training split by role, in the order of the prompt, and how many were passed over.

    Passed over are rows drawn whose inputs are, word for word, those of a row of `asked`, the split that is asked
    about: they would tell its answer. Each class comes once before any comes twice, the classes in a seeded order; rows
    without classes come at random. There are fewer rows where the training split has no more.
    """
    import numpy

    order = seeded_order(len(train), seed, "few-shot examples")
    groups = [order]
    if labels.names:
        known = numpy.asarray(targets_of(train, task, labels))[order]
        groups = [order[known == one] for one in seeded_order(labels.num_labels, seed, "few-shot turns")]
    table, roles = table_of(train), [column.role for column in task.inputs if column.role in train.column_names]
    asked_about = numpy.unique(numpy.concatenate([*input_hashes(table_of(asked), roles)]))
    passed_over = 0

    def may_be_shown(place: int) -> bool:
        nonlocal passed_over
        [[number]] = input_hashes(table.slice(place, 1), roles)
        found = int(asked_about.searchsorted(number))
        leaks = found < len(asked_about) and asked_about[found] == number
        passed_over += int(leaks)
        return not leaks

    taken = list(islice(_in_turn(groups, may_be_shown), count))
    # Not class after class, which the model would read as a pattern.
    shown = [taken[place] for place in seeded_order(len(taken), seed, "few-shot order")]
    rows: list[dict[str, Any]] = table.take(numpy.asarray(shown, dtype=numpy.int64)).to_pylist()
    return rows, passed_over


def _in_turn(groups: Sequence[numpy.ndarray], may_be_shown: Callable[[int], bool]) -> Iterator[int]:
    """Yield a place of each group, then the next of each that has one left; no more are looked at than are wanted."""
    waiting = [filter(may_be_shown, map(int, group)) for group in groups]
    while waiting:
        for group in list(waiting):
            place = next(group, None)
            if place is None:
                waiting.remove(group)
            else:
                yield place
