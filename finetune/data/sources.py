"""From a recipe's `dataset` section to checked splits: read, map, clean, label, split, sample."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import Cleaned, drop_unlabelled, read_clean
from finetune.data.columns import ColumnMap, check_columns, choose_form, map_columns
from finetune.data.files import format_of, missing_file, read_data_files, read_file, read_split
from finetune.data.fingerprint import digest_table, fingerprint_each, fingerprint_splits
from finetune.data.folders import read_folder
from finetune.data.hub import is_hub_id, read_hub
from finetune.data.labels import all_hidden
from finetune.data.raw import loaded
from finetune.data.splits import DEFAULT_VALIDATION_SHARE, Chosen, choose_splits, sample_rows
from finetune.data.spool import as_array, take_rows
from finetune.data.stream import Stream, look_through, with_target
from finetune.data.streamed_files import open_streamed
from finetune.data.targets import Target, read_target
from finetune.data.text_files import read_error
from finetune.errors import FinetuneError
from finetune.package_paths import is_package_path, resolve_package_path
from finetune.recipe.data_formats import BUILDERS
from finetune.tasks import LabelScheme
from finetune.tasks.text_classification import MULTI, REGRESSION
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy
    import pyarrow

    from finetune.data.raw import RawSplit
    from finetune.recipe.schema import Recipe
    from finetune.tasks import Task


@dataclass(frozen=True)
class LoadedData:
    """A dataset ready to be tokenised.

    `task`: with the columns of the form in which the data came. `splits`: train, validation and maybe test, as
    datasets.Dataset whose columns are roles (text, text_pair?, label) plus `row`, the 1-based row number in the
    source. A label is an id, a list of 0/1 per label, or a number. `fingerprint`: sha256 of the content;
    `fingerprints`: of each split. `dropped`: rows dropped by split. `columns`: source column(s) by role.
    `stream`: the training rows where they are streamed; `splits["train"]` then has only target and row.
    """

    task: Task
    splits: dict[str, Any]
    labels: LabelScheme
    fingerprint: str
    fingerprints: dict[str, str]
    revision: str | None
    dropped: dict[str, int]
    notes: tuple[str, ...]
    columns: ColumnMap
    stream: Stream | None = None


@dataclass(frozen=True)
class Source:
    """The splits of a dataset as found, the resolved commit of a hub dataset, and notes."""

    splits: dict[str, RawSplit]
    revision: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """A split on its way: its rows, cleaned, with labels as the model takes them."""

    raw: RawSplit
    cleaned: Cleaned
    labels: pyarrow.ChunkedArray


def load_data(recipe: Recipe, task: Task, rows_needed: int | None = None, with_test: bool = True) -> LoadedData:
    """Read, check, label and split the dataset of a recipe.

    `rows_needed` is how many training rows the run will see at most (None: all); of a stream no more are read. Without
    `with_test` the test split is in the fingerprints only, so that nobody can look at it.
    Raises FinetuneError naming file, row and remedy for everything that has no plain right answer.
    """
    settings = recipe.dataset
    source = find_source(settings)
    chosen = choose_splits(list(source.splits), settings.splits)
    train = source.splits[chosen.train]
    task = choose_form(train, task, settings.columns or {})
    mapped = map_columns(train, task, settings.columns or {})
    check_columns(train, mapped.columns)
    notes = [*source.notes, *_part_notes(source, chosen), *chosen.notes, *mapped.notes]
    looked = None
    if settings.streaming:
        looked = look_through(train, mapped.columns, task, settings.problem_type, rows_needed)
        target, dropped = looked.target, {"train": looked.dropped}
        notes += looked.notes
        tables = {}
    else:
        cleaned = read_clean(train, mapped.columns, task)
        target = read_target(task, train, cleaned.table, mapped.columns, settings.problem_type)
        cleaned, labels = drop_unlabelled(train, cleaned, target.encode(train, cleaned.table), task)
        tables = {"train": _table(_Part(train, cleaned, labels), task)}
        dropped = {"train": cleaned.dropped}
        notes += [*cleaned.notes, *target.notes]
    parts = _evaluation_parts(source, chosen, mapped.columns, task, target, notes)
    if chosen.test_found and "test" in parts:
        notes.append(_test_note(task, with_test))
    dropped |= {name: part.cleaned.dropped for name, part in parts.items()}
    notes += [note for part in parts.values() for note in part.cleaned.notes]
    tables |= {name: _table(part, task) for name, part in parts.items()}
    tables = _with_validation(tables, settings, task, target.scheme, notes)
    tables = _sampled(tables, settings, task, target.scheme, notes)
    digests = {name: digest_table(table) for name, table in tables.items()}
    if looked is None:
        notes += _leaks(tables, task)
    else:
        tables["train"], digests["train"] = looked.stream.known, looked.digests
    fingerprint = fingerprint_splits(digests, target.scheme.names)
    return LoadedData(
        task=task,
        splits=_to_datasets({name: rows for name, rows in tables.items() if with_test or name != "test"}, fingerprint),
        labels=target.scheme,
        fingerprint=fingerprint,
        fingerprints=fingerprint_each(digests, target.scheme.names),
        revision=source.revision,
        dropped=dropped,
        notes=tuple(dict.fromkeys(notes)),
        columns=mapped.columns,
        stream=looked.stream if looked else None,
    )


def _evaluation_parts(
    source: Source, chosen: Chosen, columns: ColumnMap, task: Task, reading: Target, notes: list[str]
) -> dict[str, _Part]:
    parts = {}
    for name, split in (("validation", chosen.validation), ("test", chosen.test)):
        if split is not None:
            may_lack = name == "test" or split == "validation"
            part = _labelled(loaded(source.splits[split]), columns, task, reading, chosen, name, may_lack, notes)
            if part is not None:
                parts[name] = part
    return parts


def find_source(settings: Any) -> Source:
    """Find and read what a recipe's dataset section names: files, folder, package or hub dataset.

    Raises FinetuneError when it is not there or cannot be read.
    """
    try:
        return _find_source(settings)
    except OSError as problem:
        place = Path(problem.filename or settings.path or "dataset")
        raise read_error(place, problem) from problem


def _find_source(settings: Any) -> Source:
    path, data_files = settings.path, settings.data_files
    if path is None and data_files is None:
        raise FinetuneError("dataset.path: missing", "Name a hub id, a file or a folder: dataset.path: data/train.csv")
    reader = open_streamed if settings.streaming else read_file
    if path is None:
        return Source(read_data_files(data_files, None, None, reader))
    if data_files is not None and path in BUILDERS:
        return Source(read_data_files(data_files, None, BUILDERS[path], reader))
    place = resolve_package_path(path) if is_package_path(path) else Path(path).expanduser()
    if os.path.isdir(place):
        if data_files is not None:
            return Source(read_data_files(data_files, place, None, reader))
        splits, notes = read_folder(place, settings.name, reader)
        return Source(splits, None, notes)
    if os.path.isfile(place):
        if data_files is not None:
            raise FinetuneError(f"dataset: path names a file ({path}) and data_files names others", "Keep one of them.")
        return Source({"train": read_split("train", [place], None, reader)})
    if not is_hub_id(path) or os.path.lexists(place) or format_of(place) is not None or is_package_path(path):
        raise missing_file(place)
    return Source(*read_hub(path, settings.name, settings.revision, data_files, settings.streaming))


def _part_notes(source: Source, chosen: Chosen) -> list[str]:
    used = [source.splits[name] for name in (chosen.train, chosen.validation, chosen.test) if name is not None]
    return [note for split in used for part in split.parts for note in part.notes]


def _labelled(
    split: RawSplit,
    columns: ColumnMap,
    task: Task,
    reading: Target,
    chosen: Chosen,
    name: str,
    may_lack: bool,
    notes: list[str],
) -> _Part | None:
    """Clean and label an evaluation split; None, with a note, when it turns out to have no labels and may lack them."""
    target = columns[task.target] if task.target else []
    targets = [target] if isinstance(target, str) else target
    if name == "test" and chosen.test_found and not set(targets) <= set(split.columns):
        notes.append(f"The split test has no column {targets[0]!r}: no test.")
        return None
    check_columns(split, columns)
    cleaned = read_clean(split, columns, task)
    labels = reading.encode(split, cleaned.table)
    if all_hidden(labels, reading.scheme):
        if not may_lack:
            raise FinetuneError(
                f"split {split.name} ({split.where}): no row has a label", f"Name another split: dataset.splits.{name}"
            )
        consequence = "no test" if name == "test" else "validation rows are taken from train"
        notes.append(f"The labels of the split {split.name} are hidden (missing or -1): {consequence}.")
        return None
    cleaned, labels = drop_unlabelled(split, cleaned, labels, task)
    return _Part(split, cleaned, labels)


def _test_note(task: Task, with_test: bool) -> str:
    fate = "it is scored once, at the end" if with_test else "trials of a sweep leave it unseen"
    return f"The data has a {'labelled ' if task.target else ''}split test: {fate}."


def _table(part: _Part, task: Task) -> pyarrow.Table:
    table = part.cleaned.table
    roles = [name for name in table.column_names if not name.startswith("label:") and name != "row"]
    return with_target(table.select(roles), task, part.labels).append_column("row", table.column("row"))


def _with_validation(
    tables: dict[str, pyarrow.Table], settings: Any, task: Task, scheme: LabelScheme, notes: list[str]
) -> dict[str, pyarrow.Table]:
    """Hold validation rows out of train when there are none yet."""
    import numpy

    if "validation" in tables:
        return tables
    if settings.streaming:
        raise FinetuneError(
            "dataset: there is no validation split, and none can be held out of a stream",
            "Name one: dataset.data_files: {train: …, validation: …}, or dataset.splits.validation.",
        )
    share = settings.validation_size or DEFAULT_VALIDATION_SHARE
    train = tables["train"]
    strata = _strata(train, task, scheme)
    leave = 0 if strata is None or scheme.problem_type == MULTI else 1
    count = max(1, round(share * train.num_rows))
    held = sample_rows(train.num_rows, count, strata, settings.seed, "validation", leave)
    if len(held) == 0 or len(held) == train.num_rows:
        raise FinetuneError(
            f"dataset: {plural(train.num_rows, 'row is', 'rows are')} too few to hold out a validation split",
            "Add rows, or a validation file: dataset.data_files: {train: …, validation: …}",
        )
    mask = numpy.zeros(train.num_rows, dtype=bool)
    mask[held] = True
    how = "at random" if strata is None else "stratified by label"
    notes.append(
        f"No validation split: {plural(len(held), 'row')} ({len(held) / train.num_rows:.0%}) of train held out, "
        f"{how}, with dataset.seed {settings.seed}."
    )
    split = {"train": take_rows(train, ~mask), "validation": take_rows(train, mask)}
    return split | {name: table for name, table in tables.items() if name not in split}


def _sampled(
    tables: Mapping[str, pyarrow.Table], settings: Any, task: Task, scheme: LabelScheme, notes: list[str]
) -> dict[str, pyarrow.Table]:
    """Cut the splits down to the sizes that the recipe asks for."""
    import numpy

    sampled = {}
    for name, table in tables.items():
        count = settings.max_train_samples if name == "train" else settings.max_eval_samples
        if count is not None and count < table.num_rows:
            strata, purpose = _strata(table, task, scheme), f"sample {name}"
            is_set = scheme.problem_type == MULTI  # too many kinds to have a row of each
            rows = sample_rows(table.num_rows, count, strata, settings.seed, purpose, by_lot=is_set)
            notes.append(f"{name}: a sample of {len(rows):,} of {plural(table.num_rows, 'row')}.")
            mask = numpy.zeros(table.num_rows, dtype=bool)
            mask[rows] = True
            table = take_rows(table, mask)
        sampled[name] = table
    return sampled


def _strata(table: pyarrow.Table, task: Task, scheme: LabelScheme) -> numpy.ndarray | None:
    """Return the group of each row: its label, or its set of labels; None where rows have no classes."""
    import numpy

    if scheme.problem_type == REGRESSION or task.target is None or task.column(task.target).kind != "label":
        return None
    labels = table.column(task.target)
    if scheme.problem_type != MULTI:
        return as_array(labels, numpy.int32)
    # Numbered as the sets come, then in the order of the sets.
    numbers: dict[bytes, int] = {}
    found = numpy.empty(table.num_rows, dtype=numpy.int32)
    start = 0
    for chunk in labels.chunks:
        flags = chunk.flatten().to_numpy().astype(numpy.uint8).reshape(len(chunk), -1)
        found[start : start + len(chunk)] = [numbers.setdefault(row.tobytes(), len(numbers)) for row in flags]
        start += len(chunk)
    order = numpy.empty(len(numbers), dtype=numpy.int32)
    order[[numbers[row] for row in sorted(numbers)]] = numpy.arange(len(numbers))
    return order[found]


def _leaks(tables: Mapping[str, pyarrow.Table], task: Task) -> list[str]:
    """Say how many evaluation rows have exactly the inputs of a training row.

    They are compared by a hash of 64 bits, of which those of the evaluation rows alone are kept.
    """
    import numpy

    roles = [column.role for column in task.inputs if column.role in tables["train"].column_names]
    others = {
        name: numpy.concatenate([*input_hashes(table, roles)]) for name, table in tables.items() if name != "train"
    }
    known = numpy.unique(numpy.concatenate(list(others.values())))
    in_train = numpy.zeros(len(known), dtype=bool)
    for hashes in input_hashes(tables["train"], roles):
        places = numpy.minimum(numpy.searchsorted(known, hashes), len(known) - 1)
        in_train[places[known[places] == hashes]] = True
    notes = []
    for name, hashes in others.items():
        both = int(in_train[numpy.searchsorted(known, hashes)].sum())
        if both:
            notes.append(f"{plural(both, 'row')} of {name} also stand in train, word for word: scores may be too good.")
    return notes


def input_hashes(table: pyarrow.Table, roles: Sequence[str]) -> Iterator[numpy.ndarray]:
    """Yield a number of 64 bits for each row, alike in this process where rows say the same in some roles."""
    import numpy
    import pyarrow

    for batch in table.select(list(roles)).to_batches():
        columns = [batch.column(role) for role in roles]
        if any(pyarrow.types.is_nested(column.type) for column in columns):
            columns = [pyarrow.array(map(repr, column.to_pylist()), pyarrow.large_string()) for column in columns]
        texts = zip(*(column.to_pylist() for column in columns), strict=True)
        yield numpy.fromiter(map(hash, texts), numpy.int64, batch.num_rows)


def _to_datasets(tables: Mapping[str, pyarrow.Table], fingerprint: str) -> dict[str, Any]:
    import datasets

    return {name: datasets.Dataset(table, fingerprint=f"{fingerprint[:32]}-{name}") for name, table in tables.items()}
