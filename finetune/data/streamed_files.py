"""Open files to be streamed: their columns are known at once, their rows come in pieces."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from finetune.data.arrow_files import parquet_batches, read_parquet
from finetune.data.delimited import QuoteTroubleError, delimited_batches, find_delimiter, quote_error
from finetune.data.files import known_format, read_file, text_batches
from finetune.data.json_files import line_chunks
from finetune.data.raw import Part, Piece, memory_part, object_batches
from finetune.data.text_files import Encoding, find_encoding, open_text, read_error
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from pathlib import Path

    import pyarrow


def open_streamed(path: Path, format: str | None = None) -> Part:
    """Open a file to be streamed. `format` is as of `read_file`. Raises FinetuneError with file and line.

    What lies in the file as Arrow is mapped; a json file that is one list, and a conll file, is read whole.
    """
    chosen = format or known_format(path)
    if not os.path.isfile(path) or path.stat().st_size == 0 or chosen in ("arrow", "json", "conll"):
        return read_file(path, chosen)
    if chosen == "parquet":
        part = read_parquet(path)

        def columns_of(columns: Sequence[str]) -> Iterator[Piece]:
            return ((batch, None) for batch in parquet_batches(path, columns))

        return replace(part, rows=0, stream=columns_of, load=lambda: part)
    encoding = find_encoding(path)
    notes: tuple[str, ...] = (encoding.note,) if encoding.note else ()
    if chosen == "jsonl":
        return _part(path, chosen, lambda columns: _object_pieces(path, encoding, columns), False, notes)
    if chosen == "txt":
        return _part(path, chosen, lambda columns: map(_without_lines, text_batches(path, encoding)), False, notes)
    delimiter, notes = find_delimiter(path, "," if chosen == "csv" else "\t")
    quoting = delimiter != "\t" or _quotes_pair_up(path, encoding)
    return _part(path, chosen, lambda columns: _delimited_pieces(path, delimiter, quoting, encoding), True, notes)


def _part(
    path: Path, format: str, pieces: Callable[[Sequence[str]], Iterator[Piece]], untyped: bool, notes: tuple[str, ...]
) -> Part:
    import pyarrow

    first = next(pieces(()), None)
    if first is None:
        raise FinetuneError(f"{path}: holds no rows", "Point to the file that holds the data.")
    part = memory_part(str(path), pyarrow.Table.from_batches([first[0]]), untyped=untyped, notes=notes)
    return replace(part, rows=0, stream=pieces, load=lambda: read_file(path, format))


def _without_lines(batch: pyarrow.RecordBatch) -> Piece:
    """Take the first column, the lines, off a piece."""
    return batch.select(list(range(1, batch.num_columns))), batch.column(0)


def _object_pieces(path: Path, encoding: Encoding, columns: Sequence[str]) -> Iterator[Piece]:
    file, _ = open_text(path, encoding)
    faults: dict[str, tuple[int, str]] = {}
    done = 0
    with file:
        try:
            for batch in object_batches(line_chunks(str(path), file), faults):
                rows, lines = _without_lines(batch)
                for name in sorted(faults.keys() & set(columns)):  # other columns may be as they like
                    index, problem = faults[name]
                    raise FinetuneError(
                        f"{path}:{batch.column(0)[index - done].as_py()}: column {name!r} {problem}",
                        "Give every row of the column the same type.",
                    )
                yield rows, lines
                done += batch.num_rows
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem


def _delimited_pieces(path: Path, delimiter: str, quoting: bool, encoding: Encoding) -> Iterator[Piece]:
    try:
        yield from map(_without_lines, delimited_batches(path, delimiter, quoting, encoding))
    except QuoteTroubleError as trouble:
        raise quote_error(path, trouble) from trouble


def _quotes_pair_up(path: Path, encoding: Encoding) -> bool:
    """Tell whether the quotes of a tsv are quotes: many tools write them as letters."""
    try:
        for _ in delimited_batches(path, "\t", True, encoding):
            pass
    except QuoteTroubleError:
        return False
    return True
