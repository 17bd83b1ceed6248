"""Which column plays which role: what the recipe maps, and the usual names for the rest."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError
from finetune.tasks import all_tasks
from finetune.text import did_you_mean, join_words, with_article

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
    """Return the task with the columns of the form in which its data came: the first of which a split has all it needs.

    Else the one of which it has most, whose missing column can then be named.
    """
    forms = [replace(task, columns=columns, forms=()) for columns in (task.columns, *task.forms)]
    names = {name.strip().casefold() for name in split.columns}
    meant = [form for form in forms if all(any(role == column.role for column in form.columns) for role in given)]
    known = [(form, *_share_known(form, names, given)) for form in meant or forms]
    whole = next((form for form, complete, _ in known if complete), None)
    return whole or max(known, key=lambda each: each[2])[0]


def _share_known(form: Task, names: set[str], given: Collection[str] = ()) -> tuple[bool, int]:
    """Return whether all columns that a form needs are told or found by their names, and how many of all are."""
    known = [column for column in form.columns if column.role in given or names & _names_of(column)]
    return all(column in known for column in form.columns if column.required), len(known)


def _names_of(column: Column) -> set[str]:
    return {column.role, *map(str.casefold, column.usual_names)}


def task_that_fits(split: RawSplit, task: Task) -> str | None:
    """Return another task all of whose columns a split has, and as many as of this one's; None: there is none."""
    names = {name.strip().casefold() for name in split.columns}
    own_complete, own = _share_known(task, names)
    for other in all_tasks().values():
        for columns in (other.columns, *other.forms):
            form = replace(other, columns=columns, forms=())
            tells = any(column.target or column.kind != "text" for column in columns)  # a text alone fits any task
            complete, count = _share_known(form, names)
            if tells and complete and count >= own + own_complete and other.name != task.name:
                return other.name
    return None


def hint_of_task(split: RawSplit, task: Task) -> str:
    """Return words on the task for which the columns of a split are made, "" where none is better."""
    other = task_that_fits(split, task)
    return f" The columns are those of another task: task: {other}" if other else ""


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
            columns[column.role] = _given_columns(split, task, column, given[column.role])
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


def _given_columns(split: RawSplit, task: Task, column: Column, given: str | Sequence[str]) -> str | list[str]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        if name not in split.columns:
            near = did_you_mean(name, _single(split.columns))
            if near is None:
                _refuse_headerless(split, task)
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
    _refuse_headerless(split, task)
    free = [name for name in _single(split.columns) if name not in used] or ["…"]
    mapping = ", ".join(
        f"{role.role}: {free[min(place, len(free) - 1)]}"
        for place, role in enumerate(role for role in task.columns if role.required)
    )
    if used:
        mapping = f"{column.role}: {free[0]}"
    usually = f"{column.role} usually are" if column.role.endswith("s") else f"{with_article(column.role)} usually is"
    hint = f"Say which column it is, for example dataset.columns: {{{mapping}}}"
    if split.where.endswith(".txt") and column.kind in ("tokens", "tags", "spans"):
        hint = "A file with a word and its tag on each line is a conll file: give it the ending .conll"
    elif other := hint_of_task(split, task):
        hint = f"{other.strip()}. If not: {hint}"
    return FinetuneError(
        f"{split.where}: no column is named as {usually} ({', '.join(column.usual_names)}); it has "
        f"{_shown(split.columns)}",
        hint,
    )


def _single(names: Sequence[str]) -> list[str]:
    """Return the columns but for those that are there by their parts too, as `translation` beside `translation.en`."""
    return [name for name in names if not any(other.startswith(f"{name}.") for other in names)]


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


def _refuse_headerless(split: RawSplit, task: Task) -> None:
    if not _looks_like_data(split):
        return
    part = split.parts[0]
    first = ", ".join(repr(name if len(name) <= 40 else name[:37] + "…") for name in part.columns[:4])
    roles = [column.role for column in task.columns if column.required]
    header = (
        ",".join(roles)
        if len(part.columns) == len(roles)
        else ",".join(f"column{i + 1}" for i in range(len(part.columns)))
    )
    file = part.where.rpartition("/")[2]
    raise FinetuneError(
        f"{part.where}:1: the first line looks like a row, not like a header: {first}",
        f"Put a header above it: sed -i '1i {header}' {file}",
    )
