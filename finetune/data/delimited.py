"""Read csv and tsv with care: exact row and line numbers, and no row swallowed by a lone quote."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from finetune.data.raw import CHUNK_ROWS, Part, memory_part
from finetune.data.text_files import open_text, read_error
from finetune.errors import FinetuneError
from finetune.text import join_words, plural

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    import pyarrow

_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
# A quoted field over this many lines of which nearly all look like rows is no text that someone wrote.
_LONG_SPAN_LINES = 20


@dataclass(frozen=True)
class Record:
    """One row: its fields, the line on which it starts, and its physical lines when there are several."""

    fields: list[str]
    line: int
    lines: tuple[str, ...] = ()


class _QuoteTroubleError(Exception):
    """A quote does not close where it should; carries the line on which the row starts."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@dataclass
class _Gathered:
    """What reading a file leaves: chunks of columns, the line of each row, rows to look at again."""

    chunks: list[list[pyarrow.Array]] = field(default_factory=list)
    lines: list[pyarrow.Array] = field(default_factory=list)
    suspects: list[tuple[Record, int]] = field(default_factory=list)
    rows: int = 0


def read_delimited(path: Path, delimiter: str) -> Part:
    """Read a csv (`,`) or tsv (tab) file with a header into columns of strings.

    Another delimiter than the ending says is recognised by the header, with a note. Raises FinetuneError with
    file and line: duplicate or missing header, rows with too many or too few fields, unclosed quotes, no rows.
    """
    delimiter, notes = find_delimiter(path, delimiter)
    try:
        names, gathered = _gather(path, delimiter, quoting=True)
    except _QuoteTroubleError as trouble:
        unquoted = _without_quoting(path) if delimiter == "\t" else None
        if unquoted is None:
            raise _quote_error(path, trouble) from trouble
        names, gathered = unquoted
        notes = (*notes, f"{path.name}: quotes were taken as letters, since they do not pair up.")
    return _to_part(path, names, gathered, notes)


def find_delimiter(path: Path, expected: str) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter that the header is written with, and notes (its encoding, another delimiter)."""
    file, notes = open_text(path)
    with file:
        header = next((line for line in file if line.strip()), "")
    if expected in header:
        return expected, notes
    for delimiter, name in _DELIMITERS.items():
        if delimiter in header:
            return delimiter, (*notes, f"{path.name} is separated by {name}, whatever its ending; it was read so.")
    return expected, notes


def _without_quoting(path: Path) -> tuple[list[str], _Gathered] | None:
    """Read a tsv with quotes as letters, which is how many tools write it; None when that does not fit either."""
    try:
        return _gather(path, "\t", quoting=False)
    except FinetuneError:
        return None


def _gather(path: Path, delimiter: str, quoting: bool) -> tuple[list[str], _Gathered]:
    import pyarrow

    gathered = _Gathered()
    file, _ = open_text(path)
    with file:
        try:
            records = _records(file, delimiter, quoting)
            header = next(records, None)
            if header is None:
                raise FinetuneError(f"{path}: the file is empty", "Point to the file that holds the data.")
            names = _checked_header(path, header)
            chunk: list[Record] = []
            for record in records:
                _check_width(path, record, names)
                gathered.rows += 1
                if _row_like_lines(record, delimiter, len(names)):
                    gathered.suspects.append((record, gathered.rows))
                chunk.append(Record(record.fields, record.line))
                if len(chunk) == CHUNK_ROWS:
                    _add_chunk(gathered, chunk)
                    chunk = []
            _add_chunk(gathered, chunk)
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem
    if gathered.rows == 0:
        raise FinetuneError(f"{path}: holds a header and no rows", "Point to the file that holds the data.")
    columns = [pyarrow.chunked_array([chunk[i] for chunk in gathered.chunks]) for i in range(len(names))]
    _check_swallowed(path, gathered.suspects, columns, delimiter)
    return names, gathered


def _add_chunk(gathered: _Gathered, chunk: list[Record]) -> None:
    import pyarrow

    if chunk:
        columns = zip(*(record.fields for record in chunk), strict=True)
        gathered.chunks.append([pyarrow.array(column, pyarrow.string()) for column in columns])
        gathered.lines.append(pyarrow.array([record.line for record in chunk], pyarrow.int64()))


def _to_part(path: Path, names: list[str], gathered: _Gathered, notes: tuple[str, ...]) -> Part:
    import pyarrow

    columns = [pyarrow.chunked_array([chunk[i] for chunk in gathered.chunks]) for i in range(len(names))]
    lines = pyarrow.concat_arrays(gathered.lines)
    # Rows are counted without the header; the line is what an editor shows.
    return memory_part(str(path), pyarrow.table(columns, names=names), lines=lines, untyped=True, notes=notes)


def _records(file: TextIO, delimiter: str, quoting: bool) -> Iterator[Record]:
    held: list[str] = []

    def hold() -> Iterator[str]:
        for line in file:
            held.append(line)
            yield line

    csv.field_size_limit(sys.maxsize)  # a document may be longer than the 131,072 characters that csv allows
    if quoting:
        reader = csv.reader(hold(), delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(hold(), delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    line = 1
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as problem:
            raise _QuoteTroubleError(line, str(problem)) from problem
        if fields is None:
            return
        if any(field.strip() for field in fields) or len(fields) > 1:
            yield Record(fields, line, tuple(held) if len(held) > 1 else ())
        held.clear()
        line = reader.line_num + 1


def _checked_header(path: Path, record: Record) -> list[str]:
    names = [name.strip() or f"unnamed_{index}" for index, name in enumerate(record.fields, start=1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FinetuneError(
            f"{path}:{record.line}: the header names {join_words(map(repr, twice), 'and')} more than once",
            "Rename one of them; if the first line is no header, put one above it.",
        )
    return names


def _check_width(path: Path, record: Record, names: list[str]) -> None:
    if len(record.fields) == len(names):
        return
    kind = "too many" if len(record.fields) > len(names) else "too few"
    raise FinetuneError(
        f"{path}:{record.line}: {plural(len(record.fields), 'field')}, {kind}: the header has {len(names)} "
        f"({', '.join(names[:8])})",
        "Put quotes around fields that hold the delimiter." if kind == "too many" else "Complete or remove the line.",
    )


def _quote_error(path: Path, trouble: _QuoteTroubleError) -> FinetuneError:
    return FinetuneError(
        f"{path}:{trouble.line}: a quote opens in this row and does not close as it should ({trouble})",
        'Close the quote, and write a quote inside a quoted field twice: "she said ""yes""".',
    )


