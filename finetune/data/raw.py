"""Data as it was found: parts (files) with their columns, and where each row stands, to the line."""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune.data.spool import spool, spool_table
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import pyarrow

CHUNK_ROWS = 4096
# The name of the column that holds the line of each row, which is always the first, while a file is read.
LINE = "line"


Piece = tuple["pyarrow.RecordBatch", "pyarrow.Array | None"]  # rows, and the line of each where there are lines
Objects = tuple[list[dict[str, Any]], list[int] | None]  # rows, and the line of each where there are lines


@dataclass(frozen=True)
class Part:
    """One file, or one split of a hub dataset.

    `lines` holds the line on which each row starts, where the format has lines. `untyped` says that every value
    is a string because the format (csv) knows nothing else. `faults` names the columns that cannot be used, and why.
    A streamed part has a `stream`: it yields columns in pieces, each with the lines of its rows; its `rows` is 0 and
    `read` gives its first piece.
    """

    where: str
    types: Mapping[str, pyarrow.DataType]
    rows: int
    read: Callable[[Sequence[str]], pyarrow.Table]
    lines: pyarrow.ChunkedArray | None = None
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    untyped: bool = False
    notes: tuple[str, ...] = ()
    stream: Callable[[Sequence[str]], Iterator[Piece]] | None = None
    load: Callable[[], Part] | None = None  # of a streamed part: reads it whole

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns, in the order of the source, then the texts inside structs (column.field)."""
        from pyarrow import types

        structs = ((name, kind) for name, kind in self.types.items() if types.is_struct(kind))
        inside = (f"{name}.{field.name}" for name, kind in structs for field in kind if _is_text(field.type))
        return tuple(dict.fromkeys((*self.types, *inside)))

    def place(self, index: int) -> str:
        """Return where a row (0-based in this part) stands, in words."""
        if self.lines is None:
            return f"{self.where}: row {index + 1}"
        return _line_place(self.where, index, self.lines[index].as_py())


@dataclass(frozen=True)
class RawSplit:
    """One split as found; several files are read one after the other, and rows are counted through them."""

    name: str
    parts: tuple[Part, ...]

    @property
    def where(self) -> str:
        """Return the file, or the first of the files."""
        more = len(self.parts) - 1
        return self.parts[0].where + (f" (and {more} more)" if more else "")

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns that every file of the split has."""
        others = [set(part.columns) for part in self.parts[1:]]
        return tuple(name for name in self.parts[0].columns if all(name in other for other in others))

    def place(self, row: int) -> str:
        """Return where a row (1-based in the split) stands, in words."""
        index = row - 1
        for part in self.parts:
            if part.stream is not None:
                place, rows = _streamed_place(part, index)
                if place is not None:
                    return place
                index -= rows
                continue
            if index < part.rows:
                return part.place(index)
            index -= part.rows
        raise IndexError(row)

    def read(self, columns: Sequence[str]) -> pyarrow.Table:
        """Return the columns as one table, each under its own name, whatever that is.

        Raises FinetuneError when a column mixes types within a file or between files.
        """
        import pyarrow

        for part in self.parts:
            for name in columns:
                if name in part.faults:
                    raise FinetuneError(part.faults[name], "Give every row of the column the same type.")
        tables = [_plain(_with_fields(part.read(_holders(part, columns)), columns)) for part in self.parts]
        try:
            schema = pyarrow.unify_schemas([table.schema for table in tables], promote_options="permissive")
            return pyarrow.concat_tables([cast_table(table, schema) for table in tables])
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as problem:
            files = ", ".join(part.where for part in self.parts)
            raise FinetuneError(
                f"{self.name}: the files do not agree on the type of a column ({files}): {problem}",
                "Write all files of a split with the same column types.",
            ) from problem

    def pieces(self, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
        """Yield the columns in pieces, file after file, without holding more than one."""
        for part in self.parts:
            if part.stream is None:
                yield from _plain(_with_fields(part.read(_holders(part, columns)), columns)).to_batches()
                continue
            for batch, _ in part.stream(_holders(part, columns)):
                yield _picked(batch, columns)


def _is_text(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind))


def _holders(part: Part, columns: Sequence[str]) -> list[str]:
    """Return the columns of a part in which the wanted ones are, or lie."""
    return list(dict.fromkeys(name if name in part.types else name.rpartition(".")[0] for name in columns))


def _with_fields(rows: Any, columns: Sequence[str]) -> Any:
    """Return the wanted columns of a table, those inside structs taken out of them."""
    import pyarrow

    return pyarrow.table({name: _column(rows, name) for name in columns})


def _column(rows: Any, name: str) -> Any:
    """Return a column of a table or batch, or a field of a struct; null where it has neither."""
    import pyarrow
    import pyarrow.compute as pc

    if name in rows.schema.names:
        return rows.column(name)
    holder, _, field = name.rpartition(".")
    if holder not in rows.schema.names or not pyarrow.types.is_struct(rows.schema.field(holder).type):
        return pyarrow.nulls(rows.num_rows)
    return pc.struct_field(rows.column(holder), field)


