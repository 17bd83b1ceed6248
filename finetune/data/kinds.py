"""What the columns of a task hold, and how each kind of value is read: text, tokens, texts, references, messages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.text import did_you_mean, join_words, plural

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True)
class Kind:
    """One kind of value: what messages call it, and the functions that read it.

    reads(type): whether a column of that type of the source can be read. cast(array): its values as they are kept.
    present(array): which of them are there, so that the row can be used (bool).
    fault(column): the first row whose value is of that type and yet wrong (from 0), in words, and the remedy.
    """

    words: str
    remedy: str
    reads: Callable[[Any], bool]
    cast: Callable[[Any], Any]
    present: Callable[[Any], Any]
    fault: Callable[[Any], tuple[int, str, str] | None] | None = None


def is_text(kind: pyarrow.DataType) -> bool:
    """Tell whether a type holds texts."""
    from pyarrow import types

    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def is_number(kind: pyarrow.DataType) -> bool:
    """Tell whether a type holds numbers, which can be written out as text."""
    from pyarrow import types

    return bool(types.is_integer(kind) or types.is_floating(kind))


def is_list(kind: pyarrow.DataType) -> bool:
    """Tell whether a type holds lists."""
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _as_text(array: Any) -> Any:
    import pyarrow

    return array.cast(pyarrow.large_string())


def _has_text(array: Any) -> Any:
    import pyarrow.compute as pc

    return pc.greater(pc.fill_null(pc.utf8_length(pc.utf8_trim_whitespace(array)), 0), 0)


def _reads_texts(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return is_list(kind) and (is_text(kind.value_type) or is_number(kind.value_type) or types.is_null(kind.value_type))


def _as_texts(array: Any) -> Any:
    import pyarrow
    import pyarrow.compute as pc

    lists = array.cast(pyarrow.large_list(pyarrow.large_string()))
    if lists.flatten().null_count == 0:
        return lists
    filled = pc.fill_null(lists.values, "")
    return pyarrow.LargeListArray.from_arrays(lists.offsets, filled, mask=lists.is_null())


def _has_texts(array: Any) -> Any:
    import pyarrow.compute as pc

    return pc.greater(pc.fill_null(pc.list_value_length(array), 0), 0)


def _reads_references(kind: pyarrow.DataType) -> bool:
    return is_text(kind) or is_number(kind) or _reads_texts(kind)


def _as_references(array: Any) -> Any:
    """Return lists of texts, of one where there is one."""
    import pyarrow

    if is_list(array.type):
        return _as_texts(array)
    offsets = pyarrow.array(range(len(array) + 1), pyarrow.int64())
    return _as_texts(pyarrow.LargeListArray.from_arrays(offsets, _as_text(array), mask=array.is_null()))


def _has_reference(array: Any) -> Any:
    """Tell which lists hold a text that is not empty."""
    import pyarrow

    rows = (row.as_py() or () for row in array)
    return pyarrow.array((any(text.strip() for text in texts) for texts in rows), pyarrow.bool_())


def _reads_messages(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    if not (is_list(kind) and types.is_struct(kind.value_type)):
        return False
    fields = {field.name: field.type for field in kind.value_type}
    return all(name in fields and is_text(fields[name]) for name in _MESSAGE)


def _as_messages(array: Any) -> Any:
    import pyarrow

    text = pyarrow.large_string()
    kind = pyarrow.large_list(pyarrow.struct([(name, text) for name in _MESSAGE]))
    # Other keys of a message, as the calls of tools, are left out.
    read = (
        None if row is None else [{name: (message or {}).get(name) or "" for name in _MESSAGE} for message in row]
        for row in array.to_pylist()
    )
    return pyarrow.array(read, kind)


_MESSAGE = ("role", "content")
_ANSWERS, _OTHER_ROLES = "assistant", ("system", "developer", "user", "tool", "function", "ipython")
# Some conversations without an answer are slips; more are a sign that the roles are named in another way.
_SILENT_SHARE = 0.05


def _has_answer(array: Any) -> Any:
    import pyarrow

    return pyarrow.array(map(_answered, array.to_pylist()), pyarrow.bool_())


def _answered(messages: list[dict[str, str] | None] | None) -> bool:
    """Tell whether the assistant says something in a conversation."""
    said = (message for message in messages or () if message is not None and message["role"] == _ANSWERS)
    return any((message["content"] or "").strip() for message in said)


def _fault_of_messages(column: Any) -> tuple[int, str, str] | None:
    rows = column.to_pylist()
    for place, row in enumerate(rows):
        for message in row or ():
            role = (message or {}).get("role")
            if role not in (_ANSWERS, *_OTHER_ROLES):
                known = join_words((_ANSWERS, *_OTHER_ROLES))
                near = did_you_mean(str(role), (_ANSWERS, *_OTHER_ROLES))
                remedy = f"Did you mean {near}?" if near else f"Write {known}; who answers is the {_ANSWERS}."
                words = f"a message has {'no role' if role is None else f'the role {role!r}'}, where {known} is meant"
                return place, words, remedy
    silent = [place for place, row in enumerate(rows) if row and not _answered(row)]
    if not silent or len(silent) < _SILENT_SHARE * len(rows):
        return None
    words = f"no message of the {_ANSWERS} says anything (so in {len(silent):,} of {plural(len(rows), 'row')})"
    return silent[0], words, f"The answers of the {_ANSWERS} are what is learned: add them, or remove these rows."


_TEXTS = Kind(
    "no list of texts", 'Write lists of texts (jsonl: ["a", "b"]), or map another column: dataset.columns.',
    _reads_texts, _as_texts, _has_texts,
)  # fmt: skip


def _reads_choices(kind: pyarrow.DataType) -> bool:
    from pyarrow import types

    return _reads_texts(_text_field(kind).type if types.is_struct(kind) and _text_field(kind) else kind)


def _text_field(kind: pyarrow.DataType) -> Any:
    """Return the field of the texts in ARC's form, {"text": [...], "label": [...]}."""
    place = kind.get_field_index("text")
    return kind.field(place) if place >= 0 else None


