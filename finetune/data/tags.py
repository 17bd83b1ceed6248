"""Tags of words and spans of texts as ids; BIO under its other spellings (IOB1, IOBES, BILOU) is written as BIO."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import label_column
from finetune.data.kinds import is_list
from finetune.data.label_values import names_of, read_values, sorted_names
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme
from finetune.tasks.token_classification import ENTITIES, IGNORED, OUTSIDE, TAGS
from finetune.text import join_words, plural

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy
    import pyarrow

    from finetune.data.raw import RawSplit

_CHUNK_TAG = re.compile(r"O|[BIESLU]-.+", re.DOTALL)
# A single word, and the last of several: S-, E- (IOBES) or U-, L- (BILOU).
_AS_BIO = {"S": "B", "U": "B", "E": "I", "L": "I", "B": "B", "I": "I"}
_FEWEST_NAMES = 2
_LOOKED_AT = 1000  # rows
_SPAN_SHAPE = 'Write them as [{"start": 0, "end": 3, "label": "person"}], in characters.'
# Tags of entities in another spelling: b-per, B_PER, PER-B, or a B without a type.
_NEARLY_CHUNK = re.compile(r"[BIESLU]([-_ ].+)?|.+[-_][BIESLU]", re.DOTALL | re.IGNORECASE)


@dataclass(frozen=True)
class _TagReader:
    """How the tags of a dataset are read; `fixed` are the names that came with the data, `iob1` that B- is rare."""

    scheme: LabelScheme
    source: str
    fixed: tuple[str, ...] | None
    iob1: bool = False


def read_tags(
    split: RawSplit, table: pyarrow.Table, source: str
) -> tuple[LabelScheme, Callable[[RawSplit, pyarrow.Table], pyarrow.ChunkedArray], tuple[str, ...]]:
    """Decide from train how tags are read; return the scheme, what encodes those of a split as ids, and notes.

    Raises FinetuneError when they are no tags, or not one for each token.
    """
    fixed = split.parts[0].class_names.get(source)
    reader = _TagReader(LabelScheme(TAGS), source, fixed)
    found = sorted_names([name for name in set(_names(reader, split, table).to_pylist()) if name is not None])
    names = fixed or found
    notes: tuple[str, ...] = ()
    if len(found) < _FEWEST_NAMES:
        raise FinetuneError(
            f"{split.where}: column {source!r} holds {join_words(map(repr, found)) or 'no tag'} only: nothing to learn",
            "Map another column: dataset.columns.tags",
        )
    if not all(_CHUNK_TAG.fullmatch(name) for name in names) or OUTSIDE not in names:
        reader = replace(reader, scheme=LabelScheme(TAGS, names))
        notes = _nearly_entities(names)
        _refuse_swapped(split, table, source)
    else:
        reader, notes = _entity_reader(reader, split, table, names)
    return reader.scheme, lambda split, table: _encode(reader, split, table), notes


def _entity_reader(
    reader: _TagReader, split: RawSplit, table: pyarrow.Table, names: tuple[str, ...]
) -> tuple[_TagReader, tuple[str, ...]]:
    import numpy

    prefixes = {name[0] for name in names}
    bio = tuple(dict.fromkeys(_as_bio(name) for name in names))
    if reader.fixed is None or prefixes - {"O", "B", "I"}:
        types = sorted({name[2:] for name in bio if name != OUTSIDE})
        bio = (OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI"))
    reader = replace(reader, scheme=LabelScheme(ENTITIES, bio))
    if prefixes - {"O", "B", "I"}:
        schemes = [name for name, own in (("IOBES", {"S", "E"}), ("BILOU", {"U", "L"})) if prefixes & own]
        mixed = " mixed" if len(schemes) > 1 else ""
        return reader, (f"The tags are {' and '.join(schemes)}{mixed}; they were written as BIO.",)
    ids, lengths = _ids(reader, split, table)
    begins, prefix = _begins(reader, ids, lengths), _prefixes(reader)
    inside_first = int((begins & (prefix[ids] == "I")).sum())
    if _is_iob1(reader, ids, lengths):
        complete = all(f"B-{name[2:]}" in bio for name in bio if name != OUTSIDE)
        if not complete:
            bio = tuple(dict.fromkeys((*bio, *(f"B-{name[2:]}" for name in bio if name != OUTSIDE))))
            reader = replace(reader, scheme=LabelScheme(ENTITIES, bio))
        return replace(reader, iob1=True), (
            "The tags are IOB1 (B- only between neighbours); they were written as BIO.",
        )
    if inside_first:
        rows = int(numpy.unique(numpy.repeat(numpy.arange(len(lengths)), lengths)[begins & (prefix[ids] == "I")]).size)
        note = f"{split.name}: {inside_first:,} of the entities begin with I- and not with B- ({plural(rows, 'row')})."
        return reader, (note,)
    return reader, ()


def _nearly_entities(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return a note where plain tags look like those of entities in a spelling that is not read as such."""
    inside = [name for name in names if name.upper() != OUTSIDE]
    if len(inside) == len(names) or not all(_NEARLY_CHUNK.fullmatch(name) for name in inside):
        return ()
    return (
        f"The tags ({join_words(names[:4], 'and')}) are read as plain ones, scored word by word: those of entities are "
        "written O, B-PER and I-PER.",
    )