def loaded(split: RawSplit) -> RawSplit:
    """Return a split with the files that were opened to be streamed read whole."""
    return RawSplit(split.name, tuple(part.load() if part.load else part for part in split.parts))


def _picked(batch: pyarrow.RecordBatch, columns: Sequence[str]) -> pyarrow.RecordBatch:
    """Return some columns of a piece, without dictionary encoding; a column that it lacks is null."""
    import pyarrow

    arrays = [_column(batch, name) for name in columns]
    plain = [array.dictionary_decode() if pyarrow.types.is_dictionary(array.type) else array for array in arrays]
    return pyarrow.RecordBatch.from_arrays(plain, list(columns))


def _streamed_place(part: Part, index: int) -> tuple[str | None, int]:
    """Return where a row of a streamed part stands, by reading up to it; else None, and how many rows there are."""
    assert part.stream is not None
    done = 0
    for batch, lines in part.stream(part.columns[:1]):
        if index < done + batch.num_rows:
            found = f"{part.where}: row {index + 1}"
            return found if lines is None else _line_place(part.where, index, lines[index - done].as_py()), 0
        done += batch.num_rows
    return None, done


def _line_place(where: str, index: int, line: int) -> str:
    return f"{where}:{line}" if line == index + 1 else f"{where}:{line} (row {index + 1})"


def _plain(table: pyarrow.Table) -> pyarrow.Table:
    """Undo dictionary encoding (pandas' categories) and drop library metadata, so that files can be joined."""
    import pyarrow

    types = [field.type.value_type if pyarrow.types.is_dictionary(field.type) else field.type for field in table.schema]
    plain = pyarrow.schema([pyarrow.field(name, kind) for name, kind in zip(table.column_names, types, strict=True)])
    return cast_table(table, plain)


def cast_table(table: pyarrow.Table, schema: pyarrow.Schema, safe: bool = True) -> pyarrow.Table:
    """Return a table with other column types, converted piece by piece where they differ."""
    import pyarrow

    if table.schema.types == schema.types:
        return pyarrow.table(table.columns, schema=schema)
    batches = (
        pyarrow.RecordBatch.from_arrays(
            [
                column if column.type == field.type else column.cast(field.type, safe=safe)
                for column, field in zip(batch.columns, schema, strict=True)
            ],
            schema=schema,
        )
        for batch in table.to_batches()
    )
    return spool_table(batches, schema)


def memory_part(where: str, table: pyarrow.Table, **rest: Any) -> Part:
    """Return a part whose columns are there already, in memory or mapped."""
    types = {field.name: field.type for field in table.schema}
    return Part(where, types, table.num_rows, lambda columns: table.select(list(columns)), **rest)


def part_with_lines(where: str, batches: Sequence[pyarrow.RecordBatch], **rest: Any) -> Part:
    """Return a part from pieces of one schema whose first column is LINE."""
    import pyarrow

    table = pyarrow.Table.from_batches(batches)
    return memory_part(where, table.remove_column(0), lines=table.column(0), **rest)


