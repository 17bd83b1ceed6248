"""A labelled file for a model that is trained already: columns by role, labels as the model numbers them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import drop_unlabelled, label_column, read_clean
from finetune.data.columns import ColumnMap, check_columns, choose_form, map_columns
from finetune.data.files import read_file
from finetune.data.fingerprint import digest_table, fingerprint_splits
from finetune.data.label_sets import names_in_lists
from finetune.data.label_values import Values, names_of, read_values
from finetune.data.labels import LabelReader, all_hidden, encode_labels
from finetune.data.raw import RawSplit
from finetune.data.stream import with_target
from finetune.data.tags import read_known_tags
from finetune.data.targets import Target, read_target
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme, Task
from finetune.tasks.text_classification import MULTI, REGRESSION, SINGLE
from finetune.text import did_you_mean, join_words, plural

if TYPE_CHECKING:
    import pyarrow

SPLIT = "rows"


@dataclass(frozen=True)
class Labelled:
    """The rows of a file as a datasets.Dataset by role, with `row`, their 1-based number in it.

    `task`: with the columns of the form in which they came; `columns`: source column(s) by role.
    """

    rows: Any
    task: Task
    columns: ColumnMap
    dropped: int
    fingerprint: str
    notes: tuple[str, ...]


def read_labelled(
    path: Path, task: Task, known: Mapping[str, Any], given: Mapping[str, str], labels: LabelScheme
) -> Labelled:
    """Read, check and label a file.

    `known` are the columns of the data that the model was trained on, taken where the file has them; `given` those of
    the command line. Raises FinetuneError, in the words of the command line.
    """
    split = RawSplit(SPLIT, (read_file(path),))
    columns, task, found = _columns(split, task, known, given)
    check_columns(split, columns)
    cleaned = read_clean(split, columns, task)
    target = _known_target(task, split, cleaned.table, columns, labels)
    encoded = target.encode(split, cleaned.table)
    if task.target is not None and all_hidden(encoded, labels):
        raise FinetuneError(f"{split.where}: no row has a label", "finetune predict answers rows without labels.")
    cleaned, encoded = drop_unlabelled(split, cleaned, encoded, task)
    table = with_target(_inputs(cleaned.table), task, encoded).append_column("row", cleaned.table.column("row"))
    fingerprint = fingerprint_splits({SPLIT: digest_table(table)}, labels.names)
    notes = (*(note for part in split.parts for note in part.notes), *found, *cleaned.notes, *target.notes)
    return Labelled(_dataset(table, fingerprint), task, columns, cleaned.dropped, fingerprint, notes)


def _dataset(table: pyarrow.Table, fingerprint: str) -> Any:
    import datasets

    return datasets.Dataset(table, fingerprint=f"{fingerprint[:32]}-{SPLIT}")


def _inputs(table: pyarrow.Table) -> pyarrow.Table:
    return table.select(
        [name for name in table.column_names if not name.startswith(label_column("")) and name != "row"]
    )


def _columns(
    split: RawSplit, task: Task, known: Mapping[str, Any], given: Mapping[str, str]
) -> tuple[ColumnMap, Task, tuple[str, ...]]:
    there = {role: names for role, names in known.items() if set(_listed(names)) <= set(split.columns)}
    roles = {column.role for column in task.all_columns}
    columns = {role: names for role, names in (there | dict(given)).items() if role in roles}
    form = choose_form(split, task, columns)
    columns = {role: names for role, names in columns.items() if any(role == column.role for column in form.columns)}
    try:
        mapped = map_columns(split, form, columns)
    except FinetuneError as error:
        if "dataset.columns" not in f"{error.message} {error.hint}":
            raise
        message = error.message.replace("dataset.columns.", "--column ")
        raise FinetuneError(message, _column_hint(split, form, known, columns)) from error
    return mapped.columns, form, mapped.notes


def _listed(names: Any) -> list[str]:
    return [names] if isinstance(names, str) else list(names)


def _column_hint(split: RawSplit, task: Task, known: Mapping[str, Any], columns: Mapping[str, Any]) -> str:
    """Say which column is probably meant: one named much as in the run's own data, or as the role."""
    for column in task.columns:
        if not column.required or column.role in columns:
            continue
        own = [name for name in _listed(known.get(column.role, [])) if name not in split.columns]
        taken = {name for names in columns.values() for name in _listed(names)}
        for name in (*own, column.role):
            near = did_you_mean(name, set(split.columns) - taken)
            if near:
                called = f" The run's own data calls it {own[0]!r}." if own else ""
                return f"Did you mean --column {column.role}={near}?{called}"
    wanted = " ".join(f"--column {column.role}=<column>" for column in task.columns if column.required)
    return f"Say which column it is: {wanted}"