def _refuse_swapped(split: RawSplit, table: pyarrow.Table, source: str) -> None:
    """Raise FinetuneError where it is the tokens that read like tags of entities."""
    import pyarrow.compute as pc

    words = pc.unique(pc.list_flatten(table.column("tokens").slice(0, _LOOKED_AT))).to_pylist()
    if OUTSIDE in words and len(words) > 1 and all(map(_CHUNK_TAG.fullmatch, words)):
        raise FinetuneError(
            f"{split.where}: the tokens are tags ({join_words(sorted(words)[:4], 'and')}), and column {source!r} holds "
            "the words",
            f"Change them: dataset.columns: {{tokens: {source}, tags: …}}; in a conll file the word stands first.",
        )


def _is_iob1(reader: _TagReader, ids: numpy.ndarray, lengths: numpy.ndarray) -> bool:
    """Tell whether entities begin with I-, and none that does not follow another one with B-."""
    begins, prefix = _begins(reader, ids, lengths), _prefixes(reader)
    return bool((begins & (prefix[ids] == "I")).any() and not (begins & (prefix[ids] == "B")).any())


def read_known_tags(
    scheme: LabelScheme, split: RawSplit, table: pyarrow.Table, source: str, kind: str
) -> tuple[list[str], Callable[[RawSplit, pyarrow.Table], pyarrow.ChunkedArray]]:
    """Return the tags, or types of spans, that a model lacks, and what encodes a split for it.

    `scheme` is the model's; `kind` is tags or spans.
    """
    if kind == "spans":
        found = {f"B-{span['label']}" for spans in _spans(split, table, source) for span in spans or []}
        return sorted(name[2:] for name in found - set(scheme.names)), lambda split, table: _encode_spans(
            scheme, split, table, source
        )
    reader = _TagReader(scheme, source, split.parts[0].class_names.get(source))
    entities = scheme.problem_type == ENTITIES
    raw = {name for name in _names(reader, split, table).unique().to_pylist() if name is not None}
    unknown = sorted(name for name in raw if (_as_bio(name) if entities else name) not in scheme.names)
    if entities and not unknown:
        reader = replace(reader, iob1=_is_iob1(reader, *_ids(reader, split, table)))
    return unknown, lambda split, table: _encode(reader, split, table)


def _as_bio(name: str) -> str:
    return name if name == OUTSIDE or not _CHUNK_TAG.fullmatch(name) else _AS_BIO[name[0]] + name[1:]


def _names(reader: _TagReader, split: RawSplit, table: pyarrow.Table) -> pyarrow.Array:
    """Return the tags of all words, one after the other, as the data has them; null where a word has none (-100)."""
    import pyarrow
    import pyarrow.compute as pc

    column = table.column(label_column(reader.source))
    if not is_list(column.type):
        raise FinetuneError(
            f"{split.where}: column {reader.source!r} holds {column.type}, where a list of tags is meant",
            'Write one tag a token: {"tokens": ["Ana", "sings"], "tags": ["PROPN", "VERB"]}',
        )
    if is_list(column.type.value_type):
        raise FinetuneError(
            f"{split.where}: column {reader.source!r} holds {column.type}, where one tag a token is meant",
            'Write one tag a token: {"tokens": ["Ana", "sings"], "tags": ["PROPN", "VERB"]}',
        )
    flat = pc.list_flatten(column)
    values = read_values(flat if isinstance(flat, pyarrow.ChunkedArray) else pyarrow.chunked_array([flat]), False)
    if values.array.null_count:
        parents = pc.list_parent_indices(column.combine_chunks())
        place = parents[pc.index(values.array.is_null(), True).as_py()].as_py()
        raise FinetuneError(f"{_place(split, table, place)}: a tag is missing", "Write one tag a token.")
    if values.kind != "integer":
        return names_of(values)
    ids = pc.if_else(pc.equal(values.array, IGNORED), None, values.array)
    if reader.fixed is None:
        return ids.cast(pyarrow.large_string())
    outside = pc.fill_null(pc.or_(pc.less(ids, 0), pc.greater_equal(ids, len(reader.fixed))), False)
    if pc.any(outside).as_py():
        at = pc.index(outside, True).as_py()
        place = pc.list_parent_indices(column.combine_chunks())[at].as_py()
        raise FinetuneError(
            f"{_place(split, table, place)}: tag {ids[at].as_py()} is none of the {len(reader.fixed)} that the data "
            "declares",
            "Correct the row, or the declaration of the column.",
        )
    return pyarrow.array(reader.fixed, pyarrow.large_string()).take(ids)