def class_names(features: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the label names by column, out of datasets' features in their JSON form."""
    named = {}
    for column, feature in features.items():
        inner = feature.get("feature", feature) if isinstance(feature, dict) else {}
        if isinstance(inner, dict) and inner.get("_type") == "ClassLabel":
            named[column] = tuple(inner["names"])
    return named


def schema_class_names(schema: pyarrow.Schema) -> dict[str, tuple[str, ...]]:
    """Return the label names that datasets left in the metadata of a parquet or Arrow file."""
    stored = (schema.metadata or {}).get(b"huggingface")
    if stored is None:
        return {}
    return class_names(json.loads(stored).get("info", {}).get("features") or {})


def table_from_objects(where: str, chunks: Iterable[Objects], notes: Sequence[str] = ()) -> Part:
    """Gather JSON objects, chunk by chunk, into a table whose columns are the union of their keys.

    A column that mixes types is kept as a fault, with the row, and only matters when it is used.
    """
    import pyarrow

    faults: dict[str, tuple[int, str]] = {}
    batches = spool(object_batches(chunks, faults))
    names = list(dict.fromkeys(name for batch in batches for name in batch.schema.names[1:]))
    types: dict[str, pyarrow.DataType] = {}
    for name in names:
        types[name], fault = _join(name, batches)
        if fault is not None:
            faults[name] = min(fault, faults.get(name, fault))
    schema = pyarrow.schema([(LINE, pyarrow.int64()), *types.items()])
    if any(batch.schema != schema for batch in batches):
        batches = spool(_unified(batch, schema) for batch in batches)
    table = pyarrow.Table.from_batches(batches, schema)
    has_lines = table.num_rows > 0 and table.column(0)[0].is_valid
    part = memory_part(where, table.remove_column(0), lines=table.column(0) if has_lines else None, notes=tuple(notes))
    said = {
        name: f"{part.place(index)}: column {name!r} {problem}" for name, (index, problem) in sorted(faults.items())
    }
    return Part(**{**vars(part), "faults": said})


def object_batches(chunks: Iterable[Objects], faults: dict[str, tuple[int, str]]) -> Iterator[pyarrow.RecordBatch]:
    """Yield JSON objects as record batches, each with the columns known by then; the first column is LINE.

    `faults` gathers (row, what is wrong) for the columns of which a chunk fits no type; that chunk then holds nulls.
    """
    import pyarrow

    kinds: dict[str, str | None] = {}
    total = 0
    for rows, lines in chunks:
        kinds |= {name: None for row in rows for name in row if name not in kinds}
        arrays = [pyarrow.array(lines, pyarrow.int64()) if lines else pyarrow.nulls(len(rows), pyarrow.int64())]
        for name, kind in kinds.items():
            values = [row.get(name) for row in rows]
            if kind is None and (first := next((value for value in values if value is not None), None)) is not None:
                kinds[name] = kind = _kind(first)
            array, fault = _to_array(values, kind)
            if fault is not None:
                faults.setdefault(name, (total + fault[0], fault[1]))
            arrays.append(array)
        yield pyarrow.RecordBatch.from_arrays(arrays, [LINE, *kinds])
        total += len(rows)


def _unified(batch: pyarrow.RecordBatch, schema: pyarrow.Schema) -> pyarrow.RecordBatch:
    """Return a batch with the columns and types of the whole file; what it lacks, or what fits no type, is null."""
    import pyarrow

    arrays = [batch.column(0)]
    have = {name: place for place, name in enumerate(batch.schema.names) if place}
    for wanted in list(schema)[1:]:
        column = batch.column(have[wanted.name]) if wanted.name in have else None
        if column is None or (pyarrow.types.is_null(wanted.type) and not pyarrow.types.is_null(column.type)):
            column = pyarrow.nulls(batch.num_rows, wanted.type)
        arrays.append(column.cast(wanted.type, safe=False))
    return pyarrow.RecordBatch.from_arrays(arrays, schema=schema)


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return names[type(value)]


def _to_array(values: list[Any], kind: str | None) -> tuple[pyarrow.Array, tuple[int, str] | None]:
    """Convert one chunk of a column that began with `kind`; on failure return nulls and (index, what is wrong)."""
    import pyarrow

    try:
        return pyarrow.array(values), None
    except UnicodeEncodeError:
        halves = range(0xD800, 0xE000)
        bad = next(i for i, v in enumerate(values) if isinstance(v, str) and any(ord(part) in halves for part in v))
        return pyarrow.nulls(len(values)), (bad, "holds half of a surrogate pair, which is no character")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        if {_kind(value) for value in values if value is not None} == {"number"} and kind == "number":
            return pyarrow.array([None if value is None else _as_float(value) for value in values]), None
        return pyarrow.nulls(len(values)), _first_mismatch(values, kind)


def _as_float(value: float) -> float:
    # JSON allows numbers that no float reaches; they are refused later, as infinite.
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _first_mismatch(values: list[Any], first: str | None) -> tuple[int, str]:
    kinds = [(index, _kind(value)) for index, value in enumerate(values) if value is not None]
    for index, kind in kinds:
        if kind != first:
            return index, f"holds a {kind} ({_short(values[index])}) where earlier rows hold a {first}"
    place = bisect_left(range(len(values)), True, key=lambda last: not _fit_one_type(values[: last + 1]))
    return place, f"holds values that do not fit one type (such as {_short(values[place])})"


def _fit_one_type(values: list[Any]) -> bool:
    import pyarrow

    try:
        pyarrow.array(values)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        return False
    return True


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except RecursionError:
        return "nested very deep"
    return text if len(text) <= 40 else text[:37] + "…"


def _join(name: str, batches: Sequence[pyarrow.RecordBatch]) -> tuple[pyarrow.DataType, tuple[int, str] | None]:
    """Return the type of a column that all batches fit; without one null, and (row, what is wrong)."""
    import pyarrow

    target = pyarrow.null()
    start = 0
    for batch in batches:
        place = next((i for i, found in enumerate(batch.schema.names) if i and found == name), None)
        kind = pyarrow.null() if place is None else batch.schema.types[place]
        if kind != target and not pyarrow.types.is_null(kind):
            wider = kind if pyarrow.types.is_null(target) else _common_type(target, kind)
            if wider is None:
                index, value = next((i, value) for i, value in enumerate(batch.column(place)) if value.is_valid)
                problem = f"holds a {kind} ({value.as_py()!r}) where earlier rows hold a {target}"
                return pyarrow.null(), (start + index, problem)
            target = wider
        start += batch.num_rows
    return target, None


def _common_type(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType | None:
    import pyarrow

    fields = [pyarrow.schema([pyarrow.field("c", kind)]) for kind in (one, other)]
    try:
        return pyarrow.unify_schemas(fields, promote_options="permissive").field("c").type
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return None
