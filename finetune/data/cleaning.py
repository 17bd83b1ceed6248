"""Texts as the model may see them; rows without text or label dropped, counted and said."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune.data.kinds import KINDS, is_number
from finetune.data.spool import as_array, spool_table, take_rows
from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pyarrow

    from finetune.data.columns import ColumnMap
    from finetune.data.raw import RawSplit
    from finetune.tasks import Task

# A few rows without a label are slips; more are a sign that the split, or the column, is not what it seems.
UNLABELLED_SHARE = 0.05


@dataclass(frozen=True)
class Cleaned:
    """A split by role: inputs, `row`, and the columns of the target under their own names; notes on what was done."""

    table: pyarrow.Table
    dropped: int
    notes: tuple[str, ...]


@dataclass
class Dropped:
    """How many rows were read and dropped so far, the number of the first one dropped, and other notes."""

    rows: int = 0
    dropped: int = 0
    first: int = 0
    notes: list[str] = field(default_factory=list)


def read_clean(split: RawSplit, columns: ColumnMap, task: Task) -> Cleaned:
    """Read the mapped columns of a split, make the inputs what the task says, and drop rows with an empty input.

    Raises FinetuneError when an input is of another kind or nothing is left.
    """
    raw = split.read(source_columns(columns))
    notes = check_inputs(split, raw, columns, task)
    check_values(split, raw, columns, task)
    dropped = Dropped()
    table = spool_table(
        with_text(by_role(raw.to_batches(), columns, task), columns, task, dropped),
        role_schema(raw.schema, columns, task),
    )
    return Cleaned(table, dropped.dropped, (*notes, *dropped_notes(split, dropped)))


def dropped_notes(split: RawSplit, dropped: Dropped) -> list[str]:
    """Return the note on rows without text, if there were any; raises FinetuneError when no row is left."""
    if dropped.dropped == dropped.rows:
        raise FinetuneError(f"split {split.name} ({split.where}): no row has a text", "Check dataset.columns.")
    if not dropped.dropped:
        return []
    rows = plural(dropped.dropped, "row")
    return [f"{split.name}: {rows} without text dropped, the first is {split.place(dropped.first)}."]


def inputs_by_role(split: RawSplit, columns: ColumnMap, task: Task) -> tuple[pyarrow.Table, list[str]]:
    """Read the mapped input columns, with `row`, and notes; empty ones stay.

    Raises FinetuneError as `read_clean`.
    """
    raw = split.read(source_columns(columns))
    notes = check_inputs(split, raw, columns, task)
    return spool_table(by_role(raw.to_batches(), columns, task), role_schema(raw.schema, columns, task)), notes


def source_columns(columns: ColumnMap) -> list[str]:
    """Return the columns that play a role, each once."""
    names = (name for names in columns.values() for name in ([names] if isinstance(names, str) else names))
    return list(dict.fromkeys(names))


def role_schema(source: pyarrow.Schema, columns: ColumnMap, task: Task) -> pyarrow.Schema:
    """Return the schema of a split by role."""
    import pyarrow

    batch = pyarrow.RecordBatch.from_arrays([pyarrow.nulls(0, kind) for kind in source.types], source.names)
    return next(by_role([batch], columns, task)).schema


def by_role(batches: Iterable[pyarrow.RecordBatch], columns: ColumnMap, task: Task) -> Iterator[pyarrow.RecordBatch]:
    """Yield pieces of a source by role: inputs by their kind, `row` (from 1), the columns of the target as they are."""
    import numpy
    import pyarrow

    done = 0
    for batch in batches:
        read = {
            role: KINDS[task.column(role).kind].cast(batch.column(str(name)))
            for role, name in columns.items()
            if role != task.target
        }
        done += batch.num_rows
        read["row"] = pyarrow.array(numpy.arange(done - batch.num_rows + 1, done + 1))
        read |= {label_column(name): batch.column(name) for name in _target_columns(columns, task)}
        yield pyarrow.RecordBatch.from_pydict(read)


def with_text(
    batches: Iterable[pyarrow.RecordBatch], columns: ColumnMap, task: Task, dropped: Dropped
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of which no input is empty, and count the others."""
    import pyarrow.compute as pc

    for batch in batches:
        full = None
        for role in columns:
            if role != task.target:
                has_text = KINDS[task.column(role).kind].present(batch.column(role))
                full = has_text if full is None else pc.and_(full, has_text)
        missing = batch.num_rows - (pc.sum(full).as_py() or 0)
        if missing and not dropped.dropped:
            dropped.first = int(batch.column("row")[pc.index(full, False).as_py()].as_py())
        dropped.rows += batch.num_rows
        dropped.dropped += missing
        if missing < batch.num_rows:
            yield batch.filter(full) if missing else batch


