"""The commented recipe that `finetune init` writes."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.recipe.dump import quote
from finetune.recipe.load import check_text
from finetune.recipe.problems import refuse
from finetune.recipe.shipped import write_new
from finetune.tasks import Task, all_tasks
from finetune.text import did_you_mean, join_words

_STARTER = """\
# yaml-language-server: $schema=recipe.schema.json
# {name}: {summary}
#
#   finetune validate {file}        check this file, in less than a second
#   finetune run {file} --dry-run   read data and model, train nothing
#   finetune run {file}             train, score, and say what it cost in kWh and g CO2e
#
# Editors complete and check the keys after: finetune schema > recipe.schema.json

task: {task}

model:
  name_or_path: {model}   # a hub id, a folder, or package:<python package>/<folder inside it>

dataset:
  path: {data}   # a file or folder relative to this recipe, a hub id, or package:…
{columns}
{splits}

training:
  num_train_epochs: 3
  per_device_train_batch_size: 16   # halve it when memory runs out, and double gradient_accumulation_steps
  learning_rate: {learning_rate}               # {learning_rate_words}
  # early_stopping_patience: 2      # stop after this many evaluations without a new best

# emissions:
#   country_iso_code: BRA   # where the machine stands; left out it is inferred from the time zone
"""

_HELD_OUT = """\
  # Without a validation split a tenth of train is held out; say how much, or name files for each split:
  # validation_size: 0.1
  # data_files: {train: train.csv, validation: validation.csv, test: test.csv}   # instead of path"""
_HAS_SPLITS = "  # Validation chooses the best model; test, where there is one, is looked at once, at the end."

# For each kind of transformer: a small checkpoint that most people start from, and the usual learning rate.
_STARTS = {
    "encoder-only": ("distilbert/distilbert-base-uncased", "2e-5", "1e-5 to 5e-5 for BERT's size, more for less"),
    "decoder-only": ("distilbert/distilgpt2", "5e-5", "1e-5 to 1e-4 for models of GPT-2's size"),
    "encoder-decoder": ("google-t5/t5-small", "3e-4", "1e-4 to 1e-3 for T5; 1e-5 to 5e-5 for BART"),
}  # fmt: skip


@dataclass(frozen=True)
class Start:
    """What a first recipe is about.

    columns: by role, as found; {}: nobody looked. found: what the data holds, in lines. has_validation: whether it has
    that split.
    """

    task: Task
    model: str
    data: str
    columns: Mapping[str, str | list[str]]
    found: tuple[str, ...] = ()
    has_validation: bool = False


def usual_model(task: Task) -> str:
    """Return a small checkpoint that fits a task."""
    return _STARTS[_usual_kind(task)][0]


def _usual_kind(task: Task) -> str:
    return next(kind for kind in _STARTS if kind in task.auto_classes)


def find_task(name: str) -> Task:
    """Return the task of a name. Raises FinetuneError with the nearest one when there is none."""
    tasks = all_tasks()
    if name in tasks:
        return tasks[name]
    near = did_you_mean(name, tasks)
    said = f"; did you mean {near}?" if near else ""
    raise FinetuneError(f"{name} is not a task{said}", f"This version has {join_words(tasks, 'and')}.")


def starter_recipe(path: Path, start: Start) -> str:
    """Return the text of a first recipe, to be written to `path`."""
    _, learning_rate, learning_rate_words = _STARTS[_usual_kind(start.task)]
    return _STARTER.format(
        name=path.stem,
        summary=start.task.summary,
        file=path.name,
        task=start.task.name,
        model=quote(_from_recipe(start.model, path)),
        data=quote(_from_recipe(start.data, path)),
        columns=_columns(start),
        splits=_HAS_SPLITS if start.has_validation else _HELD_OUT,
        learning_rate=learning_rate,
        learning_rate_words=learning_rate_words,
    )


def _columns(start: Start) -> str:
    """Return the lines about columns: as found, or the usual names as a comment."""
    lines = [f"  # It holds {line}." for line in start.found]
    if start.columns:
        return "\n".join([*lines, f"  columns: {_mapping(start.columns)}   # role: name of the column"])
    usual = {column.role: column.usual_names[0] for column in start.task.columns if column.required}
    said = "  # What the columns mean. Usual names are found by themselves, so this can stay commented out."
    return "\n".join([*lines, said, f"  # columns: {_mapping(usual)}"])


def _mapping(columns: Mapping[str, str | list[str]]) -> str:
    def value(names: str | list[str]) -> str:
        return _quote_inside(names) if isinstance(names, str) else f"[{', '.join(map(_quote_inside, names))}]"

    return "{" + ", ".join(f"{role}: {value(names)}" for role, names in columns.items()) + "}"


def _quote_inside(name: str) -> str:
    """Return a text as a value inside YAML's {} or [], where commas and brackets end a plain one."""
    plain = quote(name)
    return (
        '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if plain == name and set(name) & set(",[]{}")
        else plain
    )


def write_starter(path: Path, start: Start, force: bool = False) -> None:
    """Write a first recipe. Raises FinetuneError for a file that is there (unless `force`) or a model that is not."""
    text = starter_recipe(path, start)
    checked = check_text(text, path, str(path))
    expected = ("dataset.path",) if not start.columns else ()  # the data may come later
    if problems := [problem for problem in checked.problems if problem.key not in expected]:
        raise refuse(problems, str(path), "Nothing is written.")
    write_new(path, text, force)


def _from_recipe(reference: str, path: Path) -> str:
    """Return a local input, named from where the command runs, as the recipe must name it: relative to itself."""
    if not os.path.exists(reference) or os.path.isabs(reference):
        return reference
    return Path(os.path.relpath(reference, path.parent)).as_posix()
