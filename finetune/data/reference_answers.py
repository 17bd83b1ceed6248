"""Answers of questions: texts and where each begins in its context, in the shapes that SQuAD's columns come in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import UNLABELLED_SHARE, label_column
from finetune.data.columns import hint_of_task
from finetune.data.kinds import is_list
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme, all_tasks
from finetune.tasks.question_answering import NOWHERE, SQUAD, SQUAD_V2
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import pyarrow

    from finetune.data.raw import RawSplit

_SHAPE = 'Write them as {"text": ["in Lisbon"], "answer_start": [42]}; without an answer both lists are empty.'


@dataclass
class _Found:
    """What was met while answers were read; `lost` are the rows of which no reference stands in the context."""

    rows: int = 0
    empty: int = 0
    moved: int = 0
    lost: int = 0
    first_lost: str = ""


def read_answers(
    split: RawSplit, table: pyarrow.Table, source: str
) -> tuple[LabelScheme, Callable[[RawSplit, pyarrow.Table], pyarrow.ChunkedArray], tuple[str, ...]]:
    """Decide from train whether questions may lack an answer; return the scheme, what reads a split, and notes.

    An answer that does not stand where it should is sought in its context, and the nearest place taken. Raises
    FinetuneError when the column holds no answers, and when many stand nowhere.
    """
    found = _Found()
    _read(split, table, source, True, found)
    if found.rows and found.empty == found.rows:
        raise FinetuneError(
            f"{split.where}: no question of split {split.name} has an answer (column {source!r}): nothing to learn",
            "Add questions with answers, or map another column: dataset.columns.answers",
        )
    scheme = LabelScheme(SQUAD_V2 if found.empty else SQUAD)
    notes = []
    if found.empty:
        notes.append(f"{split.name}: {found.empty:,} of {plural(found.rows, 'question')} have no answer (SQuAD 2.0).")
    if found.moved:
        notes.append(
            f"{split.name}: {plural(found.moved, 'answer')} did not stand at answer_start; the nearest place was taken."
        )
    if found.lost:
        notes.append(
            f"{split.name}: {plural(found.lost, 'answer')} not in the context, the first is {found.first_lost}."
        )
    return scheme, lambda split, table: _read(split, table, source, bool(found.empty), _Found()), tuple(notes)


def _read(
    split: RawSplit, table: pyarrow.Table, source: str, may_be_empty: bool, found: _Found
) -> pyarrow.ChunkedArray:
    """Return the answers of a split; null where they are missing, hidden, or not in the context."""
    import pyarrow

    kind = pyarrow.struct(
        {"text": pyarrow.list_(pyarrow.large_string()), "answer_start": pyarrow.list_(pyarrow.int32())}
    )
    column = label_column(source)
    _check_type(split, table.schema.field(column).type, source)
    chunks = []
    for batch in table.select([column, "context", "row"]).to_batches():
        values = zip(*(part.to_pylist() for part in batch.columns), strict=True)
        answers = [_answers(split, row, value, context, found) for value, context, row in values]
        chunks.append(pyarrow.array([a if a and (a["text"] or may_be_empty) else None for a in answers], kind))
    if found.lost >= max(1, UNLABELLED_SHARE * found.rows):
        raise FinetuneError(
            f"{found.first_lost} (so in {found.lost:,} of {plural(found.rows, 'row')} of split {split.name})",
            "An answer is a part of its context, letter by letter; answer_start counts characters from 0.",
        )
    return pyarrow.chunked_array(chunks, kind)


def _check_type(split: RawSplit, kind: pyarrow.DataType, source: str) -> None:
    from pyarrow import types

    inner = kind.value_type if is_list(kind) else kind
    fields = {field.name for field in inner} if types.is_struct(inner) else set()
    if not {"text", "answer_start"} <= fields and not types.is_null(inner):
        raise FinetuneError(
            f"{split.where}: column {source!r} (for answers) holds {kind}, where answers with their places are meant",
            _SHAPE + hint_of_task(split, all_tasks()["question-answering"]),
        )


def _answers(split: RawSplit, row: int, value: Any, context: str, found: _Found) -> dict[str, list[Any]] | None:
    """Return the references of a question: all texts, and where each begins (NOWHERE: not in the context)."""
    if value is None:
        return None
    found.rows += 1
    texts, starts = [], []
    for text, start in _pairs(split, row, value):
        place = _place(context, text, start)
        found.moved += place not in (NOWHERE, start)
        texts.append(text.strip())
        starts.append(place if place == NOWHERE else place + len(text) - len(text.lstrip()))
    if texts and max(starts) == NOWHERE:
        if not found.lost:
            found.first_lost = f"{split.place(row)}: the answer {_short(texts[0])} stands nowhere in its context"
        found.lost += 1
        return None
    found.empty += not texts
    return {"text": texts, "answer_start": starts}


def _pairs(split: RawSplit, row: int, value: Any) -> Iterable[tuple[str, int]]:
    each = value if isinstance(value, list) else [value]
    texts = [text for entry in each for text in _as_list(entry["text"])]
    starts = [start for entry in each for start in _as_list(entry["answer_start"])]
    for name, values, kind, meant in (("text", texts, str, "a text"), ("answer_start", starts, int, "a whole number")):
        if other := [value for value in values if not isinstance(value, kind)]:
            raise FinetuneError(f"{split.place(row)}: {name} holds {other[0]!r}, where {meant} is meant", _SHAPE)
    if len(texts) != len(starts):
        raise FinetuneError(
            f"{split.place(row)}: {plural(len(texts), 'answer text')} and {plural(len(starts), 'answer start')}, "
            "where each text has its place",
            _SHAPE,
        )
    return [(text, start) for text, start in zip(texts, starts, strict=True) if text.strip()]


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _place(context: str, text: str, start: int) -> int:
    """Return where an answer begins: at `start`, else at the nearest place where it stands."""
    if start >= 0 and context.startswith(text, start):
        return start
    places = []
    place = context.find(text)
    while place >= 0:
        places.append(place)
        place = context.find(text, place + 1)
    return min(places, key=lambda place: abs(place - start), default=NOWHERE)


def _short(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "…")
