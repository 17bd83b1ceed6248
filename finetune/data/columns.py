"""Which column plays which role: what the recipe maps, and the usual names for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from finetune.data.raw import RawSplit
    from finetune.tasks import Column, Task

ColumnMap = dict[str, str | list[str]]


@dataclass(frozen=True)
class Mapped:
    """The column, or columns, of each role, and what was detected rather than told."""

    columns: ColumnMap
    notes: tuple[str, ...]


def choose_form(split: RawSplit, task: Task, given: Mapping[str, str | Sequence[str]]) -> Task:
    """Return the task with the columns of the form in which its data came, which is the first that a split has."""
    forms = [replace(task, columns=columns, forms=()) for columns in (task.columns, *task.forms)]
    names = {name.strip().casefold() for name in split.columns}
    meant = [form for form in forms if all(any(role == column.role for column in form.columns) for role in given)]
    for form in meant:
        known = (
            column.role in given or names & {column.role, *map(str.casefold, column.usual_names)}
            for column in form.columns
            if column.required
        )
        if all(known):
            return form
    return (meant or forms)[0]


def map_columns(
    split: RawSplit, task: Task, given: Mapping[str, str | Sequence[str]], roles: Sequence[str] | None = None
) -> Mapped:
    """Find the column of every role in a split.

    What `given` maps wins; other roles are found by their exact name, then by their usual names, whatever the
    case. `roles` limits the search (without the target, to predict). Raises FinetuneError when a column is
    missing or two could be meant.
    """
    wanted = [column for column in task.columns if roles is None or column.role in roles]
    columns: ColumnMap = {}
    for column in wanted:
        if column.role in given:
            columns[column.role] = _given_columns(split, column, given[column.role])
    inputs_given = any(role in given for role in columns if role != task.target)
    detected: ColumnMap = {}
    for column in wanted:
        # Who maps one input by hand means exactly that: no second text is added by its name.
        if column.role in columns or (not column.required and inputs_given):
            continue
        found = _detect(split, column, _used(columns) | _used(detected))
        if found is not None:
            detected[column.role] = found
    notes: list[str] = []
    told: set[str] = set()
    lonely = [column for column in wanted if column.required and column.role not in {**columns, **detected}]
    wants_text = lonely and not lonely[0].target and lonely[0].kind == "text"
    if wants_text and (only := _only_text(split, task, _used(columns) | _used(detected))):
        detected[lonely[0].role] = only
        other = "other " if (columns | detected).keys() - {lonely[0].role, task.target} else ""
        notes.append(f"{lonely[0].role} is column {only!r}, the only {other}one with texts.")
        told = {lonely[0].role}
        lonely = lonely[1:]
    if lonely:
        raise _missing(split, task, lonely[0], _used(columns) | _used(detected))
    by_name = {role: name for role, name in detected.items() if name != role and role not in told}
    if by_name:
        pairs = (f"{role} = {name!r}" for role, name in by_name.items())
        notes.append(f"Columns found by their names: {join_words(pairs, 'and')}.")
    found_columns = columns | detected
    ordered = {column.role: found_columns[column.role] for column in wanted if column.role in found_columns}
    return Mapped(ordered, tuple(notes))


def check_columns(split: RawSplit, columns: ColumnMap) -> None:
    """Raise FinetuneError when a file of the split lacks a column that another split has."""
    for part in split.parts:
        for role, names in columns.items():
            for name in [names] if isinstance(names, str) else names:
                if name not in part.columns:
                    raise FinetuneError(
                        f"split {split.name}: {part.where} has no column {name!r} (for {role}); "
                        f"it has {_shown(part.columns)}",
                        "Every split needs the mapped columns, under the same names.",
                    )


def _used(columns: ColumnMap) -> set[str]:
    return {name for names in columns.values() for name in ([names] if isinstance(names, str) else names)}


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(repr(name) for name in names[:20]) + more


def _given_columns(split: RawSplit, column: Column, given: str | Sequence[str]) -> str | list[str]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in split.columns:
            near = did_you_mean(name, split.columns)
            if near is None:
                _refuse_headerless(split)
            raise FinetuneError(
                f"dataset.columns.{column.role}: {split.where} has no column {name!r}; it has {_shown(split.columns)}",
                f"Did you mean {near!r}?" if near else "Name one of them in dataset.columns.",
            )
    if len(set(names)) < len(names):
        raise FinetuneError(f"dataset.columns.{column.role}: names a column twice", "Name each column once.")
    return given if isinstance(given, str) else names


def _detect(split: RawSplit, column: Column, used: set[str]) -> str | None:
    free = [name for name in split.columns if name not in used]
    usual = [name.casefold() for name in column.usual_names]
    found = [name for name in free if name.strip().casefold() == column.role.casefold()]
    found = found or [name for name in free if name.strip().casefold() in usual]
    if len(found) > 1:
        raise FinetuneError(
            f"{split.where}: {join_words(map(repr, found), 'and')} could each be the {column.role}",
            f"Say which: dataset.columns: {{{column.role}: {found[0]}}}",
        )
    return found[0] if found else None


def _only_text(split: RawSplit, task: Task, used: set[str]) -> str | None:
    """Return the only column that holds texts and has no role yet, when there is exactly one."""
    import pyarrow

    part = split.parts[0]
    label_like = {name.casefold() for name in task.column(task.target).usual_names} if task.target else set()
    texts = [
        name
        for name in split.columns
        if name not in used
        and name in part.types
        and name.casefold() not in label_like
        and (pyarrow.types.is_string(part.types[name]) or pyarrow.types.is_large_string(part.types[name]))
        and not (part.untyped and _all_numbers(split, name))
    ]
    return texts[0] if len(texts) == 1 and not _looks_like_data(split) else None


def _all_numbers(split: RawSplit, name: str) -> bool:
    values = split.parts[0].read([name]).column(0).slice(0, 100).to_pylist()
    return all(re.fullmatch(r"\s*[-+]?[\d.]*\s*", value or "") for value in values)


def _missing(split: RawSplit, task: Task, column: Column, used: set[str]) -> FinetuneError:
    _refuse_headerless(split)
    free = [name for name in split.columns if name not in used] or ["…"]
    mapping = ", ".join(
        f"{role.role}: {free[min(place, len(free) - 1)]}"
        for place, role in enumerate(role for role in task.columns if role.required)
    )
    if used:
        mapping = f"{column.role}: {free[0]}"
    return FinetuneError(
        f"{split.where}: no column is named as a {column.role} usually is ({', '.join(column.usual_names)}); "
        f"it has {_shown(split.columns)}",
        f"Say which column it is, for example dataset.columns: {{{mapping}}}",
    )


def _looks_like_data(split: RawSplit) -> bool:
    """Tell whether the header of a csv reads like a row: sentences, numbers, or values of its own columns."""
    import pyarrow.compute as pc

    part = split.parts[0]
    if not part.untyped:
        return False
    if any(len(name) > 40 or len(name.split()) > 3 or re.fullmatch(r"[-+]?[\d.,]+", name) for name in part.columns):
        return True
    table = part.read(part.columns)
    return any(pc.any(pc.equal(table.column(name), name)).as_py() for name in part.columns)


def _refuse_headerless(split: RawSplit) -> None:
    if not _looks_like_data(split):
        return
    part = split.parts[0]
    first = ", ".join(repr(name if len(name) <= 40 else name[:37] + "…") for name in part.columns[:4])
    header = "text,label" if len(part.columns) == 2 else ",".join(f"column{i + 1}" for i in range(len(part.columns)))
    file = part.where.rpartition("/")[2]
    raise FinetuneError(
        f"{part.where}:1: the first line looks like a row, not like a header: {first}",
        f"Put a header above it: sed -i '1i {header}' {file}",
    )
