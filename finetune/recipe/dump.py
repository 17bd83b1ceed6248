"""Write a recipe out, every key filled in, so that it loads back to the same recipe."""

from pathlib import Path
from typing import Any

import yaml

from finetune.recipe.paths import relative_inputs
from finetune.recipe.schema import Recipe
from finetune.recipe.yaml_lines import core_scalar


class _Dumper(yaml.SafeDumper):
    """PyYAML's dumper, quoting by the rules of YAML 1.2: a text such as 1e5 would come back as a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    plain = isinstance(core_scalar(value), str) and value.isprintable()
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


_Dumper.add_representer(str, _text)


def quote(value: str) -> str:
    """Return a text as one line of YAML, in quotes only where it needs them."""
    return yaml.dump(value, Dumper=_Dumper, allow_unicode=True, width=2**31).removesuffix("\n").removesuffix("\n...")


def recipe_settings(recipe: Recipe, relative_to: Path | None = None) -> dict[str, Any]:
    """Return the recipe as plain JSON values, local inputs relative to a folder if one is given."""
    settings = (relative_inputs(recipe, relative_to) if relative_to else recipe).model_dump(mode="json")
    if recipe.peft.method is None:
        settings["peft"] = None  # rather than a section of nulls
    return settings


def dump_recipe(recipe: Recipe, relative_to: Path | None = None) -> str:
    """Return YAML that loads back to an equal recipe.

    With `relative_to` local inputs are written relative to that folder, from where the text must then be loaded.
    """
    settings = recipe_settings(recipe, relative_to)
    return yaml.dump(settings, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31)
