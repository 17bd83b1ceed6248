"""Unlabelled rows for `predict`: files of every format, or lines from a pipe, batch by batch."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from finetune.data.cleaning import inputs_by_role
from finetune.data.columns import choose_form, map_columns
from finetune.data.files import read_file
from finetune.data.json_files import parse_line
from finetune.data.kinds import KINDS
from finetune.data.pipe import PATIENCE_S, PIPE, Lines, open_lines
from finetune.data.raw import RawSplit, table_from_objects
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from finetune.tasks import Task

FILE_BATCH_ROWS = 1024  # enough to sort by length
PIPE_BATCH_ROWS = 64


@dataclass(frozen=True)
class RowSource:
    """Where rows come from, read as far as it takes to know the columns.

    `split` is the file, or the first row of a pipe; `lines` the pipe. `total` is None for a pipe.
    """

    split: RawSplit
    lines: Lines | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the columns; of a pipe those of its first row."""
        return self.split.columns

    @property
    def total(self) -> int | None:
        """Return the number of rows, where it is known before the end."""
        return sum(part.rows for part in self.split.parts) if self.lines is None else None


@dataclass(frozen=True)
class RowBatch:
    """Some rows by role (lists of equal length) and their 1-based numbers in the source.

    `empty` are the numbers of rows without text, which are left out of `rows`. `notes` says how the source was read;
    only the first batch has any.
    """

    rows: dict[str, list[Any]]
    numbers: list[int]
    empty: list[int]
    notes: tuple[str, ...] = ()


def open_rows(source: Path | TextIO) -> RowSource:
    """Open a file, or a stream: jsonl when its first line begins with `{`, else one text a line.

    Raises FinetuneError when it cannot be read.
    """
    if isinstance(source, Path):
        return RowSource(RawSplit("rows", (read_file(source),)))
    lines = open_lines(source)
    row = {"text": ""} if lines.first is None else lines.first
    return RowSource(RawSplit("rows", (table_from_objects(PIPE, [([row], None)]),)), lines)


def read_rows(
    source: RowSource,
    task: Task,
    columns: Mapping[str, str | Sequence[str]] | None = None,
    pipe_batch_rows: int = PIPE_BATCH_ROWS,
    file_batch_rows: int = FILE_BATCH_ROWS,
) -> Iterator[RowBatch]:
    """Yield the inputs: of a file in batches of up to `file_batch_rows`, of a pipe of up to `pipe_batch_rows`.

    The first batch of a file is as small as one of a pipe, so that its answers come soon. A row of a pipe waits for
    others for half a second at most. `columns` maps roles to columns as in a recipe; the others are found by their
    names, in a pipe by those of its first row. Raises FinetuneError.
    """
    roles = [column.role for column in task.all_inputs]
    given = {role: name for role, name in (columns or {}).items() if role in roles}
    task = choose_form(source.split, without_target(task), given)
    mapped = map_columns(source.split, task, given)
    # Only the target may be several columns.
    names = {role: name for role, name in mapped.columns.items() if isinstance(name, str)}
    if source.lines is None:
        yield from _of_file(source.split, names, task, mapped.notes, (pipe_batch_rows, file_batch_rows))
    else:
        yield from _of_pipe(source.lines, names, task, mapped.notes, pipe_batch_rows)


def without_target(task: Task) -> Task:
    """Return a task with the columns that its model reads, in every form."""
    forms = tuple(tuple(column for column in form if not column.target) for form in task.forms)
    return replace(task, columns=task.inputs, forms=forms)


def _of_file(
    split: RawSplit, names: dict[str, str], task: Task, found: tuple[str, ...], sizes: tuple[int, int]
) -> Iterator[RowBatch]:
    table, said = inputs_by_role(split, dict(names), task)
    notes = (*(note for part in split.parts for note in part.notes), *found, *said)
    start, size = 0, min(sizes)
    while start < table.num_rows:
        chunk = table.slice(start, size).to_pydict()
        numbers = chunk.pop("row")
        yield _batch(chunk, numbers, notes if start == 0 else ())
        start, size = start + size, sizes[1]


def _of_pipe(lines: Lines, names: dict[str, str], task: Task, notes: tuple[str, ...], limit: int) -> Iterator[RowBatch]:
    texts: dict[str, list[Any]] = {role: [] for role in names}
    numbers: list[int] = []
    first_came = 0.0
    for entry in lines.lines:
        if entry is not None:
            number, line = entry
            first_came = first_came if numbers else time.monotonic()
            row = {"text": line}
            if lines.as_json:
                row = parse_line(PIPE, number, line) if line.strip() else {}
            for role, name in names.items():
                read = _READERS.get(task.column(role).kind, _texts)
                texts[role].append(read(_value(row, name), number, f"column {name!r} (for {role})"))
            numbers.append(number)
        waited = entry is None or time.monotonic() - first_came >= PATIENCE_S
        if numbers and (waited or len(numbers) >= limit):
            yield _batch(texts, numbers, notes)
            texts, numbers, notes = {role: [] for role in names}, [], ()
    if numbers:
        yield _batch(texts, numbers, notes)


def _value(row: dict[str, Any], name: str) -> Any:
    """Return a value of a JSON row, or one inside an object of it (translation.en)."""
    holder, dot, field = name.rpartition(".")
    inner = row.get(holder) if dot and name not in row else None
    return inner.get(field) if isinstance(inner, dict) else row.get(name)


def _text(value: Any, number: int, shown: str) -> str:
    """Return a value of a JSON row as text, row by row alike, however they come: nothing is empty, a number written."""
    if isinstance(value, str):
        if any(0xD800 <= ord(character) <= 0xDFFF for character in value):
            raise FinetuneError(
                f"{PIPE}:{number}: {shown} holds half of a surrogate pair, which is no character", "Mend the text."
            )
        return value
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    kind = {bool: "a boolean", list: "a list"}.get(type(value), "an object")
    raise FinetuneError(f"{PIPE}:{number}: {shown} holds no text but {kind}", "Write texts as strings.")


def _texts(value: Any, number: int, shown: str) -> list[str]:
    """Return a value of a JSON row as a list of texts."""
    if isinstance(value, dict) and "text" in value:  # choices in ARC's form
        value = value["text"]
    if value is None:
        return []
    if not isinstance(value, list):
        raise FinetuneError(f"{PIPE}:{number}: {shown} holds no list of texts", 'Write a list: ["a", "b"].')
    return [_text(item, number, shown) for item in value]


def _messages(value: Any, number: int, shown: str) -> list[dict[str, str]]:
    """Return a value of a JSON row as the messages of a conversation."""
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise FinetuneError(f"{PIPE}:{number}: {shown} holds no messages", KINDS["messages"].remedy)
    return [{name: _text(message.get(name), number, shown) for name in ("role", "content")} for message in value]


_READERS = {"text": _text, "messages": _messages}


def _batch(texts: Mapping[str, list[Any]], numbers: list[int], notes: tuple[str, ...]) -> RowBatch:
    full = [all(_is_there(values[i]) for values in texts.values()) for i in range(len(numbers))]
    return RowBatch(
        {role: [value for value, keep in zip(values, full, strict=True) if keep] for role, values in texts.items()},
        [number for number, keep in zip(numbers, full, strict=True) if keep],
        [number for number, keep in zip(numbers, full, strict=True) if not keep],
        notes,
    )


def _is_there(value: Any) -> bool:
    return bool(value.strip() if isinstance(value, str) else value)
