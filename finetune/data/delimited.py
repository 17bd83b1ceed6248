"""Read csv and tsv with care: exact row and line numbers, and no row swallowed by a lone quote."""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from finetune.data.raw import CHUNK_ROWS, LINE, Part, part_with_lines
from finetune.data.spool import spool
from finetune.data.text_files import Encoding, open_text, read_error
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
# A column with more different values holds no labels by which a swallowed row could be told.
_MANY_VALUES = 2048


@dataclass(frozen=True)
class Record:
    """One row: its fields, the line on which it starts, and its physical lines when there are several."""

    fields: list[str]
    line: int
    lines: tuple[str, ...] = ()


class QuoteTroubleError(Exception):
    """A quote does not close where it should; carries the line on which the row starts."""

    def __init__(self, line: int, problem: str) -> None:
        super().__init__(problem)
        self.line = line


@dataclass
class _Seen:
    """What is known of a file while it is read: its rows, those to look at again, the values of each column.

    `values[i]` are those of column i outside of suspect rows; None: too many for labels.
    """

    values: list[set[str] | None]
    rows: int = 0
    suspects: list[tuple[Record, int]] = field(default_factory=list)


def read_delimited(path: Path, delimiter: str) -> Part:
    """Read a csv (`,`) or tsv (tab) file with a header into columns of strings.

    Another delimiter than the ending says is recognised by the header, with a note. Raises FinetuneError with
    file and line: duplicate or missing header, rows with too many or too few fields, unclosed quotes, no rows.
    """
    delimiter, notes = find_delimiter(path, delimiter)
    try:
        batches = spool(delimited_batches(path, delimiter))
    except QuoteTroubleError as trouble:
        unquoted = _without_quoting(path) if delimiter == "\t" else None
        if unquoted is None:
            raise quote_error(path, trouble) from trouble
        batches = unquoted
        notes = (*notes, f"{path.name}: quotes were taken as letters, since they do not pair up.")
    # Rows are counted without the header; the line is what an editor shows.
    return part_with_lines(str(path), batches, untyped=True, notes=notes)


def delimited_batches(
    path: Path, delimiter: str, quoting: bool = True, encoding: Encoding | None = None
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows of a file in pieces of strings; the first column is the line on which each row starts.

    Raises FinetuneError as `read_delimited`, and QuoteTroubleError at a quote that does not close.
    """
    file, _ = open_text(path, encoding)
    with file:
        try:
            records = _records(file, delimiter, quoting)
            header = next(records, None)
            if header is None:
                raise FinetuneError(f"{path}: the file is empty", "Point to the file that holds the data.")
            names = _checked_header(path, header)
            seen = _Seen([set() for _ in names])
            while chunk := list(islice(records, CHUNK_ROWS)):
                yield _to_batch(path, chunk, names, delimiter, seen)
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem
    if seen.rows == 0:
        raise FinetuneError(f"{path}: holds a header and no rows", "Point to the file that holds the data.")
    _check_swallowed(path, seen, delimiter)


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


def _without_quoting(path: Path) -> list[pyarrow.RecordBatch] | None:
    """Read a tsv with quotes as letters, which is how many tools write it; None when that does not fit either."""
    try:
        return spool(delimited_batches(path, "\t", quoting=False))
    except FinetuneError:
        return None


def _to_batch(path: Path, chunk: list[Record], names: list[str], delimiter: str, seen: _Seen) -> pyarrow.RecordBatch:
    import pyarrow

    suspects = []
    for place, record in enumerate(chunk):
        _check_width(path, record, names)
        if _row_like_lines(record, delimiter, len(names)):
            suspects.append(place)
            seen.suspects.append((record, seen.rows + place + 1))
    lines = pyarrow.array([record.line for record in chunk], pyarrow.int64())
    columns = [
        pyarrow.array(column, pyarrow.string()) for column in zip(*(record.fields for record in chunk), strict=True)
    ]
    for place, column in enumerate(columns):
        seen.values[place] = _with_values(seen.values[place], column, suspects)
    seen.rows += len(chunk)
    return pyarrow.RecordBatch.from_arrays([lines, *columns], [LINE, *names])


def _with_values(known: set[str] | None, column: pyarrow.Array, without: list[int]) -> set[str] | None:
    """Return the known values of a column and those of one more piece; None when they are too many for labels."""
    import numpy
    import pyarrow

    if known is None:
        return None
    if without:
        keep = numpy.ones(len(column), dtype=bool)
        keep[without] = False
        column = column.filter(pyarrow.array(keep))
    known = known.union(column.unique().to_pylist())
    return known if len(known) <= _MANY_VALUES else None


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
            raise QuoteTroubleError(line, str(problem)) from problem
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


def quote_error(path: Path, trouble: QuoteTroubleError) -> FinetuneError:
    """Return the error for a quote that does not close."""
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


def _check_swallowed(path: Path, seen: _Seen, delimiter: str) -> None:
    """Refuse rows whose quoted field holds what look like further rows: a lone quote has swallowed them."""
    few = max(2, (seen.rows - len(seen.suspects)) // 2)
    known = [values - {""} if values is not None else set() for values in seen.values]
    known = [values if len(values) <= few else set() for values in known]
    for record, row in seen.suspects:
        lines = _row_like_lines(record, delimiter, len(known))
        many = len(record.lines) > _LONG_SPAN_LINES and len(lines) > 0.9 * (len(record.lines) - 1)
        if many or any(fields[i].strip('"') in known[i] for first, fields in lines for i in range(first, len(fields))):
            raise FinetuneError(
                f"{path}:{record.line}: row {row} runs over {len(record.lines)} lines, and its lines look like rows "
                "of their own: a lone quote has swallowed them",
                "Close the quote, or write it twice where it is meant as a letter.",
            )
