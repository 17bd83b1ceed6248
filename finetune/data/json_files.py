"""Read json and jsonl: every row an object, every problem with its line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from finetune.data.raw import CHUNK_ROWS, Objects, Part, table_from_objects
from finetune.data.squad_files import is_nested, questions_of
from finetune.data.text_files import open_text, read_error
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO


def read_jsonl(path: Path) -> Part:
    """Read one JSON object a line; blank lines are skipped.

    Raises FinetuneError with the line that is no JSON object.
    """
    file, notes = open_text(path)
    with file:
        try:
            part = table_from_objects(str(path), line_chunks(str(path), file), notes)
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem
    return _with_rows(part)


def read_json(path: Path) -> Part:
    """Read a JSON file: a list of objects, an object whose `data` is that list, or objects line by line.

    SQuAD's nested form gives a row for each question.

    The file is parsed in one piece: prefer jsonl for large data. Raises FinetuneError with line and column.
    """
    file, notes = open_text(path)
    with file:
        try:
            text = file.read()
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem
    try:
        content = json.loads(text)
    except RecursionError as problem:
        raise _too_deep(str(path)) from problem
    except json.JSONDecodeError as problem:
        if problem.msg == "Extra data" and _is_object(text[: problem.pos]):
            return read_jsonl(path)
        raise FinetuneError(
            f"{path}:{problem.lineno}: not JSON, column {problem.colno}: {problem.msg}", "Mend the line."
        ) from problem
    except ValueError as problem:
        raise _too_long_number(str(path)) from problem
    rows = content.get("data", [content]) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise FinetuneError(
            f"{path}: {'data' if isinstance(content, dict) else 'it'} is {_named(rows)}, not a list of rows",
            'Write [{"text": …, "label": …}, …], {"data": [the same]}, or one object a line (jsonl).',
        )
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise FinetuneError(
                f"{path}: row {number} is {_named(row)}, not an object",
                'Write each row as {"text": …, "label": …}.',
            )
    if is_nested(rows):
        rows = questions_of(str(path), rows)
    chunks: Iterator[Objects] = ((rows[i : i + CHUNK_ROWS], None) for i in range(0, len(rows), CHUNK_ROWS))
    return _with_rows(table_from_objects(str(path), chunks, notes))


def line_chunks(where: str, file: TextIO) -> Iterator[Objects]:
    """Yield the rows of a jsonl stream in chunks, with their lines. Raises FinetuneError at a bad line."""
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        rows.append(parse_line(where, number, line))
        lines.append(number)
        if len(rows) == CHUNK_ROWS:
            yield rows, lines
            rows, lines = [], []
    if rows:
        yield rows, lines


def parse_line(where: str, number: int, line: str) -> dict[str, Any]:
    """Return the JSON object on a line. Raises FinetuneError when there is none."""
    try:
        row = json.loads(line)
    except RecursionError as problem:
        raise _too_deep(f"{where}:{number}") from problem
    except json.JSONDecodeError as problem:
        raise FinetuneError(
            f"{where}:{number}: not JSON, column {problem.colno}: {problem.msg}",
            'Each line is one row: {"text": …, "label": …}. Mend or remove this one.',
        ) from problem
    except ValueError as problem:
        raise _too_long_number(f"{where}:{number}") from problem
    if not isinstance(row, dict):
        raise FinetuneError(
            f"{where}:{number}: {_named(row)}, not an object", 'Each line is one row: {"text": …, "label": …}.'
        )
    return row


def _too_deep(place: str) -> FinetuneError:
    return FinetuneError(f"{place}: lists or objects nested too deep to be read", "A row is a flat object; remove it.")


def _too_long_number(place: str) -> FinetuneError:
    # Python refuses to read whole numbers of more than 4,300 digits.
    return FinetuneError(f"{place}: holds a number with thousands of digits", "Write it as a text, in quotes.")


def _with_rows(part: Part) -> Part:
    if part.rows == 0:
        raise FinetuneError(f"{part.where}: holds no rows", "Point to the file that holds the data.")
    return part


def _is_object(text: str) -> bool:
    return text.lstrip().startswith("{")


def _named(value: Any) -> str:
    return {list: "a list", dict: "an object", str: "a text", bool: "a boolean", type(None): "null"}.get(
        type(value), "a number"
    )
