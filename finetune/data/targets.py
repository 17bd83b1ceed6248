"""How the target of a task is read, by its kind: one reading, decided from train, for every split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.data.choices import read_choices
from finetune.data.cleaning import label_column
from finetune.data.kinds import KINDS, Kind
from finetune.data.labels import encode_labels, make_reader
from finetune.data.reference_answers import read_answers
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
        case "choice":
            return Target(*read_choices(split, table, str(source)))
        case "answers":
            return Target(*read_answers(split, table, str(source)))
        case kind:
            sources = [source] if isinstance(source, str) else list(source)
            return _as_it_is(task, split, table, sources, kind)


def _nothing(split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
    """Return a mark for each row, as each can be used."""
    import pyarrow

    return pyarrow.chunked_array([pyarrow.repeat(pyarrow.scalar(1, pyarrow.int8()), table.num_rows)])


def _as_it_is(task: Task, split: RawSplit, table: pyarrow.Table, sources: list[str], name: str) -> Target:
    """Read a column by its kind; several columns of lists are joined row by row."""
    kind = KINDS[name]

    def encode(split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
        import pyarrow
        import pyarrow.compute as pc

        columns = [_cast(split, table, source, kind, task) for source in sources]
        arrays = columns[0].chunks if len(columns) == 1 else [_joined(columns)]
        present = [pc.if_else(kind.present(array), array, None) for array in arrays]
        return pyarrow.chunked_array(present, columns[0].type)

    encode(split, table.slice(0, 1))
    return Target(LabelScheme(task.problem_types[0]), encode)


def _cast(split: RawSplit, table: pyarrow.Table, source: str, kind: Kind, task: Task) -> pyarrow.ChunkedArray:
    import pyarrow

    column = table.column(label_column(source))
    if pyarrow.types.is_null(column.type):
        column = column.cast(pyarrow.large_string())
    if not kind.reads(column.type):
        raise FinetuneError(
            f"{split.where}: column {source!r} (for {task.target}) holds {kind.words} but {column.type}",
            kind.remedy,
        )
    return pyarrow.chunked_array(
        [kind.cast(chunk) for chunk in column.chunks], kind.cast(pyarrow.array([], column.type)).type
    )


def _joined(columns: list[pyarrow.ChunkedArray]) -> pyarrow.Array:
    import pyarrow

    rows = zip(*(column.to_pylist() for column in columns), strict=True)
    return pyarrow.array([[text for texts in row for text in texts or ()] for row in rows], columns[0].type)
