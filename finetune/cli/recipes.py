"""finetune recipes."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_shipped


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Print this one instead of the list.", autocompletion=complete_shipped),
    ] = None,
    copy_to: Annotated[Path | None, typer.Option(help="Write a copy to this file, to change.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the recipes that come with finetune, print one, or copy one to start from.

    The list tells task, kind of model, data and the energy to expect, on a processor and on a GPU.

    Of that energy only the order of magnitude is meant; finetune estimate RECIPE measures on your machine.
    """
    from finetune.recipe import shipped, work

    if copy_to is not None:
        if name is None:
            raise typer.BadParameter("--copy-to needs the name of a recipe")
        shipped.copy_recipe(name, copy_to)
        typer.echo(f"{copy_to} is written. Next: finetune validate {copy_to}")
    elif name is not None:
        typer.echo(shipped.find_shipped(name).read_text(encoding="utf-8"), nl=False)
    elif as_json:
        import json

        typer.echo(json.dumps([work.as_dict(recipe) for recipe in work.all_shipped()], indent=2, ensure_ascii=False))
    else:
        typer.echo(work.list_recipes())
