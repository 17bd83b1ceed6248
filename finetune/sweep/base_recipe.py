"""What the files of sweeps and studies have in common: their keys, and the recipe that they build on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from finetune.errors import FinetuneError
from finetune.recipe.expected import expected, found, remedy
from finetune.recipe.kinds import Section
from finetune.recipe.load import LoadedRecipe, check_recipe, find_recipe
from finetune.recipe.lookup import cannot_be_read
from finetune.recipe.problems import RECIPE, Place, Problem, refuse
from finetune.recipe.shipped import shipped_recipes
from finetune.recipe.yaml_lines import MAX_BYTES, Node, read_yaml
from finetune.text import nearest_or_all

Keys = TypeVar("Keys", bound=Section)


def read_entries(path: Path, verb: str, hint: str) -> tuple[Mapping[str, Node], list[Problem]]:
    """Return the keys of a file with their lines, and what is wrong with its YAML; raises FinetuneError without any."""
    root, faults = read_yaml(_read_text(path, verb))
    problems = [Problem(Place(RECIPE, fault.line), "", fault.message) for fault in faults]
    if root is None or not isinstance(root.value, dict):
        message = "expected a mapping (lines of key: value)" + (f", found {found(root.plain())}" if root else "")
        raise refuse(problems or [Problem(Place(RECIPE), "", message)], str(path), hint)
    return root.value, problems


def read_keys(
    model: type[Keys], entries: Mapping[str, Node], allowed: Mapping[str, str]
) -> tuple[Keys | None, list[Problem]]:
    """Return the keys as far as they are right, and what is wrong with the others.

    `allowed` puts in words what a key may hold where its type does not say it well.
    """
    fields = model.model_fields
    problems = []
    for name, node in entries.items():
        if name not in fields:
            problems.append(Problem(Place(RECIPE, node.line), name, f"unknown key; {nearest_or_all(name, fields)}"))
    given = {name: node.plain() for name, node in entries.items() if name in fields}
    try:
        return model.model_validate(given), problems
    except ValidationError as error:
        wrong = dict.fromkeys(str(fault["loc"][0]) for fault in error.errors(include_url=False))
    for name in wrong:
        field = fields[name]
        if name not in given:
            example = f"; for example {name}: {json.dumps(field.examples[0])}" if field.examples else ""
            problems.append(Problem(Place(RECIPE, 1), name, f"missing{example}"))
            continue
        said = remedy(field, given[name])
        message = f"expected {allowed.get(name) or expected(field)}, found {found(given[name])}"
        problems.append(Problem(Place(RECIPE, entries[name].line), name, message + (f"; {said}" if said else "")))
    return None, problems


def problem_at(entries: Mapping[str, Node], key: str, message: str) -> Problem:
    """Return a problem with a key of the file, at its line; at the first one where the key is not written."""
    return Problem(Place(RECIPE, entries[key].line if key in entries else 1), key, message)


def read_base_recipe(
    node: Node | None, path: Path, output_dir: Path | None
) -> tuple[str | None, LoadedRecipe | None, list[Problem]]:
    """Return the recipe's name for a command line and the recipe, or what is wrong with it."""
    if node is None or not isinstance(node.value, str) or not node.value:
        return None, None, []
    place, beside = Place(RECIPE, node.line), path.parent / node.value
    reference = str(beside) if beside.is_file() or node.value not in shipped_recipes() else node.value
    folder = [f"output_dir={output_dir}"] if output_dir is not None else []
    try:
        find_recipe(reference)
        checked = check_recipe(reference, folder)
    except FinetuneError as error:
        hint = f"; {error.hint}" if error.hint else ""
        return None, None, [Problem(place, "recipe", error.message + hint)]
    faults = [Problem(place, "recipe", problem.words(checked.shown)) for problem in checked.problems]
    if checked.loaded is not None and checked.loaded.recipe.training.seeds is not None:
        faults.append(Problem(place, "recipe", "has training.seeds; the file has its own key: seeds"))
    return reference, checked.loaded, faults


def _read_text(path: Path, verb: str) -> str:
    try:
        content = path.read_bytes()
        if len(content) > MAX_BYTES:
            raise FinetuneError(
                f"{path}: {len(content):,} bytes; the file of a {verb} has at most {MAX_BYTES:,}",
                "Is this the data file?",
            )
        return content.decode("utf-8-sig")
    except OSError as error:
        raise FinetuneError(f"{path} {cannot_be_read(error)}", "Check the path and its permissions.") from error
    except UnicodeDecodeError as error:
        raise FinetuneError(f"{path}: not UTF-8", "Save the file as UTF-8.") from error
