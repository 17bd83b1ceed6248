"""Say in words what a setting may hold and what was found instead."""

import types
import typing
from collections.abc import Iterator
from typing import Any

import annotated_types
from pydantic.fields import FieldInfo

from finetune.recipe.kinds import Words
from finetune.text import did_you_mean, join_words

_LONGEST_SHOWN = 60
_YES = {"yes": "true", "on": "true", "no": "false", "off": "false"}


def expected(field: FieldInfo) -> str:
    """Return what a setting may hold: "a whole number, at least 1, or null"."""
    choices = list(_choices(field.annotation, field.metadata))
    return join_words(dict.fromkeys(choices))


def found(value: Any) -> str:
    """Return a value as an error names it: "the text 'fast'"."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value if len(value) <= _LONGEST_SHOWN else value[:_LONGEST_SHOWN] + '…'!r}"
    return "a list" if isinstance(value, list) else "a mapping"


def remedy(field: FieldInfo, value: Any) -> str | None:
    """Return what was probably meant by a value that is refused, as words to append, or None."""
    words = allowed_words(field)
    kinds = {kind for kind, _ in _parts(field.annotation, field.metadata)}
    if isinstance(value, bool) and not value and "no" in words:
        return "did you mean no?"
    if value is None and "none" in words:
        return "did you mean none?"
    if isinstance(value, str):
        if near := did_you_mean(value, words):
            return f"did you mean {near}?"
        if bool in kinds and value.lower() in _YES:
            return f"write {_YES[value.lower()]}"
        if kinds & {int, float} and (number := _number_in(value)):
            return f"write {number}"
    if isinstance(value, bool | int | float) and kinds & {str, Words}:
        return "put it in quotes"
    return None


def allowed_words(field: FieldInfo) -> list[str]:
    """Return the words that a setting may hold, in a list too; empty when it is not a choice of words."""
    literals = (part for kind, part in _parts(field.annotation, field.metadata) if kind is typing.Literal)
    return [word for literal in literals for word in typing.get_args(literal)]


def _number_in(text: str) -> str | None:
    cleaned = text.replace("_", "").replace(",", ".").rstrip("%")
    try:
        float(cleaned)
    except ValueError:
        return None
    return cleaned if not text.endswith("%") else f"{float(cleaned) / 100:g}"


def _choices(kind: Any, metadata: list[Any]) -> Iterator[str]:
    for origin, part in _parts(kind, metadata, lists=False):
        if origin is typing.Literal:
            yield from map(str, typing.get_args(part))
        elif origin is Words:
            yield part.text
        elif origin is list:
            yield f"a list of {_plural_words(typing.get_args(part)[0])}"
        elif origin is dict:
            yield "a mapping (key: value)"
        elif origin is types.NoneType:
            yield "null"
        elif origin is bool:
            yield "true or false"
        elif origin in (int, float):
            yield ("a whole number" if origin is int else "a number") + _range(part)
        else:
            yield "a text"


def _plural_words(kind: Any) -> str:
    words = join_words(_choices(kind, []), "or")
    return (
        words.replace("a text", "texts")
        .replace("a whole number", "whole numbers")
        .replace("a number", "numbers")
        .replace("a mapping (key: value)", "mappings")
    )


def _range(metadata: list[Any]) -> str:
    bounds = {type(mark): mark for mark in metadata}
    low, above = bounds.get(annotated_types.Ge), bounds.get(annotated_types.Gt)
    high, below = bounds.get(annotated_types.Le), bounds.get(annotated_types.Lt)
    if low and high:
        return f" from {low.ge} to {high.le}"
    words = [
        f"at least {low.ge}" if low else f"above {above.gt}" if above else "",
        f"at most {high.le}" if high else f"below {below.lt}" if below else "",
    ]
    said = " and ".join(word for word in words if word)
    return f" {said}" if said else ""


def _parts(kind: Any, metadata: list[Any], lists: bool = True) -> Iterator[tuple[Any, Any]]:
    """Yield (type, detail) for every alternative of an annotation; with `lists` what a list holds counts too."""
    if typing.get_origin(kind) is typing.Annotated:
        inner, *marks = typing.get_args(kind)
        yield from _parts(inner, [*metadata, *_flat(marks)], lists)
    elif typing.get_origin(kind) in (typing.Union, types.UnionType):
        for part in typing.get_args(kind):
            yield from _parts(part, metadata, lists)
    elif typing.get_origin(kind) is typing.Literal:
        yield typing.Literal, kind
    elif typing.get_origin(kind) is list:
        yield list, kind
        if lists:
            yield from _parts(typing.get_args(kind)[0], [], lists)
    elif typing.get_origin(kind) is dict:
        yield dict, kind
        if lists:
            yield from _parts(typing.get_args(kind)[1], [], lists)
    else:
        words = next((mark for mark in metadata if isinstance(mark, Words)), None)
        yield (Words, words) if words else (kind, metadata)


def _flat(marks: list[Any]) -> Iterator[Any]:
    for mark in marks:
        if isinstance(mark, FieldInfo):
            yield from mark.metadata
        else:
            yield mark