def _ids(reader: _TagReader, split: RawSplit, table: pyarrow.Table) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the id of every tag (IGNORED where there is none) and how many each row has."""
    import numpy
    import pyarrow
    import pyarrow.compute as pc

    raw = _names(reader, split, table)
    entities = reader.scheme.problem_type == ENTITIES
    different = raw.unique().drop_null()
    bio = {name: _as_bio(name) if entities else name for name in different.to_pylist()}
    places = {name: place for place, name in enumerate(reader.scheme.names)}
    column = table.column(label_column(reader.source))
    if unknown := [name for name in bio if bio[name] not in places]:
        parents = pc.list_parent_indices(column.combine_chunks())
        at = pc.index(raw, unknown[0]).as_py()
        count = pc.sum(pc.equal(raw, unknown[0])).as_py()
        raise FinetuneError(
            f"{_place(split, table, parents[at].as_py())}: tag {unknown[0]!r} does not occur in train "
            f"({plural(count, 'word')} of split {split.name}); train has {join_words(reader.scheme.names[:12], 'and')}",
            "Correct the tag, add rows with it to train, or remove these rows.",
        )
    coded = pc.index_in(raw, value_set=different).to_numpy(zero_copy_only=False)
    ids_of = numpy.array([places[bio[name]] for name in different.to_pylist()], dtype=numpy.int32)
    ids = numpy.full(len(raw), IGNORED, dtype=numpy.int32)
    tagged = raw.is_valid().to_numpy(zero_copy_only=False)
    ids[tagged] = ids_of[coded[tagged].astype(numpy.int64)]
    lengths = pc.fill_null(pc.list_value_length(column), 0)
    lengths = lengths.combine_chunks() if isinstance(lengths, pyarrow.ChunkedArray) else lengths
    return ids, lengths.to_numpy(zero_copy_only=False)


def _prefixes(reader: _TagReader) -> numpy.ndarray:
    """Return B, I or O of each tag; one more for IGNORED, which stands last."""
    import numpy

    size = -IGNORED + 1
    prefixes = numpy.full(max(size, len(reader.scheme.names) + 1), "O")
    prefixes[: len(reader.scheme.names)] = [name[0] for name in reader.scheme.names]
    prefixes[IGNORED] = "O"
    return prefixes


def _begins(reader: _TagReader, ids: numpy.ndarray, lengths: numpy.ndarray) -> numpy.ndarray:
    """Tell at which tags an entity begins as far as the types tell: after another one, none, or a row's start."""
    import numpy

    kinds: dict[str, int] = {}
    of_name = [kinds.setdefault(name[2:], len(kinds)) if name != OUTSIDE else -1 for name in reader.scheme.names]
    kind = numpy.where(ids == IGNORED, -1, numpy.array(of_name)[numpy.maximum(ids, 0)])
    before = numpy.concatenate([[-1], kind[:-1]])
    starts = lengths.cumsum() - lengths
    before[starts[(lengths > 0)]] = -1
    found: numpy.ndarray = (kind >= 0) & (kind != before)
    return found


def _encode(reader: _TagReader, split: RawSplit, table: pyarrow.Table) -> pyarrow.ChunkedArray:
    import numpy
    import pyarrow
    import pyarrow.compute as pc

    column = table.column(label_column(reader.source))
    if pyarrow.types.is_null(column.type):
        return pyarrow.chunked_array([pyarrow.nulls(len(column), pyarrow.list_(pyarrow.int32()))])
    ids, lengths = _ids(reader, split, table)
    missing = column.is_null().to_numpy()
    tokens = pc.list_value_length(table.column("tokens")).to_numpy()
    wrong = (lengths != tokens) & ~missing
    if wrong.any():
        first = int(numpy.argmax(wrong))
        raise FinetuneError(
            f"{_place(split, table, first)}: {plural(int(tokens[first]), 'token')}, but "
            f"{plural(int(lengths[first]), 'tag')} (so in {plural(int(wrong.sum()), 'row')})",
            "Write one tag for each token.",
        )
    if reader.iob1:
        names = reader.scheme.names
        first_of = numpy.array([names.index(_first(name)) for name in names], dtype=numpy.int32)
        begins = _begins(reader, ids, lengths)
        ids[begins] = first_of[ids[begins]]
    offsets = numpy.concatenate([[0], lengths.cumsum()]).astype(numpy.int32)
    lists = pyarrow.ListArray.from_arrays(offsets, ids, mask=pyarrow.array(missing))
    return pyarrow.chunked_array([lists])


