"""Data as it was found: parts (files) with their columns, and where each row stands, to the line."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import pyarrow

CHUNK_ROWS = 4096


@dataclass(frozen=True)
class Part:
    """One file, or one split of a hub dataset.

    `lines` holds the line on which each row starts, where the format has lines. `untyped` says that every value
    is a string because the format (csv) knows nothing else. `faults` names the columns that cannot be used, and why.
    """

    where: str
    types: Mapping[str, pyarrow.DataType]
    rows: int
    read: Callable[[Sequence[str]], pyarrow.Table]
    lines: pyarrow.Array | None = None
    class_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    faults: Mapping[str, str] = field(default_factory=dict)
    untyped: bool = False
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns, in the order of the source."""
        return tuple(self.types)

    def place(self, index: int) -> str:
        """Return where a row (0-based in this part) stands, in words."""
        if self.lines is None:
            return f"{self.where}: row {index + 1}"
        line = self.lines[index].as_py()
        return f"{self.where}:{line}" if line == index + 1 else f"{self.where}:{line} (row {index + 1})"


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
        tables = [_plain(part.read(columns)) for part in self.parts]
        try:
            return pyarrow.concat_tables(tables, promote_options="permissive")
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as problem:
            files = ", ".join(part.where for part in self.parts)
            raise FinetuneError(
                f"{self.name}: the files do not agree on the type of a column ({files}): {problem}",
                "Write all files of a split with the same column types.",
            ) from problem


def _plain(table: pyarrow.Table) -> pyarrow.Table:
    """Undo dictionary encoding (pandas' categories) and drop library metadata, so that files can be joined."""
    import pyarrow

    columns = []
    for column in table.columns:
        if pyarrow.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        columns.append(column)
    return pyarrow.table(columns, names=table.column_names)


def memory_part(where: str, table: pyarrow.Table, **rest: Any) -> Part:
    """Return a part whose columns are already in memory."""
    types = {field.name: field.type for field in table.schema}
    return Part(where, types, table.num_rows, lambda columns: table.select(list(columns)), **rest)


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


def table_from_objects(
    where: str, chunks: Iterable[tuple[list[dict[str, Any]], list[int] | None]], notes: Sequence[str] = ()
) -> Part:
    """Gather JSON objects, chunk by chunk, into a table whose columns are the union of their keys.

    A column that mixes types is kept as a fault, with the row, and only matters when it is used.
    """
    import pyarrow

    arrays: dict[str, list[pyarrow.Array]] = {}
    faults: dict[str, tuple[int, str]] = {}
    kinds: dict[str, str] = {}
    line_chunks: list[pyarrow.Array] = []
    total = 0
    for rows, lines in chunks:
        for name in dict.fromkeys(name for row in rows for name in row):
            arrays.setdefault(name, [pyarrow.nulls(total)])
        for name, found in arrays.items():
            values = [row.get(name) for row in rows]
            if (
                name not in kinds
                and (first := next((value for value in values if value is not None), None)) is not None
            ):
                kinds[name] = _kind(first)
            array, fault = _to_array(values, kinds.get(name))
            if fault is not None:
                faults.setdefault(name, (total + fault[0], fault[1]))
            found.append(array)
        if lines is not None:
            line_chunks.append(pyarrow.array(lines, pyarrow.int64()))
        total += len(rows)
    columns = {}
    for name, found in arrays.items():
        column, fault = _join(found)
        if fault is not None:
            faults[name] = min(fault, faults.get(name, fault))
        columns[name] = column
    lines_array = pyarrow.concat_arrays(line_chunks) if line_chunks else None
    part = memory_part(where, pyarrow.table(columns), lines=lines_array, notes=tuple(notes))
    said = {
        name: f"{part.place(index)}: column {name!r} {problem}" for name, (index, problem) in sorted(faults.items())
    }
    return Part(**{**vars(part), "faults": said})


def _kind(value: Any) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "text", list: "list", dict: "object"}
    return names[type(value)]


def _to_array(values: list[Any], kind: str | None) -> tuple[pyarrow.Array, tuple[int, str] | None]:
    """Convert one chunk of a column that began with `kind`; on failure return nulls and (index, what is wrong)."""
    import pyarrow

    try:
        return pyarrow.array(values), None
    except UnicodeEncodeError:
        bad = next(i for i, value in enumerate(values) if isinstance(value, str) and not _encodes(value))
        return pyarrow.nulls(len(values)), (bad, "holds half of a surrogate pair, which is no character")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError):
        if {_kind(value) for value in values if value is not None} == {"number"} and kind == "number":
            return pyarrow.array([None if value is None else _as_float(value) for value in values]), None
        return pyarrow.nulls(len(values)), _first_mismatch(values, kind)


def _encodes(value: str) -> bool:
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in value)


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
    return kinds[0][0], f"holds values that do not fit one type (such as {_short(values[kinds[0][0]])})"


def _short(value: Any) -> str:
    try:
        text = json.dumps(value, ensure_ascii=True)
    except RecursionError:
        return "nested very deep"
    return text if len(text) <= 40 else text[:37] + "…"


def _join(chunks: list[pyarrow.Array]) -> tuple[pyarrow.ChunkedArray, tuple[int, str] | None]:
    import pyarrow

    real = [chunk.type for chunk in chunks if not pyarrow.types.is_null(chunk.type)]
    rows = sum(len(chunk) for chunk in chunks)
    if not real:
        return pyarrow.chunked_array([pyarrow.nulls(rows)]), None
    target = real[0]
    for kind in real[1:]:
        wider = _common_type(target, kind)
        if wider is None:
            index, chunk = _first_of_type(chunks, kind)
            problem = f"holds a {kind} ({chunk.as_py()!r}) where earlier rows hold a {target}"
            return pyarrow.chunked_array([pyarrow.nulls(rows)]), (index, problem)
        target = wider
    return pyarrow.chunked_array([chunk.cast(target, safe=False) for chunk in chunks], target), None


def _common_type(one: pyarrow.DataType, other: pyarrow.DataType) -> pyarrow.DataType | None:
    import pyarrow

    fields = [pyarrow.schema([pyarrow.field("c", kind)]) for kind in (one, other)]
    try:
        return pyarrow.unify_schemas(fields, promote_options="permissive").field("c").type
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
        return None


def _first_of_type(chunks: list[pyarrow.Array], kind: pyarrow.DataType) -> tuple[int, Any]:
    start = 0
    for chunk in chunks:
        if chunk.type == kind:
            for index, value in enumerate(chunk):
                if value.is_valid:
                    return start + index, value
        start += len(chunk)
    raise AssertionError(kind)
