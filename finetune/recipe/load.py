"""Read a recipe: file, overrides, environment and defaults become one frozen Recipe, or one error that lists all."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from finetune.errors import FinetuneError
from finetune.recipe import checks, keys
from finetune.recipe.adapter_keys import METHOD, REFUSED
from finetune.recipe.dump import dump_recipe, recipe_settings
from finetune.recipe.expected import expected, found, remedy
from finetune.recipe.lookup import cannot_be_read, look_up, neighbours
from finetune.recipe.metric_names import short_metric
from finetune.recipe.paths import absolute_inputs
from finetune.recipe.problems import RECIPE, Place, Problem, in_order, refuse
from finetune.recipe.schema import Recipe
from finetune.recipe.settings import (
    Layer,
    Setting,
    as_tree,
    merge,
    read_environment,
    read_file_layer,
    read_overrides,
)  # fmt: skip
from finetune.recipe.shipped import find_shipped, shipped_recipes
from finetune.recipe.yaml_lines import MAX_BYTES, Node, read_yaml
from finetune.text import did_you_mean

__all__ = ["CheckedRecipe", "LoadedRecipe", "check_recipe", "dump_recipe", "load_recipe", "recipe_settings"]

_UNKNOWN = "?"  # stands in for a required key that is missing, so that the other keys can still be checked


@dataclass(frozen=True)
class LoadedRecipe:
    """A recipe, the file it came from, what the reader should be told, and who gave each setting.

    `origins` maps dotted keys to "recipe", "command line" or "environment variable NAME"; a key that is not in
    it has its default.
    """

    recipe: Recipe
    path: Path
    notes: tuple[str, ...]
    origins: Mapping[str, str]

    def summary(self) -> str:
        """Return task, model and data in one line."""
        data = self.recipe.dataset
        files = ", ".join(data.data_files or {})
        source = " ".join(filter(None, [data.path, data.name])) or f"files for {files}"
        return f"{self.recipe.task} · {self.recipe.model.name_or_path} · {source}"


@dataclass(frozen=True)
class CheckedRecipe:
    """What came of reading a recipe: the recipe, or else its problems; `shown` is its name in errors."""

    loaded: LoadedRecipe | None
    problems: tuple[Problem, ...]
    shown: str

    def report(self) -> dict[str, Any]:
        """Return the outcome as JSON values: ok, recipe, summary, problems (origin, line, key, message), notes."""
        return {
            "ok": self.loaded is not None,
            "recipe": self.shown,
            "summary": self.loaded.summary() if self.loaded else None,
            "problems": [problem.as_dict() for problem in in_order(self.problems)],
            "notes": list(self.loaded.notes) if self.loaded else [],
        }


def load_recipe(reference: str | Path, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Return the recipe in a file, or the shipped one of that name, with `a.b=c` overrides.

    Local inputs are absolute in it (relative ones start at the recipe's folder); output_dir is as written.
    Raises FinetuneError with every problem of the file and the overrides, in the order of the lines.
    """
    checked = check_recipe(reference, overrides)
    if checked.loaded is None:
        hint = f"Every key: finetune schema. Check again: finetune validate {checked.shown}"
        raise refuse(checked.problems, checked.shown, hint)
    return checked.loaded


def check_recipe(reference: str | Path, overrides: Sequence[str] = ()) -> CheckedRecipe:
    """Return what load_recipe would load or list; raises FinetuneError only when the file cannot be read."""
    path = find_recipe(reference)
    return check_text(_read_text(path, str(reference)), path, str(reference), overrides)


def find_recipe(reference: str | Path) -> Path:
    """Return the file that a reference means. Raises FinetuneError when there is none."""
    path, name = Path(reference), str(reference)
    found = look_up(path)
    if found.kind == "file":
        return path
    if found.fault:
        raise FinetuneError(f"{found.shown} {found.fault}", "Check the path and its permissions.")
    bare = re.fullmatch(r"[\w.-]+", name) is not None and path.suffix not in (".yaml", ".yml")
    if bare and name in shipped_recipes():
        return find_shipped(name)
    if found.kind == "folder":
        recipes = [path / child for child in ("recipe.yaml", *_recipes_in(path))]
        inside = next((child for child in recipes if look_up(child).kind == "file"), None)
        raise FinetuneError(
            f"{name} is a folder, not a recipe",
            f"Did you mean {inside}?" if inside else "It holds none: finetune init writes one.",
        )
    if found.kind == "other":
        raise FinetuneError(f"{name} is a device or a pipe, not a file", "Write the recipe to a file.")
    beside = _recipes_in(path.parent)
    near = f"{path.name}.yaml" if f"{path.name}.yaml" in beside else did_you_mean(path.name, beside)
    if near:
        raise FinetuneError(f"{name}: no such recipe", f"Did you mean {path.parent / near}?")
    if bare:
        return find_shipped(name)
    raise FinetuneError(f"{name}: no such file", "Write a new recipe with: finetune init " + name)