def _fault_of_choices(column: Any) -> tuple[int, str, str] | None:
    """Find the labels of ARC's form by which an answer would name another choice than its place among them."""
    from pyarrow import types

    if not types.is_struct(column.type) or column.type.get_field_index("label") < 0:
        return None
    for place, row in enumerate(column.to_pylist()):
        texts, labels = (list((row or {}).get(name) or ()) for name in ("text", "label"))
        count = len(texts)
        ways = [
            [chr(ord("A") + n) for n in range(count)],
            *([str(n + first) for n in range(count)] for first in (0, 1)),
        ]
        if [str(label).upper() for label in labels] not in ways:
            words = f"{plural(count, 'choice')} with the labels {join_words(map(str, labels), 'and') or '(none)'}"
            return place, words, "Give each choice its label, in order: A, B, C … or 1, 2, 3 …"
    return None


def _as_choices(array: Any) -> Any:
    from pyarrow import types

    if types.is_struct(array.type):
        array = array.flatten()[array.type.get_field_index("text")]
    return _as_texts(array)


KINDS = {
    "text": Kind(
        "no text", "Write texts as strings, or map another column: dataset.columns.",
        lambda kind: is_text(kind) or is_number(kind), _as_text, _has_text,
    ),
    "references": Kind(
        "neither texts nor lists of texts", "Write texts as strings, or map another column: dataset.columns.",
        _reads_references, _as_references, _has_reference,
    ),
    "messages": Kind(
        "no messages", 'Write each row as [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}].',
        _reads_messages, _as_messages, _has_answer, _fault_of_messages,
    ),
    "tokens": _TEXTS,
    "texts": _TEXTS,
    "choices": Kind(
        "no list of choices", 'Write lists of texts (jsonl: ["a", "b"]), or {"text": ["a", "b"]}, as ARC has them.',
        _reads_choices, _as_choices, _has_texts, _fault_of_choices,
    ),
}  # fmt: skip
