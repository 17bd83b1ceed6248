"""finetune validate."""

from typing import Annotated

import typer

from finetune.cli.completion import complete_recipe


def validate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            autocompletion=complete_recipe,
            help="A recipe file, or the name of a shipped recipe (finetune recipes lists them).",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings that override it: training.seed=7."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object with the problems.")] = False,
) -> None:
    """Check a recipe and list every problem in it, in less than a second and without a network.

    Keys, types, ranges, combinations, and whether local inputs exist.

    Data and model are not opened: finetune run --dry-run does that.
    """
    from finetune.recipe.load import check_recipe, load_recipe

    if as_json:
        import json

        checked = check_recipe(recipe, overrides or ())
        typer.echo(json.dumps(checked.report(), indent=2, ensure_ascii=False))
        raise typer.Exit(0 if checked.loaded else 1)
    loaded = load_recipe(recipe, overrides or ())
    for note in loaded.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(f"ok: {loaded.summary()}")
