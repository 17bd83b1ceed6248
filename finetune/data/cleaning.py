"""Texts as the model may see them; rows without text or label dropped, counted and said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    import pyarrow

    from finetune.data.columns import ColumnMap
    from finetune.data.raw import RawSplit

# A few rows without a label are slips; more are a sign that the split, or the column, is not what it seems.
UNLABELLED_SHARE = 0.05


@dataclass(frozen=True)
class Cleaned:
    """A split by role: texts, `row`, and the columns of the target under their own names; notes on what was done."""

    table: pyarrow.Table
    dropped: int
    notes: tuple[str, ...]


def read_clean(split: RawSplit, columns: ColumnMap, target: str) -> Cleaned:
    """Read the mapped columns of a split, make the inputs strings, and drop rows with an empty input.

    Raises FinetuneError when an input is no text or nothing is left.
    """
    table, notes = _by_role(split, columns, target)
    inputs = [role for role in columns if role != target]
    filled = _filled(table, inputs)
    empty = table.num_rows - filled.num_rows
    if filled.num_rows == 0:
        raise FinetuneError(f"split {split.name} ({split.where}): no row has a text", "Check dataset.columns.")
    if empty:
        first = _first_missing(table, filled)
        notes.append(f"{split.name}: {plural(empty, 'row')} without text dropped, the first is {split.place(first)}.")
    return Cleaned(filled, empty, tuple(notes))


def texts_by_role(split: RawSplit, columns: ColumnMap) -> tuple[pyarrow.Table, list[str]]:
    """Read the mapped input columns as strings, with `row`, and notes; empty texts stay.

    Raises FinetuneError as `read_clean`.
    """
    return _by_role(split, columns, "")


def _by_role(split: RawSplit, columns: ColumnMap, target: str) -> tuple[pyarrow.Table, list[str]]:
    import pyarrow

    sources = [name for names in columns.values() for name in ([names] if isinstance(names, str) else names)]
    raw = split.read(list(dict.fromkeys(sources)))
    rows = pyarrow.chunked_array([pyarrow.array(range(1, raw.num_rows + 1), pyarrow.int64())])
    read: dict[str, pyarrow.ChunkedArray] = {}
    notes: list[str] = []
    for role, names in columns.items():
        if role != target:
            shown = f"column {names!r} (for {role})"
            read[role], said = _as_text(split, raw.column(names), rows, shown)
            notes += said
    read["row"] = rows
    given = columns.get(target, [])
    for name in [given] if isinstance(given, str) else given:
        read[label_column(name)] = raw.column(name)
    return pyarrow.table(read), notes


def label_column(name: str) -> str:
    """Return the name of a target's source column inside a cleaned table, where it cannot meet a role."""
    return f"label:{name}"


def drop_unlabelled(split: RawSplit, cleaned: Cleaned, labels: pyarrow.Array) -> tuple[Cleaned, pyarrow.Array]:
    """Drop the rows whose label is missing or hidden (null), when they are few.

    Raises FinetuneError when they are many; that all of them are is for the caller to judge before.
    """
    import pyarrow

    missing = labels.null_count
    if missing == 0:
        return cleaned, labels
    mask = labels.is_valid()
    kept = cleaned.table.filter(mask)
    first = split.place(_first_missing(cleaned.table, kept))
    if missing >= UNLABELLED_SHARE * len(labels) or kept.num_rows == 0:
        raise FinetuneError(
            f"{first}: no label (or -1, a hidden one); so it is in {missing:,} of {plural(len(labels), 'row')} "
            f"of split {split.name}",
            "Remove these rows or label them. If -1 is a class of its own, say "
            "dataset.problem_type: single_label_classification",
        )
    note = f"{split.name}: {plural(missing, 'row')} without a label dropped, the first is {first}."
    labels = labels.filter(mask)
    if isinstance(labels, pyarrow.ChunkedArray):
        labels = labels.combine_chunks()
    return Cleaned(kept, cleaned.dropped + missing, (*cleaned.notes, note)), labels


def _as_text(
    split: RawSplit, column: pyarrow.ChunkedArray, rows: pyarrow.ChunkedArray, shown: str
) -> tuple[pyarrow.ChunkedArray, list[str]]:
    """Return a column of strings; a column of numbers is written out as such, with a note."""
    import pyarrow
    from pyarrow import types

    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return column.cast(pyarrow.large_string()), []
    if types.is_integer(kind) or types.is_floating(kind):
        note = f"{split.name}: {shown} holds numbers; they were written out as text."
        return column.cast(pyarrow.large_string()), [note]
    if types.is_null(kind):
        raise FinetuneError(f"{split.where}: {shown} is empty in every row", "Check dataset.columns.")
    place = next(row.as_py() for row, value in zip(rows, column, strict=True) if value.is_valid)
    value = str(next(value.as_py() for value in column if value.is_valid))
    raise FinetuneError(
        f"{split.place(place)}: {shown} holds no text but {kind}: {value[:40]}{'…' if len(value) > 40 else ''}",
        "Write texts as strings, or map another column: dataset.columns.",
    )


def _filled(table: pyarrow.Table, inputs: list[str]) -> pyarrow.Table:
    import pyarrow.compute as pc

    for name in inputs:
        length = pc.utf8_length(pc.utf8_trim_whitespace(table.column(name)))
        table = table.filter(pc.greater(pc.fill_null(length, 0), 0))
    return table


def _first_missing(before: pyarrow.Table, after: pyarrow.Table) -> int:
    """Return the number of the first row that a filter took out."""
    import pyarrow.compute as pc

    kept = pc.is_in(before.column("row"), value_set=after.column("row").combine_chunks())
    place = pc.index(kept, False).as_py()
    return int(before.column("row")[place].as_py())