def _first(name: str) -> str:
    return name if name == OUTSIDE else f"B{name[1:]}"


def _place(split: RawSplit, table: pyarrow.Table, index: int) -> str:
    return split.place(int(table.column("row")[index].as_py()))


def read_spans(
    split: RawSplit, table: pyarrow.Table, source: str
) -> tuple[LabelScheme, Callable[[RawSplit, pyarrow.Table], pyarrow.ChunkedArray], tuple[str, ...]]:
    """Decide from train which types of entities there are; spans become (start, end, tag of their first word).

    Raises FinetuneError when they are no spans of their texts.
    """
    types = sorted({span["label"] for spans in _spans(split, table, source) for span in spans or []})
    if not types:
        raise FinetuneError(f"{split.where}: column {source!r} holds no span in any row", "Map another column.")
    scheme = LabelScheme(ENTITIES, (OUTSIDE, *(f"{letter}-{kind}" for kind in types for letter in "BI")))
    return scheme, lambda split, table: _encode_spans(scheme, split, table, source), ()


def _spans(split: RawSplit, table: pyarrow.Table, source: str) -> list[Any]:
    from pyarrow import types

    column = table.column(label_column(source))
    kind = column.type
    inner = kind.value_type if is_list(kind) else None
    fields = {field.name for field in inner} if inner is not None and types.is_struct(inner) else set()
    if not {"start", "end", "label"} <= fields and not (inner is not None and types.is_null(inner)):
        raise FinetuneError(
            f"{split.where}: column {source!r} holds {kind}, where a list of spans is meant", _SPAN_SHAPE
        )
    return [
        None if spans is None else [_span(split, table, index, span) for span in spans]
        for index, spans in enumerate(column.to_pylist())
    ]


def _span(split: RawSplit, table: pyarrow.Table, index: int, span: dict[str, Any] | None) -> dict[str, Any]:
    """Return a span with its label as a text; raises FinetuneError where a part of it is missing or of another type."""
    span = span or {}
    for name, kinds, meant in (
        ("start", int, "a whole number"), ("end", int, "a whole number"), ("label", (str, int), "a type of entity")
    ):  # fmt: skip
        value = span.get(name)
        if not isinstance(value, kinds) or value == "":
            raise FinetuneError(
                f"{_place(split, table, index)}: the {name} of a span is "
                f"{'missing' if value is None else repr(value)}, where {meant} is meant",
                _SPAN_SHAPE,
            )
    return {**span, "label": str(span["label"])}


def _encode_spans(scheme: LabelScheme, split: RawSplit, table: pyarrow.Table, source: str) -> pyarrow.ChunkedArray:
    import pyarrow

    ids = {name[2:]: place for place, name in enumerate(scheme.names) if name.startswith("B-")}
    encoded: list[Any] = []
    texts = table.column("text").to_pylist()
    for index, (text, spans) in enumerate(zip(texts, _spans(split, table, source), strict=True)):
        ordered = None if spans is None else sorted((span["start"], span["end"], span["label"]) for span in spans)
        for place, (start, end, label) in enumerate(ordered or []):
            where = f"{_place(split, table, index)}: the span {start}–{end} ({label})"
            if not 0 <= start < end <= len(text):
                raise FinetuneError(
                    f"{where} is no part of the text, which has {len(text)} characters", "Count characters from 0."
                )
            if not text[start:end].strip():
                raise FinetuneError(f"{where} holds no word", "Count characters from 0; end is the one after the last.")
            if ordered and place and start < ordered[place - 1][1]:
                raise FinetuneError(f"{where} overlaps the one before it", "A word can be of one entity only.")
            if label not in ids:
                raise FinetuneError(
                    f"{where}: its type does not occur in train, which has {join_words(ids, 'and')}",
                    "Correct the span, or add rows of this type to train.",
                )
        encoded.append(None if ordered is None else [[start, end, ids[label]] for start, end, label in ordered])
    return pyarrow.chunked_array([pyarrow.array(encoded, pyarrow.list_(pyarrow.list_(pyarrow.int32())))])
