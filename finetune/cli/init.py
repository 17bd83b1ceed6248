"""finetune init."""

from pathlib import Path
from typing import Annotated

import typer


def init(
    path: Annotated[Path, typer.Argument(help="The recipe to write.")] = Path("recipe.yaml"),
    task: Annotated[str, typer.Option(help="What to fine-tune for.")] = "text-classification",
    model: Annotated[
        str, typer.Option(help="A hub id, a folder, or package:….")
    ] = "distilbert/distilbert-base-uncased",
    data: Annotated[str, typer.Option(help="A file or folder, a hub id, or package:….")] = "data/train.csv",
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a commented recipe to start from."""
    from finetune.recipe.starter import write_starter

    write_starter(path, task, model, data, force)
    typer.echo(f"{path} is written. Next: look through it, then finetune validate {path}")
