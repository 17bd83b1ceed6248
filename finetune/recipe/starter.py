"""The commented recipe that `finetune init` writes."""

import os
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.recipe.dump import quote
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
  # What the columns mean. Usual names are found by themselves, so this can stay commented out.
  # columns: {{{columns}}}
  # Without a validation split a tenth of train is held out; say how much, or name files for each split:
  # validation_size: 0.1
  # data_files: {{train: train.csv, validation: validation.csv, test: test.csv}}   # instead of path

training:
  num_train_epochs: 3
  per_device_train_batch_size: 16   # halve it when memory runs out, and double gradient_accumulation_steps
  learning_rate: 2e-5               # 1e-5 to 5e-5 for models of BERT's size, more for smaller ones
  # early_stopping_patience: 2      # stop after this many evaluations without a new best

# emissions:
#   country_iso_code: BRA   # where the machine stands; left out it is inferred from the time zone
"""


def starter_recipe(path: Path, task_name: str, model: str, data: str) -> str:
    """Return the text of a first recipe, to be written to `path`. Raises FinetuneError for an unknown task."""
    task = _find_task(task_name)
    columns = ", ".join(f"{column.role}: {column.usual_names[0]}" for column in task.columns if column.required)
    return _STARTER.format(
        name=path.stem,
        summary=task.summary,
        file=path.name,
        task=task.name,
        model=quote(model),
        data=quote(data),
        columns=columns,
    )


def _find_task(name: str) -> Task:
    tasks = all_tasks()
    if name in tasks:
        return tasks[name]
    near = did_you_mean(name, tasks)
    said = f"; did you mean {near}?" if near else ""
    raise FinetuneError(f"{name} is not a task{said}", f"This version has {join_words(tasks, 'and')}.")


def write_starter(path: Path, task_name: str, model: str, data: str, force: bool = False) -> None:
    """Write a first recipe. Raises FinetuneError for an unknown task, and for a file that is there unless `force`."""
    model, data = _from_recipe(model, path), _from_recipe(data, path)
    write_new(path, starter_recipe(path, task_name, model, data), force)


def _from_recipe(reference: str, path: Path) -> str:
    """Return a local input, named from where the command runs, as the recipe must name it: relative to itself."""
    if not os.path.exists(reference) or os.path.isabs(reference):
        return reference
    return Path(os.path.relpath(reference, path.parent)).as_posix()
