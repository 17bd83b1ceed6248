"""Several labels a row: lists of labels, lists of 0/1, or one 0/1 column a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.data.cleaning import label_column
from finetune.data.label_values import names_of, read_values, sorted_names
from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy
    import pyarrow

    from finetune.data.raw import RawSplit


def flags_from_columns(split: RawSplit, table: pyarrow.Table, source: Sequence[str]) -> pyarrow.Array:
    """Return one list of 0/1 (float32) a row from 0/1 columns; null where a value is missing or all are -1.

    Raises FinetuneError at the first value that is neither 0 nor 1.
    """
    import numpy

    untyped = any(part.untyped for part in split.parts)
    flags = numpy.empty((table.num_rows, len(source)), dtype=numpy.float64)
    for place, name in enumerate(source):
        flags[:, place] = _flag_numbers(split, table, name, untyped)
    hidden = (flags == -1).all(axis=1) | numpy.isnan(flags).any(axis=1)
    wrong = ~numpy.isin(flags, (0.0, 1.0)) & ~hidden[:, None]
    if wrong.any():
        row, column = (int(index) for index in numpy.argwhere(wrong)[0])
        raise FinetuneError(
            f"{split.place(table.column('row')[row].as_py())}: column {source[column]!r} holds {flags[row, column]:g}, "
            f"where 0 or 1 is meant ({plural(int(wrong.sum()), 'such value')})",
            "Turn votes or scores into 0 and 1 first.",
        )
    return _to_lists(flags, hidden)


def names_in_lists(
    split: RawSplit, table: pyarrow.Table, column: pyarrow.ChunkedArray, fixed: tuple[str, ...] | None
) -> tuple[str, ...]:
    """Return the labels that the lists hold, sorted; for lists of 0/1 of one length their places 0, 1, …."""
    if fixed is not None:
        return fixed
    width = _flag_width(column)
    if width is not None:
        return tuple(str(place) for place in range(width))
    names = _list_names(split, table, column)
    return sorted_names([name for name in names.unique().to_pylist() if name is not None])


def flags_from_lists(
    split: RawSplit,
    table: pyarrow.Table,
    column: pyarrow.ChunkedArray,
    fixed: tuple[str, ...] | None,
    names: tuple[str, ...],
) -> pyarrow.Array:
    """Return one list of 0/1 (float32) a row; an empty list has no label, null is missing.

    Raises FinetuneError at a label that train does not have.
    """
    import numpy
    import pyarrow
    import pyarrow.compute as pc

    array = column.combine_chunks()
    hidden = array.is_null().to_numpy(zero_copy_only=False)
    flags = numpy.zeros((len(array), len(names)))
    width = _flag_width(column) if fixed is None else None
    if width is not None and names == tuple(str(place) for place in range(width)):
        values = pc.list_flatten(array).cast(pyarrow.float64()).to_numpy(zero_copy_only=False)
        flags[~hidden] = values.reshape(-1, width)
        return _to_lists(flags, hidden)
    rows = pc.list_parent_indices(array).to_numpy(zero_copy_only=False)
    found = _list_names(split, table, column) if fixed is None else _fixed_list_names(column, fixed)
    ids = pc.index_in(found, value_set=pyarrow.array(names, pyarrow.large_string()))
    if ids.null_count:
        place = pc.index(ids.is_null(), True).as_py()
        label = found[place].as_py()
        count = pc.sum(pc.equal(found, label)).as_py()
        raise FinetuneError(
            f"{split.place(table.column('row')[int(rows[place])].as_py())}: label {label!r} does not occur in train "
            f"({plural(count or 1, 'time')} in split {split.name})",
            "Correct the label, add rows of it to train, or remove these rows.",
        )
    flags[rows, ids.to_numpy()] = 1.0
    return _to_lists(flags, hidden)


def _flag_numbers(split: RawSplit, table: pyarrow.Table, name: str, untyped: bool) -> numpy.ndarray:
    import numpy
    import pyarrow

    values = read_values(table.column(label_column(name)), untyped)
    if values.kind == "text" and values.array.null_count < len(values.array):
        place = next(index for index, value in enumerate(values.array) if value.is_valid)
        raise FinetuneError(
            f"{split.place(table.column('row')[place].as_py())}: column {name!r} holds "
            f"{values.array[place].as_py()[:40]!r}, where 0 or 1 is meant",
            "List only the 0/1 columns in dataset.columns.label.",
        )
    if values.kind == "text":
        return numpy.full(len(values.array), numpy.nan)
    numbers = values.array.cast(pyarrow.int8()) if values.kind == "boolean" else values.array
    return numpy.asarray(numbers.cast(pyarrow.float64()).to_numpy(zero_copy_only=False))


def _flag_width(column: pyarrow.ChunkedArray) -> int | None:
    """Return the common length of lists that hold 0 and 1 only, which are flags and not ids; None otherwise."""
    import pyarrow
    import pyarrow.compute as pc
    from pyarrow import types

    kind = column.type.value_type
    if not (types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)):
        return None
    lengths = pc.list_value_length(column).unique().drop_null().to_pylist()
    if len(lengths) != 1 or lengths[0] < 2:
        return None
    flat = pc.list_flatten(column).cast(pyarrow.int8() if types.is_boolean(kind) else kind).cast(pyarrow.float64())
    return int(lengths[0]) if set(flat.unique().to_pylist()) <= {0.0, 1.0} else None


def _list_names(split: RawSplit, table: pyarrow.Table, column: pyarrow.ChunkedArray) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as pc
    from pyarrow import types

    flat = pc.list_flatten(column)
    values = flat if isinstance(flat, pyarrow.ChunkedArray) else pyarrow.chunked_array([flat])
    readable = types.is_string(values.type) or types.is_large_string(values.type) or types.is_integer(values.type)
    if not (readable or types.is_boolean(values.type) or types.is_null(values.type)):
        raise FinetuneError(
            f"{split.where}: the label lists hold {values.type}, where labels or 0 and 1 are meant",
            "Write lists of labels, or lists of 0 and 1 of one length.",
        )
    names = names_of(read_values(values, untyped=False))
    if names.null_count:
        rows = pc.list_parent_indices(column.combine_chunks())
        place = rows[pc.index(names.is_null(), True).as_py()].as_py()
        raise FinetuneError(
            f"{split.place(table.column('row')[place].as_py())}: the list of labels holds an empty one",
            "Remove it from the list.",
        )
    return names


def _fixed_list_names(column: pyarrow.ChunkedArray, fixed: tuple[str, ...]) -> pyarrow.Array:
    import pyarrow
    import pyarrow.compute as pc

    ids = pc.list_flatten(column.combine_chunks())
    return pyarrow.array(
        [fixed[i] if i is not None and 0 <= i < len(fixed) else str(i) for i in ids.to_pylist()], pyarrow.large_string()
    )


def _to_lists(flags: numpy.ndarray, hidden: numpy.ndarray) -> pyarrow.Array:
    import numpy
    import pyarrow

    rows, width = flags.shape
    offsets = pyarrow.array(numpy.arange(rows + 1, dtype=numpy.int64) * width)
    values = pyarrow.array(numpy.nan_to_num(flags).astype(numpy.float32).ravel())
    lists = pyarrow.LargeListArray.from_arrays(offsets, values, mask=pyarrow.array(hidden))
    return lists.cast(pyarrow.list_(pyarrow.float32())) if lists.nbytes < 2**31 else lists
