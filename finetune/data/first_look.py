"""A first look at someone's data, for `finetune init`: its splits and columns, and which tasks they fit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.data.columns import ColumnMap, choose_form, map_columns
from finetune.data.files import format_of, missing_file
from finetune.data.hub import hub_columns, is_hub_id
from finetune.data.sources import find_source
from finetune.data.splits import choose_splits
from finetune.errors import FinetuneError
from finetune.hub import go_offline_if_unreachable
from finetune.package_paths import is_package_path
from finetune.recipe.schema import Dataset, Splits
from finetune.tasks import Task, all_tasks
from finetune.text import join_words, plural

if TYPE_CHECKING:
    from finetune.data.raw import RawSplit

_SHOWN_LABELS = 8
_LINE = 80  # characters


@dataclass(frozen=True)
class Look:
    """The splits of data by the part that each plays (train, validation, test), as found; of the hub without rows."""

    splits: Mapping[str, RawSplit]

    @property
    def train(self) -> RawSplit:
        """Return the split to learn from."""
        return self.splits["train"]

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns."""
        return self.train.columns

    @property
    def summary(self) -> str:
        """Return how many rows each split has, in words; where nobody counted them, the splits."""
        if not any(map(_rows, self.splits.values())):
            return f"splits {join_words(self.splits, 'and')}"
        return ", ".join(f"{plural(_rows(split), 'row')} in {name}" for name, split in self.splits.items())


def _rows(split: RawSplit) -> int:
    return sum(part.rows for part in split.parts)


def look_at(data: str) -> Look | None:
    """Read local data: a file, a folder or package:…; None for what can only be a hub id.

    Raises FinetuneError when it is neither there nor a hub id, or cannot be read.
    """
    if not is_package_path(data) and not os.path.lexists(Path(data).expanduser()):
        if is_hub_id(data) and not _looks_local(data):
            return None
        raise missing_file(Path(data).expanduser())
    return _as_parts(find_source(Dataset(path=data)).splits)


def look_at_hub(data: str) -> tuple[Look | None, str | None]:
    """Return the columns of a dataset of the hub, or None and why they are not known."""
    unreachable = go_offline_if_unreachable([data])
    try:
        return _as_parts(hub_columns(data)), None
    except FinetuneError as error:
        return None, unreachable or f"{error.message}. {error.hint or ''}".strip()


def _as_parts(found: Mapping[str, RawSplit]) -> Look:
    chosen = choose_splits(list(found), Splits())
    parts = {"train": chosen.train, "validation": chosen.validation, "test": chosen.test}
    return Look({part: found[name] for part, name in parts.items() if name is not None})


def _looks_local(data: str) -> bool:
    folder = os.path.dirname(data)
    return format_of(Path(data)) is not None or os.path.isdir(folder) or (not folder and "." in data)


def fitting_tasks(look: Look) -> list[Task]:
    """Return the tasks whose columns are all there under their usual names, the one that says most of them first."""
    ranked = []
    for task in all_tasks().values():
        try:
            form, columns = columns_for(look, task, {})
        except FinetuneError:  # its columns are not there, or two could be meant
            continue
        required = [column for column in form.columns if column.required]
        places = [_place(str(columns[column.role]), (column.role, *column.usual_names)) for column in required]
        if None not in places or len(look.columns) == 1:
            ranked.append((-len(required), sum(place or 0 for place in places), -len(task.forms), task))
    return [entry[-1] for entry in sorted(ranked, key=lambda entry: entry[:-1])]


def _place(name: str, usual: Sequence[str]) -> int | None:
    folded = name.strip().casefold()
    return usual.index(folded) if folded in usual else None


def columns_for(look: Look, task: Task, given: Mapping[str, str]) -> tuple[Task, ColumnMap]:
    """Return a task in the form that the data has, and the column of each role.

    Raises FinetuneError when a role is unknown, a column is missing, or two could be meant.
    """
    known = [column.role for column in task.all_columns]
    for role in given:
        if role not in known:
            raise FinetuneError(
                f"{role} is no column of {task.name}",
                f"Its columns are {join_words(known, 'and')}: --column {known[0]}=…",
            )
    form = choose_form(look.train, task, given)
    return form, map_columns(look.train, form, given).columns


def labels_in(look: Look, task: Task, columns: ColumnMap) -> str | None:
    """Return what the labels of the training rows are, in a few words; None where the target is no label."""
    import pyarrow.compute as pc

    target = task.target
    name = columns.get(target) if target else None
    if target is None or task.column(target).kind != "label" or not isinstance(name, str):
        return None
    if any(part.stream is not None for part in look.train.parts):
        return None  # of which only the first rows are here
    named = [part.class_names[name] for part in look.train.parts if name in part.class_names]
    values = list(named[0]) if named else pc.unique(look.train.read([name]).column(0)).to_pylist()
    values = [value for value in values if value is not None]
    if not values or any(isinstance(value, list | dict) for value in values):
        return None
    shown = [" ".join(str(value).split()) for value in values[:_SHOWN_LABELS]]
    while len(shown) > 1 and len(", ".join(shown)) > _LINE:
        shown.pop()
    more = f" and {len(values) - len(shown)} more" if len(values) > len(shown) else ""
    return f"{plural(len(values), 'label')}: {', '.join(shown)[:_LINE]}{more}"
