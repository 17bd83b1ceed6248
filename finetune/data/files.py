"""Local data: which format a file has, and reading it as that format."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.data.arrow_files import read_arrow, read_parquet
from finetune.data.conll_files import read_conll
from finetune.data.delimited import read_delimited
from finetune.data.json_files import read_json, read_jsonl
from finetune.data.raw import CHUNK_ROWS, LINE, Part, RawSplit, part_with_lines
from finetune.data.spool import spool
from finetune.data.text_files import Encoding, find_encoding, open_text, read_error
from finetune.errors import FinetuneError
from finetune.recipe.data_formats import ENDINGS, FORMATS
from finetune.recipe.lookup import look_up, near_name, neighbours
from finetune.text import join_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow

Reader = Callable[[Path, str | None], Part]

_NEVER = {
    "py": ("a script; dataset scripts are never run", "Write the data as jsonl, csv or parquet."),
    "pkl": ("a pickle; pickles are never loaded, since they can run code", "Write the data as jsonl or parquet."),
    "pickle": ("a pickle; pickles are never loaded, since they can run code", "Write the data as jsonl or parquet."),
    "xlsx": ("a spreadsheet", "Export the sheet as csv."),
    "xls": ("a spreadsheet", "Export the sheet as csv."),
    "zip": ("an archive", "Unpack it and point to the files."),
    "tar": ("an archive", "Unpack it and point to the files."),
    "tgz": ("an archive", "Unpack it and point to the files."),
    "bz2": ("compressed in another way than gzip", "Unpack it, or use gzip."),
    "xz": ("compressed in another way than gzip", "Unpack it, or use gzip."),
    "zst": ("compressed in another way than gzip", "Unpack it, or use gzip."),
}


def format_of(path: Path) -> str | None:
    """Return the format that a file's name tells (`.gz` aside), or None."""
    suffixes = [suffix.lower().lstrip(".") for suffix in path.suffixes]
    if suffixes and suffixes[-1] == "gz":
        suffixes.pop()
    found = ENDINGS.get(suffixes[-1]) if suffixes else None
    return None if found in ("parquet", "arrow") and path.name.lower().endswith(".gz") else found


def known_format(path: Path) -> str:
    """Return the format of a file by its ending. Raises FinetuneError when the ending tells none that is read."""
    found = format_of(path)
    if found is not None:
        return found
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2] if "." in path.name else ""
    if ending in _NEVER:
        what, remedy = _NEVER[ending]
        raise FinetuneError(f"{path}: this is {what}", remedy)
    raise FinetuneError(
        f"{path}: the ending does not tell the format",
        f"Endings that are read: {', '.join('.' + name for name in FORMATS)}; text formats also with .gz.",
    )


def read_file(path: Path, format: str | None = None) -> Part:
    """Read one file. `format` is one of FORMATS; None: by the ending. Raises FinetuneError with file and line."""
    if not os.path.isfile(path):
        raise missing_file(path)
    chosen = format or known_format(path)
    if path.stat().st_size == 0:
        raise FinetuneError(f"{path}: the file is empty", "Point to the file that holds the data.")
    match chosen:
        case "csv":
            return read_delimited(path, ",")
        case "tsv":
            return read_delimited(path, "\t")
        case "json":
            return read_json(path)
        case "jsonl":
            return read_jsonl(path)
        case "parquet":
            return read_parquet(path)
        case "arrow":
            return read_arrow(path)
        case "conll":
            return read_conll(path)
        case _:
            return read_lines(path)


def read_lines(path: Path) -> Part:
    """Read a txt file: one text a line, in the column `text`; blank lines are skipped."""
    encoding = find_encoding(path)
    notes = (encoding.note,) if encoding.note else ()
    return part_with_lines(str(path), spool(text_batches(path, encoding)), notes=notes)


