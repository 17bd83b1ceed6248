"""Open text files of unknown encoding, plain or gzipped, and refuse what is not text."""

from __future__ import annotations

import codecs
import gzip
import io
import zlib
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, TextIO, cast

from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK_BYTES = 1 << 20
_BYTE_ORDER_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
# What a file begins with that its ending does not tell: what it is, and what to do about it.
_DISGUISES = {
    b"PK\x03\x04": ("a zip archive or a spreadsheet", "Export the sheet as csv, or unpack the archive."),
    b"PAR1": ("a parquet file", "Let its name end in .parquet."),
    b"ARROW1": ("an Arrow file", "Let its name end in .arrow."),
    b"version https://git-lfs": ("a Git LFS pointer, not the data", "Fetch the data: git lfs pull"),
    b"\x80\x04": ("a Python pickle, which is never loaded", "Write the data as jsonl or parquet."),
}


@dataclass(frozen=True)
class Encoding:
    """The encoding of a text file, and a note when it is not plain UTF-8."""

    name: str
    note: str | None = None


def open_text(path: Path, encoding: Encoding | None = None) -> tuple[TextIO, tuple[str, ...]]:
    """Open a text file for reading, with notes on its encoding, which is found by reading it once unless it is given.

    A byte-order mark is skipped, line ends are left as they are (csv wants that). Raises FinetuneError when the file is
    empty, is not text, or holds invalid bytes among valid UTF-8.
    """
    try:
        encoding = encoding or find_encoding(path)
        stream = io.TextIOWrapper(open_bytes(path), encoding=encoding.name, newline="")
    except OSError as problem:
        raise read_error(path, problem) from problem
    return stream, (encoding.note,) if encoding.note else ()


def read_error(path: Path, problem: Exception) -> FinetuneError:
    """Put a failure of the disk or of gzip into words."""
    if isinstance(problem, (gzip.BadGzipFile, EOFError, zlib.error)):
        return FinetuneError(f"{path}: damaged gzip file ({problem})", "Download or compress it again.")
    reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
    return FinetuneError(f"{path}: cannot be read ({reason})", "Check the path and its permissions.")


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading bytes, through gzip when its name says so."""
    if path.name.lower().endswith(".gz"):
        return cast("IO[bytes]", gzip.open(path, "rb"))
    return path.open("rb")


def find_encoding(path: Path) -> Encoding:
    """Tell UTF-8 (with or without mark), UTF-16 with mark and Windows-1252 apart, by reading the file once."""
    try:
        with open_bytes(path) as file:
            head = file.read(64)
        if not head.strip(codecs.BOM_UTF8 + b" \t\r\n"):
            _check_not_blank(path)
        if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):  # its first half is the mark of UTF-16
            plain = path.name.removesuffix(".gz")
            raise FinetuneError(f"{path}: is UTF-32", f"Convert it: iconv -f UTF-32 -t UTF-8 {plain} > utf8-{plain}")
        for mark, name in _BYTE_ORDER_MARKS.items():
            if head.startswith(mark):
                return Encoding(name, f"{path.name} is UTF-16; it was read as such.")
        for start, (what, remedy) in _DISGUISES.items():
            if head.startswith(start):
                raise FinetuneError(f"{path}: this is {what}", remedy)
        invalid = _scan(path)
    except (gzip.BadGzipFile, EOFError, zlib.error) as problem:
        raise read_error(path, problem) from problem
    return Encoding("utf-8-sig") if not invalid else _single_byte_encoding(path)


def _check_not_blank(path: Path) -> None:
    if not any(line.strip(codecs.BOM_UTF8 + b" \t\r\n") for line in _byte_lines(path)):
        raise FinetuneError(f"{path}: the file is empty", "Point to the file that holds the data.")


def _scan(path: Path) -> bool:
    """Tell whether the file holds bytes that are not UTF-8; raise on NUL bytes."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_bytes(path) as file:
        while block := file.read(_BLOCK_BYTES):
            if b"\0" in block:
                raise _nul_error(path)
            try:
                decoder.decode(block)
            except UnicodeDecodeError:
                return True
        try:
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return True
    return False


def _byte_lines(path: Path) -> Iterator[bytes]:
    with open_bytes(path) as file:
        yield from file


def _nul_error(path: Path) -> FinetuneError:
    line = next(number for number, line in enumerate(_byte_lines(path), start=1) if b"\0" in line)
    return FinetuneError(
        f"{path}:{line}: holds a NUL byte: the file is binary, damaged, or UTF-16 without a byte-order mark",
        f"If it is UTF-16: iconv -f UTF-16LE -t UTF-8 {path.name} > utf8-{path.name}",
    )


def _single_byte_encoding(path: Path) -> Encoding:
    """Decide on Windows-1252 when no line is valid non-ASCII UTF-8; otherwise the bytes are damage: refuse."""
    first_invalid, invalid, valid = 0, 0, 0
    undefined_in_1252 = False
    for number, line in enumerate(_byte_lines(path), start=1):
        if b"\0" in line:
            raise _nul_error(path)
        if line.isascii():
            continue
        try:
            line.decode("utf-8")
            valid += 1
        except UnicodeDecodeError:
            invalid += 1
            first_invalid = first_invalid or number
            undefined_in_1252 |= any(byte in line for byte in (b"\x81", b"\x8d", b"\x8f", b"\x90", b"\x9d"))
    if valid:
        raise FinetuneError(
            f"{path}:{first_invalid}: a byte that is not UTF-8, in {plural(invalid, 'line')}, while "
            f"{plural(valid, 'other line')} are valid UTF-8",
            f"Mend the line, or drop the invalid bytes: iconv -f UTF-8 -t UTF-8 -c {path.name} > clean-{path.name}",
        )
    name, shown = ("latin-1", "Latin-1") if undefined_in_1252 else ("cp1252", "Windows-1252 (Latin-1)")
    return Encoding(
        name,
        f"{path.name} is not UTF-8; it was read as {shown} ({plural(invalid, 'line')} with such letters, "
        f"the first is line {first_invalid}).",
    )
