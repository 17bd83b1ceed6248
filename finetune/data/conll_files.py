"""Read conll files: a word and its tags a line, a blank line after each sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.data.raw import CHUNK_ROWS, Objects, Part, table_from_objects
from finetune.data.text_files import open_text, read_error
from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

# CoNLL-U (universaldependencies.org/format.html) has ten columns, of which the second is the word.
_CONLLU_COLUMNS = 10
_WORD, _UPOS, _XPOS = 1, 3, 4
_DOCUMENT = "-DOCSTART-"
_LONGEST_SENTENCE = 300  # words of a file with a single one


def read_conll(path: Path) -> Part:
    """Read sentences as rows: `tokens`, `tags` (the last column), and columns between them as column2, column3 ….

    Of CoNLL-U files tokens, upos and xpos are read. Columns are parted by tabs or blanks. Raises FinetuneError with
    the line that has more or fewer columns than the first.
    """
    file, notes = open_text(path)
    with file:
        try:
            part = table_from_objects(str(path), _chunks(_sentences(str(path), file)), notes)
        except (OSError, EOFError, UnicodeError) as problem:
            raise read_error(path, problem) from problem
    if part.rows == 0:
        raise FinetuneError(f"{path}: holds no rows", "Point to the file that holds the data.")
    if part.rows == 1 and (words := len(part.read(["tokens"]).column("tokens")[0])) > _LONGEST_SENTENCE:
        raise FinetuneError(
            f"{path}: all {words:,} words are one sentence", "Put a blank line after each sentence, and save it again."
        )
    return part


def _sentences(where: str, lines: Iterable[str]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield each sentence and the line on which it begins."""
    words: list[list[str]] = []
    begin = width = 0
    for number, raw in enumerate(lines, 1):
        text = raw.strip("\r\n")
        fields = text.split("\t") if "\t" in text else text.split()
        if not text.strip():
            if words:
                yield _row(words), begin
            words = []
            continue
        if fields[0] == _DOCUMENT or _is_comment(text, len(fields), width):
            continue
        width = width or len(fields)
        if len(fields) != width or width < 2:
            raise FinetuneError(
                f"{where}:{number}: {plural(len(fields), 'column')}, where "
                + (f"the first line has {width}" if width > 1 else "a word and its tag are meant"),
                "Write a word and its tags on each line, parted by a tab or blank, and a blank line after a sentence.",
            )
        if width == _CONLLU_COLUMNS and not fields[0].isdigit():
            continue  # 3-4: a word written as one, whose parts follow; 5.1: one that is not written
        begin = begin if words else number
        words.append(fields)
    if words:
        yield _row(words), begin


def _is_comment(text: str, columns: int, width: int) -> bool:
    """Tell a comment from the word #: it has another number of columns than the words, or says `# name = value`."""
    return text.startswith("#") and (columns != width if width else columns < 2 or " = " in text or text[:2] != "#\t")


def _row(words: list[list[str]]) -> dict[str, list[str]]:
    columns = list(zip(*words, strict=True))
    if len(columns) == _CONLLU_COLUMNS:
        return {"tokens": list(columns[_WORD]), "upos": list(columns[_UPOS]), "xpos": list(columns[_XPOS])}
    between = {f"column{place}": list(column) for place, column in enumerate(columns[1:-1], 2)}
    return {"tokens": list(columns[0]), **between, "tags": list(columns[-1])}


def _chunks(sentences: Iterator[tuple[dict[str, Any], int]]) -> Iterator[Objects]:
    rows: list[dict[str, Any]] = []
    lines: list[int] = []
    for row, line in sentences:
        rows.append(row)
        lines.append(line)
        if len(rows) == CHUNK_ROWS:
            yield rows, lines
            rows, lines = [], []
    if rows:
        yield rows, lines
