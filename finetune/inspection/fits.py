"""Which of our tasks fit a checkpoint, and which shipped recipes to start from."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune.inspection.families import Family, find_family
from finetune.models.architecture import transformer_kind
from finetune.models.heads import KNOWN_FAMILIES
from finetune.recipe.shipped import describe_recipe, shipped_recipes
from finetune.recipe.yaml_lines import read_yaml
from finetune.tasks import all_tasks

_FIRST = "quickstart"  # its data come along


def fitting_tasks(family: Family, kind: str | None) -> dict[str, str]:
    """Return the tasks for which transformers has a head in the family, each with its Auto class."""
    if kind is None:
        return {}
    wanted = {name: task.auto_classes.get(kind) for name, task in all_tasks().items()}
    return {name: auto for name, auto in wanted.items() if auto is not None and auto in family.auto_classes}


def fitting_recipes(tasks: Mapping[str, str], reference: str) -> list[dict[str, Any]]:
    """Return the shipped recipes of these tasks, those of the very checkpoint first, with the command to start each."""
    found = []
    for name, path in shipped_recipes().items():
        task, model = _task_and_model(path)
        if task in tasks:
            own = "" if model == reference else f" {shlex.quote(f'model.name_or_path={reference}')}"
            words = {"name": name, "task": task, "summary": describe_recipe(path), "is_of_this_checkpoint": not own}
            found.append(words | {"command": f"finetune run {name}{own}"})
    return sorted(found, key=lambda recipe: (not recipe["is_of_this_checkpoint"], recipe["name"] != _FIRST))


def _task_and_model(path: Path) -> tuple[Any, Any]:
    root, _ = read_yaml(path.read_text(encoding="utf-8"))
    assert root is not None
    settings: Any = root.plain()
    return settings.get("task"), (settings.get("model") or {}).get("name_or_path")


def task_matrix() -> str:
    """Return, as a Markdown table, which family has a head for which task in the installed transformers."""
    tasks = list(all_tasks())
    lines = [f"| family | kind | {' | '.join(tasks)} |", "|---" * (len(tasks) + 2) + "|"]
    for name in KNOWN_FAMILIES:
        family = find_family(name)
        kind = transformer_kind({**family.defaults, "model_type": name})
        fits = fitting_tasks(family, kind)
        lines.append(f"| {name} | {kind} | {' | '.join('yes' if task in fits else '–' for task in tasks)} |")
    return "\n".join([*lines, ""])
