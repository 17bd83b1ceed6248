"""Small tables: text for a terminal, Markdown, CSV. The same rows always give the same characters."""

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

# Control characters, line separators, overrides of the writing direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True)
class Column:
    """A heading and its cells; each may have several lines. Numbers are aligned to the right."""

    heading: str
    cells: Sequence[str]
    right: bool = False


def plain(text: str) -> str:
    """Return a text without anything that steers a terminal; line breaks stay, tabs become spaces."""
    return _UNPRINTABLE.sub(lambda found: " " if found[0].isspace() else "", text)


def one_line(text: str) -> str:
    """Return a plain text without line breaks, such as the name of a run."""
    return plain(text).replace("\n", " ")


def text_table(columns: Sequence[Column]) -> str:
    """Return a table for a terminal, columns two spaces apart, without trailing spaces."""
    columns = [Column(plain(column.heading), list(map(plain, column.cells)), column.right) for column in columns]
    widths = [column_width(column) for column in columns]
    lines = _lines([column.heading for column in columns], columns, widths)
    lines.append("  ".join("─" * width for width in widths))
    for cells in zip(*(column.cells for column in columns), strict=True):
        lines += _lines(cells, columns, widths)
    return "\n".join(lines)


def column_width(column: Column) -> int:
    """Return how many characters wide a column is."""
    return max(text_width(line) for cell in (column.heading, *column.cells) for line in plain(cell).split("\n"))


def text_width(text: str) -> int:
    """Return how many cells of a terminal a text takes: wide East Asian letters take two, combining marks none."""
    return len(text) if text.isascii() else sum(map(_letter_width, text))


def shorten(text: str, width: int) -> str:
    """Cut a text to one line of so many cells; a cut text ends in an ellipsis."""
    text = one_line(text)
    if text_width(text) <= width:
        return text
    kept, left = "", width - 1
    for letter in text:
        left -= _letter_width(letter)
        if left < 0:
            break
        kept += letter
    return kept + "…"


def _letter_width(letter: str) -> int:
    return 0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def markdown_table(columns: Sequence[Column]) -> str:
    """Return a GitHub table; what would break it is escaped."""
    lines = [
        "| " + " | ".join(markdown_cell(column.heading) for column in columns) + " |",
        "|" + "|".join("---:" if column.right else "---" for column in columns) + "|",
    ]
    lines += [
        "| " + " | ".join(markdown_cell(cell) for cell in cells) + " |"
        for cells in zip(*(column.cells for column in columns), strict=True)
    ]
    return "\n".join(lines)


def markdown_cell(text: str) -> str:
    """Escape a text for one cell of a Markdown table: no HTML, no markup, no line breaks, nothing unprintable."""
    text = plain(text)
    for mark in "\\`*_[]|~":
        text = text.replace(mark, "\\" + mark)
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "<br>".join(" ".join(line.split()) for line in text.split("\n"))


def csv_table(heading: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return comma-separated values, None as empty; a text that a spreadsheet would run as a formula gets a quote."""
    output = io.StringIO()
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(map(_csv_value, heading))
    writer.writerows([_csv_value(value) for value in row] for row in rows)
    return output.getvalue().rstrip("\n")


def _csv_value(value: object) -> object:
    if not isinstance(value, str):
        return value
    return ("'" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else "") + plain(value)


def _lines(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> list[str]:
    split = [cell.split("\n") for cell in cells]
    height = max(map(len, split))
    return [_line([cell[row] if row < len(cell) else "" for cell in split], columns, widths) for row in range(height)]


def _line(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = [
        " " * (width - text_width(cell)) + cell if column.right else cell + " " * (width - text_width(cell))
        for cell, column, width in zip(cells, columns, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()
