"""finetune init."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from finetune.data.columns import ColumnMap
    from finetune.data.first_look import Look
    from finetune.tasks import Task

_DATA = "data/train.csv"


def init(
    path: Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe to write.")] = Path("recipe.yaml"),
    task: Annotated[
        str | None, typer.Option(help="What to fine-tune for; left out, what the columns of the data fit.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A hub id, a folder, or package:…; left out, a small one that fits the task.")
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"A file or folder, a hub id, or package:…  [{_DATA}]")] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=NAME", help="The column of a role: text=review. Repeatable.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Look at your data and write a commented recipe to start from. In a terminal it asks for what is left out.

    Example: finetune init recipe.yaml --data reviews.csv
    """
    from finetune.data.first_look import labels_in
    from finetune.recipe.starter import Start, find_task, usual_model, write_starter

    asks = sys.stdin.isatty()
    chosen = find_task(task) if task else None
    given = dict(map(_role_and_name, column or ()))
    data, look = _look(data, asks)
    chosen = chosen or _choose_task(look, asks)
    columns: ColumnMap = {}
    found: list[str] = []
    if look is not None:
        typer.echo(f"{data}: {look.summary}; columns {', '.join(look.columns)}")
        form, columns = _columns(look, chosen, given, asks)
        found = [line for line in (look.summary, labels_in(look, form, columns)) if line]
    model = model or usual_model(chosen)
    if asks:
        model = typer.prompt("Model to start from (a hub id, a folder, or package:…)", default=model)
    has_validation = look is not None and "validation" in look.splits
    write_starter(path, Start(chosen, model, data, columns, tuple(found), has_validation), force)
    next_words = f"look through it, then finetune validate {path}"
    if look is None and data == _DATA:
        next_words = f"put your data at {data}, or name it in dataset.path, then finetune validate {path}"
    typer.echo(f"{path} is written: {chosen.name} with {model}. Next: {next_words}")


def _role_and_name(pair: str) -> tuple[str, str]:
    role, _, name = pair.partition("=")
    if not role or not name:
        raise typer.BadParameter(f"{pair!r} is not of the form ROLE=NAME, such as text=review", param_hint="--column")
    return role, name


def _look(data: str | None, asks: bool) -> tuple[str, Look | None]:
    """Return the data's name and a look at it; None where it is on the hub, which tells nothing, or not there yet."""
    from finetune.cli.app import print_error
    from finetune.console import quiet_libraries
    from finetune.data.first_look import look_at, look_at_hub

    while True:
        named = data or (typer.prompt("Your data (a file, a folder, or a hub id)", default=_DATA) if asks else _DATA)
        if data is None and named == _DATA and not os.path.lexists(_DATA):
            return named, None
        try:
            look = look_at(named)
            if look is None:
                quiet_libraries()
                look, why_not = look_at_hub(named)
                if why_not is not None:
                    typer.echo(f"note: {named} tells no columns, so the usual ones are shown: {why_not}", err=True)
            return named, look
        except FinetuneError as error:
            if error.message.startswith("dataset.splits."):  # several files of which none is called train
                hint = f"Name the file to train on: --data {os.path.join(named, '<file>')}"
                error = FinetuneError(error.message.partition(": ")[2], hint)
            if data is not None or not asks:
                raise error
            print_error(error)


def _choose_task(look: Look | None, asks: bool) -> Task:
    from finetune.data.first_look import fitting_tasks
    from finetune.recipe.starter import find_task
    from finetune.tasks import all_tasks

    fitting = fitting_tasks(look) if look else []
    first = fitting[0] if fitting else find_task("text-classification")
    if not asks:
        return first
    names = [task.name for task in fitting] + [name for name in all_tasks() if name not in {t.name for t in fitting}]
    if first.name in names:
        names.remove(first.name)
    return find_task(
        _choose("What should the model do?", {name: all_tasks()[name].summary for name in [first.name, *names]})
    )


def _columns(look: Look, task: Task, given: Mapping[str, str], asks: bool) -> tuple[Task, ColumnMap]:
    """Return the task in the form of the data and the column of each role, asking for those that no name tells."""
    from finetune.data.first_look import columns_for

    try:
        return columns_for(look, task, given)
    except FinetuneError as error:
        if not asks or not look.columns:
            wanted = " ".join(f"--column {column.role}=…" for column in task.columns if column.required)
            raise FinetuneError(
                error.message.replace("dataset.columns.", "--column "), f"Say which column plays which role: {wanted}"
            ) from error
    roles = [column.role for column in task.columns if column.required and column.role not in given]
    told = dict(given)
    for role in roles:
        left = [name for name in look.columns if name not in told.values()] or look.columns
        told[role] = _choose(f"Which column is the {role}?", dict.fromkeys(left, ""))
    return columns_for(look, task, told)


def _choose(question: str, choices: Mapping[str, str]) -> str:
    """Ask for one of several by its number or name; the first is the default."""
    names = list(choices)
    width = max(map(len, names))
    typer.echo(question)
    for number, (name, words) in enumerate(choices.items(), start=1):
        typer.echo(f"  {number:>2}  {name:<{width}}  {words}".rstrip())
    while True:
        answer = str(typer.prompt("Number or name", default=names[0])).strip()
        if answer in names:
            return answer
        if answer.isdigit() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        typer.echo(f"{answer} is none of them.")
