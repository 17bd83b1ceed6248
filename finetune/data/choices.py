"""The right choice of a row as its place (from 0), whether the data names it by number, by letter or by its text."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import label_column
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme
from finetune.tasks.multiple_choice import CHOICE, CHOICE_ROLES, choices_of
from finetune.text import plural

if TYPE_CHECKING:
    import pyarrow

    from finetune.data.raw import RawSplit

_FEWEST = 2
Row = tuple[Any, list[str], int]  # answer, choices, row number
_HINT = "Write the answer as a letter (A, B, …), as the place of the choice (0, 1, …), or as its text."


def read_choices(
    split: RawSplit, table: pyarrow.Table, source: str
) -> tuple[LabelScheme, Callable[[RawSplit, pyarrow.Table], pyarrow.ChunkedArray], tuple[str, ...]]:
    """Decide from train how answers name their choice; return the scheme, what reads a split, and notes.

    Raises FinetuneError when they name none, or when numbers could count from 0 or from 1.
    """
    by_text = by_letter = True
    lowest, reaches_end, numbers = None, False, 0
    for answer, choices, row in _rows(split, table, source):
        if answer is None:
            continue
        by_text = by_text and answer in choices
        number = _number(answer)
        if number is not None and number >= 0:
            numbers += 1
            lowest = number if lowest is None else min(lowest, number)
            reaches_end = reaches_end or number == len(choices)
        elif number is None:
            by_letter = by_letter and _letter(answer) is not None
        too_high = not by_text and number is not None and number > len(choices)
        if too_high or (not by_text and not by_letter):
            raise FinetuneError(
                f"{split.place(row)}: the answer {answer!r} is none of the {len(choices)} choices", _HINT
            )
    notes: tuple[str, ...] = ()
    first = 0
    if not by_text and numbers and lowest:
        if not reaches_end:
            raise FinetuneError(
                f"{split.where}: column {source!r} (for answer) holds numbers from {lowest} on, which could count the "
                "choices from 0 or from 1",
                _HINT,
            )
        first = 1
        notes = (f"Numbers of column {source!r} count the choices from 1.",)

    def encode(split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
        import pyarrow

        places = [_place(split, each, by_text, first) for each in _rows(split, table, source)]
        return pyarrow.chunked_array([pyarrow.array(places, pyarrow.int32())])

    return LabelScheme(CHOICE), encode, notes


def _rows(split: RawSplit, table: pyarrow.Table, source: str) -> Iterator[Row]:
    roles = [role for role in ("choices", *CHOICE_ROLES) if role in table.column_names]
    for batch in table.select([*roles, label_column(source), "row"]).to_batches():
        for row in batch.to_pylist():
            answer, choices = row[label_column(source)], choices_of(row)
            if len(choices) < _FEWEST or not all(choice.strip() for choice in choices):
                blank = "one of them empty" if len(choices) >= _FEWEST else "where at least two are meant"
                raise FinetuneError(
                    f"{split.place(row['row'])}: {plural(len(choices), 'choice')}, {blank}",
                    "Correct the row, or remove it.",
                )
            if isinstance(answer, str):
                answer = answer if answer in choices else answer.strip()
            elif isinstance(answer, float) and answer.is_integer():
                answer = int(answer)
            elif answer is not None and (not isinstance(answer, int) or isinstance(answer, bool)):
                raise FinetuneError(f"{split.place(row['row'])}: the answer {answer!r} names no choice", _HINT)
            yield answer or (None if answer == "" else answer), choices, row["row"]


def _number(answer: Any) -> int | None:
    if isinstance(answer, str):
        return int(answer) if answer.lstrip("-").isascii() and answer.lstrip("-").isdigit() else None
    return int(answer)


def _letter(answer: str) -> int | None:
    letter = answer.strip("().").upper()
    return ord(letter) - ord("A") if len(letter) == 1 and "A" <= letter <= "Z" else None


def _place(split: RawSplit, row: Row, by_text: bool, first: int) -> int | None:
    """Return the place of the right choice; None where it is missing or hidden (-1)."""
    answer, choices, number = row
    if answer is None or answer in (-1, "-1"):
        return None
    if by_text and isinstance(answer, str):
        place = choices.index(answer) if answer in choices else None
    else:
        counted = _number(answer)
        place = counted - first if counted is not None else _letter(answer)
    if place is None or not 0 <= place < len(choices):
        raise FinetuneError(
            f"{split.place(number)}: the answer {answer!r} is none of the {len(choices)} choices", _HINT
        )
    return place
