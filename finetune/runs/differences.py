"""What differs between the recipes of several runs."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.runs.record import Run, as_mapping
from finetune.text import plural

# What a run is called and where it goes changes neither its score nor its energy.
_IGNORED = ("name", "output_dir", "tags", "tracking", "hub")
TRAINING_SET = "training set"


def flatten(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted keys; lists stay whole."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def settings(run: Run) -> dict[str, Any]:
    """Return the settings of a run by their dotted keys, and what it was trained on under `training set`."""
    count, found = (as_mapping(run.dataset.get(name)).get("train") for name in ("rows", "fingerprints"))
    return flatten(run.recipe) | ({TRAINING_SET: f"{plural(count or 0, 'row')} ({str(found)[:8]})"} if found else {})


def differing_keys(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the dotted recipe keys on which the runs do not all agree, in the order of the recipe.

    `training set` is among them when the runs were trained on different rows and no key of `dataset` says so.
    """
    recipes = [settings(run) for run in runs if run.recipe]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    # {} and a missing section mean the same as null.
    found = [
        key
        for key in sorted(keys, key=_recipe_order)
        if key.split(".")[0] not in _IGNORED
        and not _agree([None if recipe.get(key) == {} else recipe.get(key) for recipe in recipes])
    ]
    said = any(key.startswith("dataset.") for key in found) or not all(TRAINING_SET in recipe for recipe in recipes)
    return tuple(key for key in found if key != TRAINING_SET or not said)


def short_key(key: str, among: Sequence[str]) -> str:
    """Return the last part of a dotted key, or the whole key when that part is not unique."""
    leaf = key.rpartition(".")[2]
    return leaf if sum(other.rpartition(".")[2] == leaf for other in among) == 1 else key


def _agree(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _recipe_order(key: str) -> tuple[int, str]:
    sections = (
        "task",
        "model",
        "peft",
        "dataset",
        "preprocessing",
        "training",
        "evaluation",
        "generation",
        "emissions",
    )
    section = key.split(".")[0]
    return (sections.index(section) if section in sections else len(sections), key)
