"""finetune schema."""

import typer


def schema() -> None:
    """Print the JSON Schema of a recipe, with which editors complete and check its keys.

    Type finetune schema > recipe.schema.json, and begin the recipe with this line:

    # yaml-language-server: $schema=recipe.schema.json
    """
    from finetune.recipe.reference import recipe_schema_text

    typer.echo(recipe_schema_text(), nl=False)