def _recipes_in(folder: Path) -> list[str]:
    return [name for name in neighbours(folder) or () if name.endswith((".yaml", ".yml"))]


def check_text(text: str, path: Path, shown: str, overrides: Sequence[str] = ()) -> CheckedRecipe:
    """Check the text of the recipe at `path`; `shown` is what errors call it."""
    root, faults = read_yaml(text)
    problems = [Problem(Place(RECIPE, fault.line), "", fault.message) for fault in faults]
    if root is None or not isinstance(root.value, dict):
        if root is None or root.value is None:
            more = [] if faults else [Problem(Place(RECIPE), "", "is empty; finetune init writes a first recipe")]
        else:
            message = f"expected a mapping (lines of key: value), found {found(root.plain())}"
            more = [Problem(Place(RECIPE, root.line), "", message)]
        return CheckedRecipe(None, (*problems, *more), shown)
    layers = _layers(root, overrides)
    settings = merge(layers)
    sections = {key: place for layer in layers for key, place in layer.section_places.items()}
    recipe, refused = _build(settings, sections, path)
    problems += [problem for layer in layers for problem in layer.problems] + refused
    if problems:
        return CheckedRecipe(None, tuple(problems), shown)
    notes = [note for layer in layers for note in layer.notes] + _renaming_note(settings, recipe)
    notes += checks.find_notes(recipe, _given(settings))
    origins = {keys.dotted(setting.path): setting.place.origin for setting in settings.values()}
    return CheckedRecipe(LoadedRecipe(recipe, path, tuple(notes), origins), (), shown)


