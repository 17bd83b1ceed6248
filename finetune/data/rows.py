"""Unlabelled rows for `predict`: files of every format, or lines from a pipe, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from finetune.data.cleaning import texts_by_role
from finetune.data.columns import map_columns
from finetune.data.files import read_file
from finetune.data.json_files import parse_line
from finetune.data.raw import RawSplit, table_from_objects
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from finetune.data.columns import ColumnMap
    from finetune.tasks import Task

BATCH_ROWS = 1024
_PIPE = "stdin"


@dataclass(frozen=True)
class RowBatch:
    """Some rows by role (lists of equal length) and their 1-based numbers in the source.

    `empty` are the numbers of rows without text, which are left out of `rows`.
    """

    rows: dict[str, list[Any]]
    numbers: list[int]
    empty: list[int]


def read_rows(
    source: Path | TextIO,
    task: Task,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    format: str | None = None,
) -> Iterator[RowBatch]:
    """Yield the inputs of a file or an open stream, in batches of up to 1,024 rows.

    A stream is jsonl when its first line begins with `{` (or `format` says so), else plain text, one text a
    line. `columns` maps roles to columns as in a recipe; the others are found by their names. Raises FinetuneError.
    """
    given = {role: name for role, name in (columns or {}).items() if role != task.target}
    roles = [column.role for column in task.columns if column.role != task.target]
    if isinstance(source, Path):
        split = RawSplit("rows", (read_file(source, format),))
        mapped = map_columns(split, task, given, roles).columns
        yield from _batches(split, mapped, 0)
        return
    yield from _stream(source, task, given, roles, format)


def _stream(
    stream: TextIO, task: Task, given: Mapping[str, Any], roles: list[str], format: str | None
) -> Iterator[RowBatch]:
    mapped: ColumnMap | None = None
    as_json = format in ("json", "jsonl") if format else None
    rows: list[dict[str, Any]] = []
    done = 0
    for number, raw in enumerate(stream, start=1):
        line = raw.lstrip("\ufeff") if number == 1 else raw
        if as_json is None and line.strip():
            as_json = line.lstrip().startswith("{")
        if as_json:
            rows.append(parse_line(_PIPE, number, line) if line.strip() else {})
        else:
            rows.append({roles[0]: line.rstrip("\r\n")})
        if len(rows) == BATCH_ROWS:
            mapped, batch = _stream_batch(rows, done, task, given, roles, mapped)
            yield batch
            done, rows = number, []
    if rows:
        yield _stream_batch(rows, done, task, given, roles, mapped)[1]


def _stream_batch(
    rows: list[dict[str, Any]],
    done: int,
    task: Task,
    given: Mapping[str, Any],
    roles: list[str],
    mapped: ColumnMap | None,
) -> tuple[ColumnMap, RowBatch]:
    lines = list(range(done + 1, done + len(rows) + 1))
    split = RawSplit("rows", (table_from_objects(_PIPE, [(rows, lines)]),))
    mapped = mapped or map_columns(split, task, given, roles).columns
    for role, name in mapped.items():
        if name not in split.columns:
            raise FinetuneError(f"{_PIPE}:{done + 1}: no column {name!r} (for {role})", "Write it in every row.")
    return mapped, next(_batches(split, mapped, done))


def _batches(split: RawSplit, mapped: ColumnMap, done: int) -> Iterator[RowBatch]:
    """Yield the mapped columns as texts; numbers count from `done`."""
    table = texts_by_role(split, mapped)
    roles = [name for name in table.column_names if name != "row"]
    for start in range(0, table.num_rows, BATCH_ROWS):
        chunk = table.slice(start, BATCH_ROWS).to_pydict()
        numbers = [done + number for number in chunk["row"]]
        full = [all((chunk[role][i] or "").strip() for role in roles) for i in range(len(numbers))]
        yield RowBatch(
            {role: [value for value, keep in zip(chunk[role], full, strict=True) if keep] for role in roles},
            [number for number, keep in zip(numbers, full, strict=True) if keep],
            [number for number, keep in zip(numbers, full, strict=True) if not keep],
        )
