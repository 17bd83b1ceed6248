"""How labels are read: classes, sets of classes or numbers; one mapping for every split."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import label_column
from finetune.data.label_sets import flags_from_columns, flags_from_lists, names_in_lists
from finetune.data.label_values import (
    EXACT_BELOW,
    Values,
    as_numbers,
    first_inexact,
    names_of,
    read_values,
    sorted_names,
    whole,
)
from finetune.data.spool import spool_table, take_rows
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme
from finetune.tasks.text_classification import MULTI, REGRESSION, SINGLE
from finetune.text import join_words, plural

if TYPE_CHECKING:
    import pyarrow

    from finetune.data.raw import RawSplit

# Whole-number floats with more values than this are measurements; with fewer they are classes (0.0, 1.0).
MAX_FLOAT_CLASSES = 20
# Whole numbers with more values than this are scores or ids rather than classes, unless the recipe says so.
MAX_INTEGER_CLASSES = 200
# Labels that differ from row to row are no classes; tiny sets are let through.
MIN_ROWS_PER_CLASS = 2
FEW_CLASSES = 10
# More different values than this are looked at row by row, as numbers are.
_MANY_LABELS = 100_000


@dataclass(frozen=True)
class LabelReader:
    """How the target of this dataset is read in every split.

    `source` is the column, or the 0/1 columns. `fixed` are the names that came with the data (ClassLabel).
    """

    scheme: LabelScheme
    source: str | list[str]
    kind: str  # text | boolean | integer | float, of the train split
    fixed: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def make_reader(split: RawSplit, table: pyarrow.Table, source: str | list[str], forced: str) -> LabelReader:
    """Decide from the train split how labels are read; `forced` is a problem type or auto.

    Raises FinetuneError when they are no labels: one class, nearly as many as rows, mixed or nested values.
    """
    if not isinstance(source, str):
        if forced not in ("auto", MULTI):
            raise FinetuneError(
                f"dataset.columns.label: several columns are read as 0/1 labels, which is not {forced}",
                f"Name one column, or say dataset.problem_type: {MULTI}",
            )
        if len(source) < 2:
            raise FinetuneError("dataset.columns.label: a list with one column", f"Write the name alone: {source[0]}")
        return LabelReader(LabelScheme(MULTI, tuple(source)), source, "flags")
    rows = table.num_rows
    table = _different_rows(table, label_column(source))
    column = table.column(label_column(source))
    fixed = _fixed_names(split, source)
    if _is_list(column):
        return _set_reader(split, table, source, forced, fixed)
    if forced == MULTI:
        raise FinetuneError(
            f"{split.where}: column {source!r} holds one value a row, and dataset.problem_type says {MULTI}",
            'Write the labels as a list (jsonl: "labels": ["a", "b"]) or as one 0/1 column each, listed in '
            "dataset.columns.label.",
        )
    _check_flat(split, column, source)
    values = read_values(column, _untyped(split))
    if forced == REGRESSION:
        return _number_reader(split, table, source, values)
    if fixed is not None and values.kind == "integer":
        return LabelReader(LabelScheme(SINGLE, fixed), source, "integer", fixed)
    _refuse_inexact(split, table, source, values)
    if forced == "auto" and values.kind == "float" and not _few_whole(values):
        return _number_reader(split, table, source, values)
    return _class_reader(split, table, rows, source, values, forced)


def _different_rows(table: pyarrow.Table, column: str) -> pyarrow.Table:
    """Return the first row of each different label, by which alone it is decided how labels are read.

    Labels that have more different values than classes could (numbers) are returned as they are.
    """
    import numpy
    import pyarrow.compute as pc

    seen: set[Any] = set()
    first = numpy.zeros(table.num_rows, dtype=bool)
    start = 0
    for chunk in table.column(column).chunks:
        nested = _is_list(chunk)
        values = [tuple(value) if value else value is None for value in chunk.to_pylist()] if nested else None
        try:
            for value in set(values) if values is not None else chunk.unique().to_pylist():
                if value not in seen and value == value:  # the null and NaN of a chunk are no labels
                    seen.add(value)
                    place = values.index(value) if values is not None else pc.index(chunk, value).as_py()
                    first[start + max(place, 0)] = True
        except (NotImplementedError, TypeError):  # a type that cannot be a label; said by the caller
            return table
        if len(seen) > _MANY_LABELS:
            return table
        start += len(chunk)
    return take_rows(table, first) if first.any() else table.slice(0, 1)


def encode_labels(reader: LabelReader, split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
    """Return the labels of a split: ids, lists of 0/1, or numbers; null where missing or hidden.

    Raises FinetuneError when a label does not occur in train, naming it with row and count.
    """
    import pyarrow

    kinds = {MULTI: pyarrow.list_(pyarrow.float32()), REGRESSION: pyarrow.float64()}
    schema = pyarrow.schema([("label", kinds.get(reader.scheme.problem_type, pyarrow.int64()))])
    names = [name for name in table.column_names if name == "row" or name.startswith(label_column(""))]
    wanted = table.select(names)
    pieces = (
        pyarrow.RecordBatch.from_arrays(
            [_encode_piece(reader, split, pyarrow.Table.from_batches([batch])).cast(schema.types[0])], schema=schema
        )
        for batch in wanted.to_batches()
    )
    try:
        return spool_table(pieces, schema).column(0)
    except FinetuneError:
        # Only the whole split tells how often a fault occurs, and whether another reading of all labels avoids it.
        return pyarrow.chunked_array([_encode_piece(reader, split, wanted)])


def _encode_piece(reader: LabelReader, split: RawSplit, table: pyarrow.Table) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as pc

    names = reader.scheme.names
    if not isinstance(reader.source, str):
        return flags_from_columns(split, table, reader.source)
    column = table.column(label_column(reader.source))
    if reader.scheme.problem_type == MULTI:
        if not _is_list(column):
            raise FinetuneError(
                f"split {split.name}: column {reader.source!r} holds no lists, as it does in train",
                f'Write lists here too, of a single label as well: "{reader.source}": ["a"]',
            )
        return flags_from_lists(split, table, column, reader.fixed, names)
    _check_flat(split, column, reader.source)
    values = _read_like_train(reader, column, split)
    if reader.scheme.problem_type == REGRESSION:
        return _numbers(split, table, reader.source, values)
    if reader.fixed is not None and values.kind == "integer":
        return _fixed_ids(split, table, values, names)
    _refuse_inexact(split, table, reader.source, values)
    found = names_of(values)
    if "-1" not in names and values.kind != "text":
        found = pc.if_else(pc.equal(found, "-1"), None, found)
    ids = pc.index_in(found, value_set=pyarrow.array(names, pyarrow.large_string())).cast(pyarrow.int64())
    unseen = pc.and_(pc.is_valid(found), pc.is_null(ids))
    if pc.any(unseen).as_py():
        place = pc.index(unseen, True).as_py()
        label = found[place].as_py()
        count = pc.sum(pc.equal(found, label)).as_py()
        raise FinetuneError(
            f"{split.place(table.column('row')[place].as_py())}: label {label!r} does not occur in train "
            f"({plural(count, 'row')} of split {split.name}); train has {_shown(names)}",
            "Correct the label, add rows of it to train, or remove these rows.",
        )
    return ids


def all_hidden(labels: pyarrow.ChunkedArray, scheme: LabelScheme) -> bool:
    """Tell whether a split has no labels at all: all null, or all -1 for a regression."""
    import pyarrow.compute as pc

    if labels.null_count == len(labels):
        return True
    return scheme.problem_type == REGRESSION and bool(pc.all(pc.equal(labels.drop_null(), -1.0)).as_py())


def _fixed_names(split: RawSplit, source: str) -> tuple[str, ...] | None:
    return split.parts[0].class_names.get(source)


def _untyped(split: RawSplit) -> bool:
    return any(part.untyped for part in split.parts)


def _is_list(column: Any) -> bool:
    from pyarrow import types

    kind = column.type
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _check_flat(split: RawSplit, column: Any, source: str) -> None:
    from pyarrow import types

    kind = column.type
    plain = (
        types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_null,
        types.is_string, types.is_large_string, types.is_string_view,
    )  # fmt: skip
    if not any(check(kind) for check in plain):
        raise FinetuneError(
            f"{split.where}: column {source!r} holds {kind}, which is no label",
            "A label is a text, a whole number, a boolean, a number, or a list of labels.",
        )


def _refuse_inexact(split: RawSplit, table: pyarrow.Table, source: str, values: Values) -> None:
    place = first_inexact(values)
    if place is not None:
        raise FinetuneError(
            f"{split.place(table.column('row')[place].as_py())}: column {source!r} holds "
            f"{values.array[place].as_py():.0f}; numbers beyond ±2**53 ({EXACT_BELOW}) cannot be told apart as labels",
            f"Write such labels as texts, in quotes; or predict the number: dataset.problem_type: {REGRESSION}",
        )


def _few_whole(values: Values) -> bool:
    return whole(values) and len(values.array.drop_null().unique()) <= MAX_FLOAT_CLASSES


def _read_like_train(reader: LabelReader, column: Any, split: RawSplit) -> Values:
    """Read another split as train was read: what was text there stays text, however numeric it looks here."""
    import pyarrow.compute as pc

    values = read_values(column, _untyped(split) and reader.kind != "text")
    if reader.kind == "boolean" and values.kind == "text":
        return replace(values, array=pc.utf8_lower(values.array))
    return values


def _number_reader(split: RawSplit, table: pyarrow.Table, source: str, values: Values) -> LabelReader:
    import pyarrow.compute as pc

    numbers = _numbers(split, table, source, values)
    if len(numbers.drop_null().unique()) < 2:
        raise FinetuneError(
            f"{split.where}: column {source!r} holds the same number in every row: nothing to learn",
            "Map another column: dataset.columns.label",
        )
    infinite = pc.invert(pc.is_finite(pc.fill_null(numbers, 0.0)))
    if pc.any(infinite).as_py():
        row = table.column("row")[pc.index(infinite, True).as_py()].as_py()
        raise FinetuneError(f"{split.place(row)}: the label is infinite", "Correct or remove the row.")
    return LabelReader(LabelScheme(REGRESSION), source, values.kind)


def _numbers(split: RawSplit, table: pyarrow.Table, source: str, values: Values) -> pyarrow.Array:
    import pyarrow

    if values.kind == "text":
        numbers = as_numbers(values.array)
        if numbers is None:
            if values.array.null_count == len(values.array):
                return pyarrow.nulls(len(values.array), pyarrow.float64())
            place = next(i for i, value in enumerate(values.array) if value.is_valid and not _is_number(value.as_py()))
            raise FinetuneError(
                f"{split.place(table.column('row')[place].as_py())}: column {source!r} holds "
                f"{values.array[place].as_py()!r}, which is no number",
                f"Correct the row, or say dataset.problem_type: {SINGLE}",
            )
        values = numbers
    if values.kind == "boolean":
        values = Values("integer", values.array.cast(pyarrow.int64()))
    return values.array.cast(pyarrow.float64())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _class_reader(
    split: RawSplit, table: pyarrow.Table, rows: int, source: str, values: Values, forced: str
) -> LabelReader:
    hidden = _hidden_mark(values) if forced == "auto" else False
    found = names_of(values).drop_null()
    counts = {entry["values"]: entry["counts"] for entry in found.value_counts().to_pylist()}
    if hidden:
        counts.pop("-1", None)
    if values.kind == "text" and counts and all(n.startswith("[") and n.endswith("]") for n in counts):
        raise FinetuneError(
            f"{split.where}: column {source!r} holds lists written as text, such as {next(iter(counts))[:60]}",
            'Write them as lists: jsonl with "label": ["a", "b"], or one 0/1 column a label.',
        )
    names = sorted_names(list(counts))
    _check_classes(split, rows, source, values, names, forced)
    return LabelReader(LabelScheme(SINGLE, names), source, values.kind)


def _hidden_mark(values: Values) -> bool:
    """Tell whether -1 marks hidden labels: it stands among 0, 1, … and no other number is negative.

    Beside 1 alone (a sign) or other negative numbers (a scale) it is a class.
    """
    import pyarrow
    import pyarrow.compute as pc

    if values.kind not in ("integer", "float") or not whole(values):
        return False
    others = values.array.cast(pyarrow.int64(), safe=False).drop_null().unique()
    others = others.filter(pc.not_equal(others, -1))
    return len(others) == 0 or (pc.min(others).as_py() >= 0 and pc.any(pc.equal(others, 0)).as_py())


def _check_classes(
    split: RawSplit, rows: int, source: str, values: Values, names: tuple[str, ...], forced: str
) -> None:
    if not names:
        raise FinetuneError(
            f"{split.where}: column {source!r} holds no label in any row", "Map another column: dataset.columns.label"
        )
    if len(names) == 1:
        raise FinetuneError(
            f"{split.where}: every row has the label {names[0]!r}: nothing to learn",
            "Add rows of another label, or map another column: dataset.columns.label",
        )
    if len(names) > FEW_CLASSES and rows < MIN_ROWS_PER_CLASS * len(names):
        raise FinetuneError(
            f"{split.where}: column {source!r} has {len(names):,} different labels in {plural(rows, 'row')}: ids or "
            f"free text rather than classes (such as {', '.join(map(repr, names[:3]))})",
            "Map another column (dataset.columns.label)"
            + ("" if values.kind == "text" else f", or predict the number: dataset.problem_type: {REGRESSION}"),
        )
    if values.kind == "integer" and len(names) > MAX_INTEGER_CLASSES and forced == "auto":
        raise FinetuneError(
            f"{split.where}: column {source!r} has {len(names):,} different whole numbers: classes or a score?",
            f"Say which: dataset.problem_type: {REGRESSION} or {SINGLE}",
        )


def _set_reader(
    split: RawSplit, table: pyarrow.Table, source: str, forced: str, fixed: tuple[str, ...] | None
) -> LabelReader:
    if forced not in ("auto", MULTI):
        raise FinetuneError(
            f"{split.where}: column {source!r} holds lists of labels, and dataset.problem_type says {forced}",
            f"Leave it out, or say dataset.problem_type: {MULTI}",
        )
    names = names_in_lists(split, table, table.column(label_column(source)), fixed)
    if len(names) < 2:
        raise FinetuneError(
            f"{split.where}: the lists in column {source!r} hold {join_words(map(repr, names)) or 'no label'} only: "
            "nothing to tell apart",
            "Add rows of other labels, or write a single label a row.",
        )
    return LabelReader(LabelScheme(MULTI, names), source, "list", fixed)


def _fixed_ids(split: RawSplit, table: pyarrow.Table, values: Values, names: tuple[str, ...]) -> pyarrow.Array:
    import pyarrow.compute as pc

    ids = pc.if_else(pc.equal(values.array, -1), None, values.array)
    outside = pc.fill_null(pc.or_(pc.less(ids, 0), pc.greater_equal(ids, len(names))), False)
    if pc.any(outside).as_py():
        place = pc.index(outside, True).as_py()
        raise FinetuneError(
            f"{split.place(table.column('row')[place].as_py())}: label {ids[place].as_py()} is none of the "
            f"{len(names)} that the data declares: {_shown(names)}",
            "Correct the row, or the declaration of the column.",
        )
    return ids


def _shown(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names[:12])) + (f" and {len(names) - 12} more" if len(names) > 12 else "")