def _read_text(path: Path, shown: str) -> str:
    try:
        size = path.stat().st_size
        content = path.read_bytes() if size <= MAX_BYTES else b""
    except OSError as error:
        raise FinetuneError(f"{shown} {cannot_be_read(error)}", "Check its permissions.") from error
    if size > MAX_BYTES:
        raise FinetuneError(f"{shown}: {size:,} bytes; a recipe has at most {MAX_BYTES:,}", "Is this the data file?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise FinetuneError(f"{shown}:{line}: not UTF-8: byte 0x{byte:02x}", "Save the file as UTF-8.") from error


def _layers(root: Node, overrides: Sequence[str]) -> list[Layer]:
    """Return what each source says, the weakest first."""
    layers = [read_file_layer(root), *read_overrides(overrides)]
    given = _given(merge(layers))
    return [read_environment(os.environ, given), *layers]


def _renaming_note(settings: Mapping[keys.Path, Setting], recipe: Recipe) -> list[str]:
    """Say that transformers' eval_accuracy is accuracy here."""
    setting, name = settings.get(checks.BEST_METRIC), recipe.training.metric_for_best_model
    renamed = setting is not None and setting.value is not None and short_metric(setting.value) != name
    return [f"{keys.dotted(checks.BEST_METRIC)}: {setting.value} is read as {name}"] if setting and renamed else []


def _given(settings: Mapping[keys.Path, Setting]) -> set[keys.Path]:
    """Return the keys that somebody gave, the mappings whose entries were given included."""
    given = set(settings)
    return given | {leaf for path in given if (leaf := keys.leaf_of(path))}


def _build(
    settings: dict[keys.Path, Setting], sections: Mapping[keys.Path, Place], path: Path
) -> tuple[Recipe, list[Problem]]:
    """Return the recipe, as far as it can be built, and its problems; checks see only keys that are right."""
    recipe, problems, wrong = _validate(settings, sections)
    given = _given(settings)
    name = recipe.name or _name_from(path)
    recipe = recipe.model_copy(update={"name": name})
    for key, value in checks.derive_defaults(recipe, given).items():
        recipe = _with(recipe, key, value)
    recipe = absolute_inputs(recipe, path.parent)
    if best := checks.name_best_metric(recipe):
        recipe = _with(recipe, checks.BEST_METRIC, best)
    for key, message, looked_at in checks.find_problems(recipe):
        if not wrong & {key, *looked_at, *filter(None, [keys.leaf_of(key)])}:
            problems.append(_blame(key, message, settings, sections))
    return recipe, problems


def _validate(
    settings: dict[keys.Path, Setting], sections: Mapping[keys.Path, Place]
) -> tuple[Recipe, list[Problem], set[keys.Path]]:
    try:
        return Recipe.model_validate(as_tree(settings.values())), [], set()
    except ValidationError as error:
        refused = error.errors(include_url=False)
    items: dict[keys.Path, set[int]] = {}  # the key that is wrong → the items of its list that are
    for fault in refused:
        location = tuple(str(part) for part in fault["loc"])
        at = next((location[:end] for end in range(len(location), 0, -1) if location[:end] in settings), location)
        items.setdefault(at, set()).update(part for part in fault["loc"] if isinstance(part, int))
    problems = [_blame(at, _refusal(settings.get(at), at, which), settings, sections) for at, which in items.items()]
    wrong = set(items) | {leaf for at in items if (leaf := keys.leaf_of(at))}
    good = [setting for key, setting in settings.items() if key not in wrong]
    tree = as_tree(good)
    for key in wrong:
        if keys.all_leaves()[keys.leaf_of(key) or key].is_required():
            *section, leaf_name = key
            branch = tree
            for part in section:
                branch = branch[part]
            branch[leaf_name] = _UNKNOWN
    return Recipe.model_validate(tree), problems, wrong


def _refusal(setting: Setting | None, at: keys.Path, items: set[int]) -> str:
    leaf = keys.leaf_of(at) or at
    field = keys.all_leaves()[leaf]
    if setting is None:
        return f"missing; for example {leaf[-1]}: {field.examples[0]}" if field.examples else "missing"
    value, where = setting.value, ""
    if isinstance(value, list) and items:
        position = min(items)
        value, where = value[position], f" as item {position + 1}"
    if leaf == ("training", "lr_scheduler_type") and value in checks.SCHEDULERS_NOT_AVAILABLE:
        return f"{value} is {checks.NOT_IN_THIS_VERSION}; expected {expected(field)}"
    if leaf == METHOD and isinstance(value, str) and value.lower() in REFUSED:
        return f"{value}: {REFUSED[value.lower()]}; expected {expected(field)}"
    allowed = expected(field)
    if setting.path != leaf:
        # An entry of dataset.columns or dataset.data_files; a label has one word.
        allowed = "a text" if leaf[-1] == "label_words" else "a text or a list of texts"
    elif value == "":
        allowed += ", not empty"
    said = remedy(field, value)
    return f"expected {allowed}, found {found(value)}{where}" + (f"; {said}" if said else "")


def _blame(
    key: keys.Path, message: str, settings: Mapping[keys.Path, Setting], sections: Mapping[keys.Path, Place]
) -> Problem:
    """Return the problem at the place where the key was written, else where its section begins."""
    for end in range(len(key), 0, -1):
        if setting := settings.get(key[:end]):
            return Problem(setting.place, setting.shown if end == len(key) else keys.dotted(key), message)
    below = next((setting for path, setting in settings.items() if path[: len(key)] == key), None)
    if below:
        alias = below.written != keys.dotted(below.path)
        return Problem(below.place, below.shown if alias else keys.dotted(key), message)
    place = next((sections[key[:end]] for end in range(len(key), 0, -1) if key[:end] in sections), Place(RECIPE, 1))
    return Problem(place, keys.dotted(key), message)


def _name_from(path: Path) -> str:
    stem = re.sub(r"[\s/\\:*?\"<>|]+", "-", path.stem).strip(".-")
    return stem[:80] or "run"


def _with(recipe: Recipe, key: keys.Path, value: Any) -> Recipe:
    """Return the recipe with another value for one key."""
    chain: list[Any] = [recipe]
    for name in key[:-1]:
        chain.append(getattr(chain[-1], name))
    for holder, name in zip(reversed(chain), reversed(key), strict=True):
        value = holder.model_copy(update={name: value})
    return value  # type: ignore[no-any-return]
