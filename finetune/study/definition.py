"""Read a study file: what is held against what, or one error that lists every problem with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetune.recipe.load import LoadedRecipe, check_recipe, load_recipe
from finetune.recipe.problems import COMMAND_LINE, RECIPE, Place, Problem, refuse
from finetune.recipe.yaml_lines import Node
from finetune.runs.record import slug
from finetune.study.keys import StudyKeys
from finetune.sweep.base_recipe import problem_at, read_base_recipe, read_entries, read_keys
from finetune.text import join_words, nearest_or_all

_HINT = "docs/studies.md tells every key."
_RATE = "training.learning_rate"
_OWN = {
    "name": "each run has the name of its cell",
    "tags": "runs have the tags of the recipe",
    "output_dir": "--output-dir names another folder",
    "training.seed": "the study has its own key: seeds",
    "training.seeds": "the study has its own key: seeds",
    "dataset.max_train_samples": "the study has its own key: rows",
}
_SHARED = ("dataset", "task", "evaluation")  # what makes the scores of two strategies comparable
_ALLOWED = {
    "strategies": "a mapping of two strategies or more, each a name of at most 20 letters, digits, . - _ with a "
    "mapping of dotted recipe keys",
    "settings": "a mapping of dotted recipe keys",
    "rows": "a list of whole numbers, at least 1",
    "seeds": "a list of whole numbers, at least 0",
}


@dataclass(frozen=True)
class Strategy:
    """One way to get a model: what it sets in the recipe, and the learning rates that are tried, lowest first.

    Without a rate it has the recipe's; a single one is not searched.
    """

    name: str
    settings: tuple[str, ...]
    learning_rates: tuple[float, ...]

    @property
    def is_searched(self) -> bool:
        """Tell whether there is a choice between learning rates."""
        return len(self.learning_rates) > 1


@dataclass(frozen=True)
class Study:
    """A study file that is right.

    `recipe` is what a command line calls the recipe, `common` what all strategies set in it. `rows` ascend; None stands
    for as many as the recipe says. `search_rows` is what the file names, or else the default, which moves with `rows`.
    """

    name: str
    path: Path
    recipe: str
    loaded: LoadedRecipe
    common: tuple[str, ...]
    strategies: tuple[Strategy, ...]
    rows: tuple[int | None, ...]
    search_rows: int | None
    names_search_rows: bool
    search_seed: int
    seeds: tuple[int, ...]
    reference: str
    pretraining: str | None

    @property
    def output_dir(self) -> Path:
        """Return the folder of the runs."""
        return Path(self.loaded.recipe.output_dir)


def read_study(path: Path, settings: Sequence[str] = (), output_dir: Path | None = None) -> Study:
    """Return the study of a file; `settings` are those of the command line, which win over the file's own.

    Raises FinetuneError with every problem, in the order of the lines.
    """
    entries, problems = read_entries(path, "study", _HINT)
    keys, refused = read_keys(StudyKeys, entries, _ALLOWED)
    reference, loaded, recipe_problems = read_base_recipe(entries.get("recipe"), path, output_dir)
    problems += [*refused, *recipe_problems]
    if keys is None or loaded is None or reference is None:
        raise refuse(problems, str(path), _HINT)
    problems += _agreement(keys, entries, settings)
    common = (*_as_overrides(keys.settings), *settings)
    if problems:
        raise refuse(problems, str(path), _HINT)
    strategies = tuple(_strategy(name, own) for name, own in keys.strategies.items())
    if faults := list(_recipe_faults(reference, common, strategies, entries)):
        raise refuse(faults, str(path), _HINT)
    rows = tuple(sorted(keys.rows)) if keys.rows else (None,)
    folder = [f"output_dir={output_dir}"] if output_dir is not None else []
    return Study(
        name=slug(keys.name or path.stem)[:32], path=path, recipe=reference,
        loaded=load_recipe(reference, [*common, *folder]), common=common, strategies=strategies, rows=rows,
        search_rows=keys.search_rows or rows[(len(rows) - 1) // 2], names_search_rows=keys.search_rows is not None,
        search_seed=keys.seeds[0], seeds=tuple(keys.seeds),
        reference=keys.reference or next(iter(keys.strategies)), pretraining=keys.pretraining,
    )  # fmt: skip


def _strategy(name: str, settings: Mapping[str, Any]) -> Strategy:
    rates = settings.get(_RATE, [])
    others = {key: value for key, value in settings.items() if key != _RATE}
    return Strategy(name, _as_overrides(others), tuple(sorted(rates if isinstance(rates, list) else [rates])))


def _as_overrides(settings: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{key}={json.dumps(value)}" for key, value in settings.items())


def _agreement(keys: StudyKeys, entries: Mapping[str, Node], settings: Sequence[str]) -> Iterator[Problem]:
    """Yield what several keys must agree on."""
    at = partial(problem_at, entries)
    for key in ("rows", "seeds"):
        values = getattr(keys, key) or []
        if len(set(values)) < len(values):
            yield at(key, "names a number twice")
    if keys.reference is not None and keys.reference not in keys.strategies:
        yield at("reference", f"{keys.reference} is no strategy; {nearest_or_all(keys.reference, keys.strategies)}")
    for key in keys.settings:
        if reason := _OWN.get(key):
            yield at("settings", f"{key} cannot be set: {reason}")
    for setting in settings:
        key = setting.partition("=")[0]
        owners = [name for name, own in keys.strategies.items() if key in own]
        if reason := _OWN.get(key):
            yield Problem(Place(COMMAND_LINE), key, f"cannot be set: {reason}")
        if owners:
            yield Problem(Place(COMMAND_LINE), key, f"is set by {join_words(owners, 'and')}: change the study file")
    for name, own in keys.strategies.items():
        line = entries["strategies"].value[name].line
        yield from (Problem(Place(RECIPE, line), f"strategies.{name}", fault) for fault in _strategy_faults(own))


def _strategy_faults(settings: Mapping[str, Any]) -> Iterator[str]:
    for key in settings:
        if reason := _OWN.get(key):
            yield f"{key} cannot be set: {reason}"
        elif key.partition(".")[0] in _SHARED:
            yield f"{key} cannot differ between strategies, whose scores would be no longer of the same rows"
    if _RATE in settings:
        rates = settings[_RATE] if isinstance(settings[_RATE], list) else [settings[_RATE]]
        numbers = [rate for rate in rates if isinstance(rate, int | float) and not isinstance(rate, bool) and rate > 0]
        if len(numbers) < len(rates) or not rates:
            yield f"{_RATE}: expected a number above 0 or a list of them"
        elif len(set(rates)) < len(rates):
            yield f"{_RATE} names a rate twice"


def _recipe_faults(
    recipe: str, common: Sequence[str], strategies: Sequence[Strategy], entries: Mapping[str, Node]
) -> Iterator[Problem]:
    """Yield what the recipe's rules say of the settings: of the common ones, then of each strategy."""
    shared = _problems(recipe, common)
    line = entries["settings"].line if "settings" in entries else 1
    yield from (Problem(Place(RECIPE, line), "settings", words) for words in shared)
    for strategy in () if shared else strategies:
        rates = [f"{_RATE}={rate!r}" for rate in strategy.learning_rates[:1]]
        place = Place(RECIPE, entries["strategies"].value[strategy.name].line)
        for words in _problems(recipe, [*common, *strategy.settings, *rates]):
            yield Problem(place, f"strategies.{strategy.name}", words)


def _problems(recipe: str, settings: Sequence[str]) -> list[str]:
    checked = check_recipe(recipe, settings)
    return [
        f"{problem.key}: {problem.message}" if problem.place.origin == COMMAND_LINE else problem.words(checked.shown)
        for problem in checked.problems
    ]
