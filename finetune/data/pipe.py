"""Lines of a stream as they come, and the word that none has come for a while."""

from __future__ import annotations

import codecs
import io
import json
import os
import re
import select
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, TextIO

from finetune.data.json_files import parse_line
from finetune.errors import FinetuneError

PIPE = "stdin"
# A row waits at most this long for others to be computed with.
PATIENCE_S = 0.5
_BLOCK_BYTES = 1 << 16
_ARRAY_START = re.compile(r"\[\s*(\{|$)")


@dataclass(frozen=True)
class Lines:
    """An open stream: its form, its first row (None: it has none), and its lines.

    `lines` yields (number, line) from the first on, and None whenever no line has come for PATIENCE_S.
    """

    as_json: bool
    first: dict[str, Any] | None
    lines: Iterator[tuple[int, str] | None]


def open_lines(stream: TextIO) -> Lines:
    """Read a stream up to its first line that is not blank, and tell its form by it: jsonl begins with `{`.

    Raises FinetuneError when that is no row: damaged JSON, a JSON array, bytes that are no UTF-8 text.
    """
    lines = _numbered(stream)
    seen: list[tuple[int, str] | None] = []
    for entry in lines:
        seen.append(entry)
        if entry is None or not entry[1].strip():
            continue
        number, line = entry
        as_json = line.lstrip().startswith("{")
        if not as_json and _is_array(line):
            raise FinetuneError(
                f"{PIPE}:{number}: a JSON array, where each line is one row",
                "Write one object a line (jq -c '.[]'), or save it as a .json file and name that.",
            )
        return Lines(as_json, parse_line(PIPE, number, line) if as_json else {"text": line}, chain(seen, lines))
    return Lines(False, None, iter(seen))


def _numbered(stream: TextIO) -> Iterator[tuple[int, str] | None]:
    """Yield the lines with their numbers, without line ends and byte-order mark; None: nothing came for a while."""
    number = 0
    try:
        for line in _lines(stream):
            if line is None:
                yield None
                continue
            number += 1
            if "\0" in line:
                raise FinetuneError(
                    f"{PIPE}:{number}: holds a NUL byte: this is no text, or UTF-16",
                    "If it is UTF-16, convert it on the way: iconv -f UTF-16 -t UTF-8",
                )
            yield number, (line.lstrip("\ufeff") if number == 1 else line).rstrip("\r\n")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        source = "UTF-16" if byte in (0xFE, 0xFF) else "WINDOWS-1252"
        raise FinetuneError(
            f"{PIPE}: not UTF-8 text (byte 0x{byte:02x})", f"Convert it on the way: iconv -f {source} -t UTF-8"
        ) from error


def _lines(stream: TextIO) -> Iterator[str | None]:
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):  # not a file of the system: all of it is there
        yield from stream
        return
    if os.name == "nt":  # select there knows sockets only
        yield from stream
        return
    decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder("utf-8")(), translate=True)
    rest = ""
    while True:
        if not select.select([descriptor], [], [], PATIENCE_S)[0]:
            yield None
            continue
        block = os.read(descriptor, _BLOCK_BYTES)
        *whole, rest = (rest + decoder.decode(block, final=not block)).split("\n")
        yield from whole
        if not block:
            break
    if rest:
        yield rest


def _is_array(line: str) -> bool:
    if not line.lstrip().startswith("["):
        return False
    if _ARRAY_START.match(line.strip()):
        return True
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(content, list) and all(isinstance(item, str) for item in content)
