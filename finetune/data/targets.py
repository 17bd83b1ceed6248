"""How the target of a task is read, by its kind: one reading, decided from train, for every split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.data.cleaning import label_column
from finetune.data.kinds import KINDS
from finetune.data.labels import encode_labels, make_reader
from finetune.data.tags import read_spans, read_tags
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme

if TYPE_CHECKING:
    import pyarrow

    from finetune.data.columns import ColumnMap
    from finetune.data.raw import RawSplit
    from finetune.tasks import Task


@dataclass(frozen=True)
class Target:
    """How the targets of a dataset are read.

    encode(split, table) returns those of a cleaned split as the task takes them, null where missing or hidden, and
    raises FinetuneError at one that does not fit those of train.
    """

    scheme: LabelScheme
    encode: Callable[[RawSplit, pyarrow.Table], pyarrow.ChunkedArray]
    notes: tuple[str, ...] = ()


def read_target(task: Task, split: RawSplit, table: pyarrow.Table, columns: ColumnMap, forced: str) -> Target:
    """Decide from the train split, cleaned, how targets are read; `forced` is a problem type or auto.

    Raises FinetuneError when they are not what the task's target is.
    """
    if task.target is None:
        return Target(LabelScheme(task.problem_types[0]), _nothing)
    source = columns[task.target]
    match task.column(task.target).kind:
        case "label":
            reader = make_reader(split, table, source, forced)
            return Target(reader.scheme, lambda split, table: encode_labels(reader, split, table))
        case "tags" | "spans" as kind:
            return Target(*(read_tags if kind == "tags" else read_spans)(split, table, str(source)))
        case kind:
            return _as_it_is(task, split, table, str(source), kind)


def _nothing(split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
    """Return a mark for each row, as each can be used."""
    import pyarrow

    return pyarrow.chunked_array([pyarrow.repeat(pyarrow.scalar(1, pyarrow.int8()), table.num_rows)])


def _as_it_is(task: Task, split: RawSplit, table: pyarrow.Table, source: str, name: str) -> Target:
    import pyarrow
    import pyarrow.compute as pc

    kind = KINDS[name]

    def encode(split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
        column = table.column(label_column(source))
        if pyarrow.types.is_null(column.type):
            return pyarrow.chunked_array([pyarrow.nulls(len(column), pyarrow.large_string())])
        if not kind.reads(column.type):
            raise FinetuneError(
                f"{split.where}: column {source!r} (for {task.target}) holds {kind.words} but {column.type}",
                kind.remedy,
            )
        arrays = [kind.cast(chunk) for chunk in column.chunks]
        return pyarrow.chunked_array([pc.if_else(kind.present(array), array, None) for array in arrays])

    encode(split, table.slice(0, 1))
    return Target(LabelScheme(task.problem_types[0]), encode)