def _known_target(task: Task, split: RawSplit, table: pyarrow.Table, columns: ColumnMap, labels: LabelScheme) -> Target:
    """Return how targets are read when the labels are fixed; raises FinetuneError that names all unknown ones."""
    if task.target is None:
        return read_target(task, split, table, columns, "auto")
    source = columns[task.target]
    match task.column(task.target).kind:
        case "label" if labels.problem_type == SINGLE:
            return _read_classes(split, table, str(source), labels)
        case "label":
            if labels.problem_type == MULTI and isinstance(source, str):
                _require_lists(split, table, source)
                fixed = split.parts[0].class_names.get(source)
                names = names_in_lists(split, table, table.column(label_column(source)), fixed)
                _require_known(split, dict.fromkeys(names), labels.names)
            reader = LabelReader(labels, source, "float" if labels.problem_type == REGRESSION else "list")
            return Target(labels, lambda split, table: encode_labels(reader, split, table))
        case "tags" | "spans" as kind:
            unknown, encode = read_known_tags(labels, split, table, str(source), kind)
            _require_known(split, dict.fromkeys(unknown), labels.names)
            return Target(labels, encode)
        case _:
            return read_target(task, split, table, columns, "auto")


def _require_lists(split: RawSplit, table: pyarrow.Table, source: str) -> None:
    from finetune.data.kinds import is_list

    kind = table.column(label_column(source)).type
    if not is_list(kind):
        raise FinetuneError(
            f"{split.where}: column {source!r} holds {kind}, where the model gives several labels a row",
            'Write them as lists: jsonl with "labels": ["a", "b"].',
        )


def _read_classes(split: RawSplit, table: pyarrow.Table, source: str, labels: LabelScheme) -> Target:
    """Read one label a row by its name; numbers are names, or the places of names that the file or the model has."""
    import pyarrow
    import pyarrow.compute as pc

    column = table.column(label_column(source))
    if pyarrow.types.is_nested(column.type):
        raise FinetuneError(
            f"{split.where}: column {source!r} holds {column.type}, where the model gives one label a row",
            "Name another column: --column label=<column>",
        )
    values = _values(split, column, labels)
    found, notes = names_of(values), tuple[str, ...]()
    if values.kind == "integer" and not set(found.drop_null().to_pylist()) - {"-1"} <= set(labels.names):
        found, notes = _by_place(split, source, values, labels)
    if values.kind != "text" and "-1" not in labels.names:  # hidden
        found = pc.if_else(pc.equal(found, "-1"), None, found)
    counts = {entry["values"]: entry["counts"] for entry in found.drop_null().value_counts().to_pylist()}
    _require_known(split, counts, labels.names)
    ids = pc.index_in(found, value_set=pyarrow.array(labels.names, pyarrow.large_string())).cast(pyarrow.int64())
    return Target(labels, lambda split, table: pyarrow.chunked_array([ids]), notes)


def _values(split: RawSplit, column: pyarrow.ChunkedArray, labels: LabelScheme) -> Values:
    """Read the labels of a csv as numbers or booleans only where that gives the names that the model has."""
    import pyarrow.compute as pc

    untyped = any(part.untyped for part in split.parts)
    as_texts = read_values(column, False)
    if untyped and not set(as_texts.array.drop_null().unique().to_pylist()) <= set(labels.names):
        values = read_values(column, True)
        if values.kind != "text":
            return values
    if as_texts.kind == "text" and set(labels.names) <= {"true", "false"}:
        return Values("text", pc.utf8_lower(as_texts.array))
    return as_texts


def _by_place(
    split: RawSplit, source: str, values: Values, labels: LabelScheme
) -> tuple[pyarrow.Array, tuple[str, ...]]:
    """Return numbers as the names that the file itself declares, else as the model's own names by their ids."""
    import pyarrow
    import pyarrow.compute as pc

    fixed = split.parts[0].class_names.get(source)
    names = fixed or labels.names
    places = pc.if_else(pc.equal(values.array, -1), None, values.array)
    outside = pc.or_(pc.less(places, 0), pc.greater_equal(places, len(names)))
    if pc.any(pc.fill_null(outside, False)).as_py():
        return names_of(values), ()
    found = pyarrow.array(names, pyarrow.large_string()).take(places)
    if fixed is not None:
        return found, ()
    shown = ", ".join(f"{place} = {name}" for place, name in enumerate(names[:8]))
    return found, (f"The labels are numbers, read as the ids of the model: {shown}{', …' if len(names) > 8 else ''}.",)


def _require_known(split: RawSplit, counts: Mapping[str, int | None], names: tuple[str, ...]) -> None:
    """Raise FinetuneError that names every label that the model does not have, with how often it occurs."""
    unknown = [name for name in counts if name not in names]
    if not unknown:
        return
    shown = [_counted(name, counts[name]) for name in sorted(unknown, key=lambda name: -(counts[name] or 0))]
    more = f" and {len(shown) - 12} more" if len(shown) > 12 else ""
    near = {name: found for name in unknown[:12] if (found := did_you_mean(name, names))}
    guesses = (f"{found!r} for {name!r}" for name, found in near.items())
    raise FinetuneError(
        f"{split.where}: the model has no label {join_words(shown[:12], 'and') if not more else ', '.join(shown[:12])}"
        f"{more}; it has {_some(names)}",
        (f"Did you mean {join_words(guesses, 'and')}? " if near else "")
        + "Correct the labels or remove these rows: a model cannot give an answer that it never learned.",
    )


def _counted(name: str, count: int | None) -> str:
    return repr(name) if count is None else f"{name!r} ({plural(count, 'row')})"


def _some(names: Iterable[str]) -> str:
    every = list(names)
    return ", ".join(map(repr, every[:12])) + (f" and {len(every) - 12} more" if len(every) > 12 else "")