def text_batches(path: Path, encoding: Encoding) -> Iterator[pyarrow.RecordBatch]:
    """Yield the lines of a txt file in pieces; the first column is the number of the line."""
    import pyarrow

    file, _ = open_text(path, encoding)
    with file:
        try:
            rows = ((number, line.rstrip("\r\n")) for number, line in enumerate(file, start=1) if line.strip())
            while chunk := list(islice(rows, CHUNK_ROWS)):
                numbers, texts = zip(*chunk, strict=True)
                arrays = [pyarrow.array(numbers, pyarrow.int64()), pyarrow.array(texts, pyarrow.string())]
                yield pyarrow.RecordBatch.from_arrays(arrays, [LINE, "text"])
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem


def missing_file(path: Path) -> FinetuneError:
    """Return the error for a path that is no file, with what it is, or what is there instead."""
    found = look_up(path)
    if found.fault:
        return FinetuneError(f"{found.shown} {found.fault}", "Check the path and its permissions.")
    if found.kind == "other":
        return FinetuneError(f"{path}: is a device or a pipe, not a file", "finetune predict RUN - reads a pipe.")
    names = neighbours(path if found.kind == "folder" else path.parent)
    if found.kind == "folder":
        data = next((name for name in names or () if format_of(path / name)), None)
        shown = f"It holds: {join_words(names[:8], 'and')}." if names else "It holds nothing that can be read."
        return FinetuneError(f"{path}: is a folder, not a file", f"Name a file in it: {path / data}" if data else shown)
    if names is None and not os.path.isdir(path.parent):
        return FinetuneError(f"{path}: no such file; the folder {path.parent} does not exist either", "Check the path.")
    near = near_name(path.name, names or [])
    shown = join_words((names or [])[:8], "and") or "nothing that can be listed"
    hint = f"Did you mean {near}?" if near else f"{path.parent} holds: {shown}."
    return FinetuneError(f"{path}: no such file", hint)


def read_data_files(
    data_files: Mapping[str, str | Sequence[str]], base: Path | None, format: str | None, reader: Reader = read_file
) -> dict[str, RawSplit]:
    """Read the files that a recipe lists by split: paths, lists of them, patterns with `*` and `**`.

    Relative paths start at `base` when it is given, else where the command runs. Raises FinetuneError when a pattern
    matches nothing or a split mixes formats.
    """
    return {
        split: read_split(split, expand([given] if isinstance(given, str) else given, base, split), format, reader)
        for split, given in data_files.items()
    }


def expand(patterns: Sequence[str], base: Path | None, split: str) -> list[Path]:
    """Return the files that paths and patterns name, each once, sorted within a pattern."""
    found: list[Path] = []
    for pattern in patterns:
        if "://" in pattern:
            raise FinetuneError(
                f"dataset.data_files.{split}: {pattern} is an address, not a file",
                f"Download it first: curl -LO {pattern}",
            )
        path = Path(pattern).expanduser() if base is None else base / Path(pattern).expanduser()
        if os.path.isfile(path):
            found.append(path)
            continue
        if not glob.has_magic(pattern):
            raise missing_file(path)
        matches = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if os.path.isfile(match))
        if not matches:
            raise FinetuneError(
                f"dataset.data_files.{split}: {pattern} matches no file", f"Patterns start at {base or Path.cwd()}."
            )
        found += matches
    return list(dict.fromkeys(found))


def read_split(name: str, paths: Sequence[Path], format: str | None = None, reader: Reader = read_file) -> RawSplit:
    """Read the files of one split, one after the other; they must share a format.

    `reader` is `read_file`, or what opens files to be streamed.
    """
    formats = {path: format or known_format(path) for path in paths}
    if len(set(formats.values())) > 1:
        shown = join_words((f"{path.name} ({found})" for path, found in formats.items()), "and")
        raise FinetuneError(f"split {name}: the files have different formats: {shown}", "Use one format a split.")
    return RawSplit(name, tuple(reader(path, formats[path]) for path in paths))
