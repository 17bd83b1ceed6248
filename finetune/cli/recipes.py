"""finetune recipes."""

from pathlib import Path
from typing import Annotated

import typer


def recipes(
    name: Annotated[str | None, typer.Argument(help="Print this one instead of the list.")] = None,
    copy_to: Annotated[Path | None, typer.Option(help="Write a copy to this file, to change.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """List the recipes that come with finetune, print one, or copy one to start from."""
    from finetune.recipe import shipped

    if copy_to is not None:
        if name is None:
            raise typer.BadParameter("--copy-to needs the name of a recipe")
        shipped.copy_recipe(name, copy_to)
        typer.echo(f"{copy_to} is written. Next: finetune validate {copy_to}")
    elif name is not None:
        typer.echo(shipped.find_shipped(name).read_text(encoding="utf-8"), nl=False)
    elif as_json:
        import json

        listed = [
            {"name": name, "summary": shipped.describe_recipe(path)} for name, path in shipped.shipped_recipes().items()
        ]
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False))
    else:
        typer.echo(shipped.list_recipes())
