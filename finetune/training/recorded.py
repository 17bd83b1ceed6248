"""The recipe as a run record holds it, and what differs from it: light, so that runs can be looked up before torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.recipe.load import recipe_settings
from finetune.recipe.schema import Recipe
from finetune.runs.files import scrub

UNFINISHED = ("interrupted", "failed", "running")

# Where a run is kept, under which labels, and which grid it is charged to change nothing in its mathematics.
_FREE_KEYS = ("output_dir", "tags", "name", "emissions", "tracking", "hub")


def recipe_as_recorded(recipe: Recipe, directory: Path) -> dict[str, Any]:
    """Return the recipe as run.json holds it: every setting, local inputs relative to the run directory."""
    recorded: dict[str, Any] = scrub(recipe_settings(recipe, relative_to=directory))
    return recorded


def changed_keys(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the dotted recipe keys whose values differ, those without effect on the training left out."""
    return [key for key in all_changes(before, now) if key.partition(".")[0] not in _FREE_KEYS]


def all_changes(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted recipe keys whose values differ."""
    found = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += all_changes(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(prefix + key)
    return found