def label_column(name: str) -> str:
    """Return the name of a target's source column inside a cleaned table, where it cannot meet a role."""
    return f"label:{name}"


def _target_columns(columns: ColumnMap, task: Task) -> list[str]:
    names = columns.get(task.target, []) if task.target else []
    return [names] if isinstance(names, str) else list(names)


def drop_unlabelled(
    split: RawSplit, cleaned: Cleaned, labels: pyarrow.ChunkedArray, task: Task
) -> tuple[Cleaned, pyarrow.ChunkedArray]:
    """Drop the rows whose label is missing or hidden (null), when they are few.

    Raises FinetuneError when they are many; that all of them are is for the caller to judge before.
    """
    import pyarrow
    import pyarrow.compute as pc

    missing = labels.null_count
    if missing == 0:
        return cleaned, labels
    valid = labels.is_valid()
    first = split.place(cleaned.table.column("row")[pc.index(valid, False).as_py()].as_py())
    if missing >= UNLABELLED_SHARE * len(labels) or missing == len(labels):
        so = f"so it is in {missing:,} of {plural(len(labels), 'row')} of split {split.name}"
        if task.column(str(task.target)).kind != "label":
            raise FinetuneError(
                f"{first}: no {task.target}; {so}", f"Remove these rows, or give them their {task.target}."
            )
        raise FinetuneError(
            f"{first}: no label (or -1, a hidden one); {so}",
            "Remove these rows or label them. If -1 is a class of its own, say "
            "dataset.problem_type: single_label_classification",
        )
    note = f"{split.name}: {plural(missing, 'row')} without a label dropped, the first is {first}."
    mask = as_array(valid, bool)
    kept = take_rows(cleaned.table, mask)
    labels = take_rows(pyarrow.table({"label": labels}), mask).column(0)
    return Cleaned(kept, cleaned.dropped + missing, (*cleaned.notes, note)), labels


def check_inputs(split: RawSplit, table: pyarrow.Table, columns: ColumnMap, task: Task, before: int = 0) -> list[str]:
    """Return notes on text columns of numbers, which are written out.

    `before` says how many rows of the split come before the table. Raises FinetuneError, with the row, for a column
    that holds another kind of value than the task wants.
    """
    from pyarrow import types

    notes = []
    for role, name in columns.items():
        if role == task.target:
            continue
        found, shown = table.schema.field(str(name)).type, f"column {name!r} (for {role})"
        kind = KINDS[task.column(role).kind]
        if kind.reads(found):
            if is_number(found):
                notes.append(f"{split.name}: {shown} holds numbers; they were written out as text.")
            continue
        if types.is_null(found):
            raise FinetuneError(f"{split.where}: {shown} is empty in every row", "Check dataset.columns.")
        place, first = next((i, value) for i, value in enumerate(table.column(str(name)), before + 1) if value.is_valid)
        value = str(first.as_py())
        value = value[:40] + ("…" if len(value) > 40 else "")
        raise FinetuneError(
            f"{split.place(place)}: {shown} holds {kind.words} but {found}: {value}",
            kind.remedy,
        )
    return notes


def check_values(split: RawSplit, table: Any, columns: ColumnMap, task: Task, before: int = 0) -> None:
    """Raise FinetuneError, with the row, for a value of the right type from which nothing can be learned.

    `before` says how many rows of the split come before the table or batch.
    """
    for role, name in columns.items():
        kind = KINDS[task.column(role).kind] if role != task.target else None
        fault = kind.fault(table.column(str(name))) if kind is not None and kind.fault is not None else None
        if fault is not None:
            place, words, remedy = fault
            raise FinetuneError(f"{split.place(before + place + 1)}: {words}", remedy)
