"""Label values of any type as canonical names: `3`, `3.0` and `"3"` of a csv are one label."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow

EXACT_BELOW = 2**53  # beyond, two whole numbers may be the same float64
_ZERO_PADDED = r"^\s*[-+]?0\d"
_INTEGER = r"^\s*[-+]?\d+\s*$"
_NO_NUMBER = ("nan", "na", "n/a", "null", "none")


@dataclass(frozen=True)
class Values:
    """A column of labels and what it holds: text, boolean, integer or float; missing values are null."""

    kind: str
    array: pyarrow.Array


def read_values(column: pyarrow.ChunkedArray, untyped: bool) -> Values:
    """Tell what a label column holds.

    Texts are stripped and empty ones are missing. In an untyped source (csv) texts that are all numbers, or
    all true/false, are read as such; numbers padded with zeros (codes) stay texts. NaN is missing.
    """
    import pyarrow
    import pyarrow.compute as pc
    from pyarrow import types

    array = column.combine_chunks()
    if types.is_boolean(array.type):
        return Values("boolean", array)
    if types.is_integer(array.type):
        try:
            return Values("integer", array.cast(pyarrow.int64()))
        except pyarrow.ArrowInvalid:  # beyond 2**63, in uint64: as texts they stay apart
            return Values("text", array.cast(pyarrow.large_string()))
    if types.is_floating(array.type) or types.is_decimal(array.type):
        floats = array.cast(pyarrow.float64())
        return Values("float", pc.if_else(pc.is_nan(floats), None, floats))
    if types.is_null(array.type):
        return Values("text", array.cast(pyarrow.large_string()))
    texts = pc.utf8_trim_whitespace(array.cast(pyarrow.large_string()))
    texts = pc.if_else(pc.equal(texts, ""), None, texts)
    return _typed(texts) if untyped else Values("text", texts)


def as_numbers(texts: pyarrow.Array) -> Values | None:
    """Read texts as numbers; None when one of them is none. `nan`, `null` and the like count as missing."""
    import pyarrow
    import pyarrow.compute as pc

    real = pc.if_else(pc.is_in(pc.utf8_lower(texts), pyarrow.array(_NO_NUMBER, pyarrow.large_string())), None, texts)
    found = real.drop_null()
    if len(found) == 0 or pc.any(pc.match_substring_regex(found, _ZERO_PADDED)).as_py():
        return None
    try:
        floats = pc.utf8_ltrim(real, "+").cast(pyarrow.float64())
        if pc.all(pc.match_substring_regex(found, _INTEGER)).as_py():
            return Values("integer", pc.utf8_ltrim(real, "+").cast(pyarrow.int64()))
    except pyarrow.ArrowInvalid:
        return None
    return Values("float", floats)


def whole(values: Values) -> bool:
    """Tell whether every number is a whole one."""
    import pyarrow.compute as pc

    if values.kind == "integer":
        return True
    found = values.array.drop_null()
    return values.kind == "float" and bool(pc.all(pc.equal(found, pc.floor(found))).as_py())


def first_inexact(values: Values) -> int | None:
    """Return the place of the first whole number that floats cannot tell from its neighbours, or None.

    It came as a float, or beside one: JSON has one kind of number only, and mixed columns become floats.
    """
    import pyarrow.compute as pc

    if values.kind != "float" or not whole(values):
        return None
    place = pc.index(pc.greater_equal(pc.abs(values.array), float(EXACT_BELOW)), True).as_py()
    return None if place < 0 else int(place)


def names_of(values: Values) -> pyarrow.Array:
    """Return the values as names: texts as they are, `true`, `7`, `0.5`."""
    import pyarrow

    if values.kind == "text":
        return values.array.cast(pyarrow.large_string())
    if values.kind == "float" and whole(values):
        return values.array.cast(pyarrow.int64(), safe=False).cast(pyarrow.large_string())
    return values.array.cast(pyarrow.large_string())


def sorted_names(names: list[str]) -> tuple[str, ...]:
    """Sort label names: numbers by value, everything else by code point."""
    if all(re.fullmatch(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?", name) for name in names):
        return tuple(sorted(names, key=lambda name: (float(name), name)))
    return tuple(sorted(names))


def _typed(texts: pyarrow.Array) -> Values:
    import pyarrow
    import pyarrow.compute as pc

    lowered = pc.utf8_lower(texts)
    if (
        len(lowered.drop_null())
        and pc.all(pc.is_in(lowered.drop_null(), pyarrow.array(["true", "false"], pyarrow.large_string()))).as_py()
    ):
        return Values("boolean", pc.equal(lowered, "true"))
    return as_numbers(texts) or Values("text", texts)