def _row_like_lines(record: Record, delimiter: str, width: int) -> list[tuple[int, list[str]]]:
    """Return the lines inside a quoted field that read like whole rows, as (first trustworthy field, fields).

    The last line is left out: it ends like a row in any case. On the first line only the fields after the
    opening quote tell something.
    """
    found = []
    for number, line in enumerate(record.lines[:-1]):
        fields = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, quoting=csv.QUOTE_NONE), [])
        if len(fields) == width > 1:
            opening = next((i for i, value in enumerate(fields) if value.startswith('"')), -1)
            found.append((opening + 1 if number == 0 else 0, fields))
    return found


def _check_swallowed(
    path: Path, suspects: list[tuple[Record, int]], columns: list[pyarrow.ChunkedArray], delimiter: str
) -> None:
    """Refuse rows whose quoted field holds what look like further rows: a lone quote has swallowed them."""
    if not suspects:
        return
    known = [_few_values(column, {row for _, row in suspects}) for column in columns]
    for record, row in suspects:
        lines = _row_like_lines(record, delimiter, len(columns))
        many = len(record.lines) > _LONG_SPAN_LINES and len(lines) > 0.9 * (len(record.lines) - 1)
        if many or any(fields[i].strip('"') in known[i] for first, fields in lines for i in range(first, len(fields))):
            raise FinetuneError(
                f"{path}:{record.line}: row {row} runs over {len(record.lines)} lines, and its lines look like rows "
                "of their own: a lone quote has swallowed them",
                "Close the quote, or write it twice where it is meant as a letter.",
            )


def _few_values(column: pyarrow.ChunkedArray, without: set[int]) -> set[str]:
    """Return the values of a column that has few different ones (labels), leaving out some rows (1-based)."""
    import numpy
    import pyarrow

    keep = numpy.ones(len(column), dtype=bool)
    keep[[row - 1 for row in without]] = False
    kept = column.filter(pyarrow.array(keep))
    values = set(kept.unique().to_pylist()) - {""}
    return values if len(values) <= max(2, len(kept) // 2) else set()
