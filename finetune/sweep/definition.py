"""Read a sweep file: what is varied, wanted and allowed, or one error that lists every problem with its line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from finetune.emissions.budget import Budget
from finetune.recipe.load import LoadedRecipe, recipe_settings
from finetune.recipe.metric_names import short_metric, task_metrics
from finetune.recipe.problems import Problem, refuse
from finetune.recipe.yaml_lines import Node
from finetune.runs.record import slug
from finetune.sweep.base_recipe import problem_at, read_base_recipe, read_entries, read_keys
from finetune.sweep.keys import ENERGY, HALVING, SweepKeys
from finetune.sweep.space import LARGEST_GRID, Choices, Parameter, size
from finetune.sweep.space_file import read_space
from finetune.tasks import all_tasks, greater_is_better
from finetune.text import join_words, nearest_or_all

_HINT = "docs/sweeps.md tells every key."


@dataclass(frozen=True)
class Objective:
    """What is wanted: a metric on validation, or the energy."""

    name: str

    @property
    def is_energy(self) -> bool:
        """Tell whether it is the energy of a trial."""
        return self.name == ENERGY

    @property
    def greater_is_better(self) -> bool:
        """Tell in which direction better lies."""
        return not self.is_energy and greater_is_better(self.name)


@dataclass(frozen=True)
class Sweep:
    """A sweep file that is right. `recipe` is what a command line calls the recipe that is varied."""

    name: str
    path: Path
    recipe: str
    loaded: LoadedRecipe
    space: tuple[Parameter, ...]
    objectives: tuple[Objective, ...]
    sampler: str
    sampler_seed: int
    pruning: bool
    trials: int
    seeds: tuple[int, ...]
    budget: Budget
    storage: str | None

    @property
    def wants_energy(self) -> bool:
        """Tell whether the energy of a trial is an objective."""
        return any(objective.is_energy for objective in self.objectives)

    def fingerprint(self) -> str:
        """Return a hash of all that must stay the same for two workers, or two lives, to work on one sweep.

        How many trials there are, what they may spend and where the account is kept may change.
        """
        recipe = recipe_settings(self.loaded.recipe)
        same = [
            {key: value for key, value in recipe.items() if key not in ("output_dir", "name")},
            [[each.key, repr(each.values), repr(sorted(each.when.items()))] for each in self.space],
            [objective.name for objective in self.objectives],
            [self.sampler, self.sampler_seed, self.pruning, self.seeds],
        ]
        return sha256(json.dumps(same, sort_keys=True, default=str).encode()).hexdigest()[:16]


def read_sweep(path: Path, output_dir: Path | None = None) -> Sweep:
    """Return the sweep of a file; raises FinetuneError with every problem, in the order of the lines."""
    shown = str(path)
    entries, problems = read_entries(path, "sweep", _HINT)
    keys, refused = read_keys(SweepKeys, entries, {"objective": "one or two names"})
    problems += refused
    reference, loaded, recipe_problems = read_base_recipe(entries.get("recipe"), path, output_dir)
    problems += recipe_problems
    space: tuple[Parameter, ...] = ()
    if isinstance(entries.get("space"), Node) and isinstance(entries["space"].value, dict):
        space, space_problems = read_space(entries["space"].value, reference)
        problems += space_problems
    if keys is not None:
        problems += _agreement(keys, entries, loaded, space if not problems else None)
    if problems or keys is None or loaded is None or reference is None:
        raise refuse(problems, shown, _HINT)
    seeds = tuple(keys.seeds or [loaded.recipe.training.seed])
    trials = keys.trials or size(space) or 0
    return Sweep(
        name=slug(keys.name or path.stem)[:48], path=path, recipe=reference, loaded=loaded, space=space,
        objectives=tuple(map(Objective, keys.objective)), sampler=keys.sampler, sampler_seed=keys.sampler_seed,
        pruning=keys.pruning == HALVING, trials=trials, seeds=seeds,
        budget=Budget(keys.max_energy_kwh, keys.max_emissions_g), storage=keys.storage,
    )  # fmt: skip


def _agreement(
    keys: SweepKeys, entries: Mapping[str, Node], loaded: LoadedRecipe | None, space: Sequence[Parameter] | None
) -> Iterator[Problem]:
    """Yield what several keys must agree on."""
    at = partial(problem_at, entries)
    for name in keys.objective if loaded is not None else ():
        if message := _objective_fault(name, loaded):
            yield at("objective", message)
    if len(set(keys.objective)) < len(keys.objective):
        yield at("objective", "names the same twice")
    if keys.pruning == HALVING:
        if len(keys.objective) > 1:
            yield at("pruning", "Optuna prunes for one objective only; leave pruning out, or name one objective")
        elif keys.objective == [ENERGY]:
            yield at("pruning", "needs a metric as the objective: evaluations have no energy objective")
        if len(keys.seeds or ()) > 1:
            yield at("pruning", "goes with one seed: a mean over several is known only at their end")
        if loaded is not None and loaded.recipe.training.eval_strategy == "no":
            yield at("pruning", "needs evaluations; the recipe has training.eval_strategy: no")
    if len(set(keys.seeds or ())) < len(keys.seeds or ()):
        yield at("seeds", "names a seed twice")
    for key in ("max_energy_kwh", "max_emissions_g"):
        if loaded is not None and getattr(loaded.recipe.emissions, key) is not None and getattr(keys, key) is not None:
            yield at(key, f"the recipe has emissions.{key}, which would end single trials; keep one")
    if space is not None:
        yield from _count_faults(keys, space, at)


def _count_faults(keys: SweepKeys, space: Sequence[Parameter], at: Any) -> Iterator[Problem]:
    endless = [each.key for each in space if not isinstance(each.values, Choices) and each.values.step is None]
    if not space:
        yield at("space", "names no key that varies")
    elif keys.sampler == "grid" and endless:
        yield at("sampler", f"grid needs lists or steps; {join_words(endless, 'and')} has neither")
    elif keys.sampler == "grid" and size(space) is None:
        yield at("sampler", f"grid: the space has more than {LARGEST_GRID:,} combinations")
    elif keys.sampler != "grid" and keys.trials is None:
        yield at("trials", f"missing: how many trials sampler: {keys.sampler} shall make")


def _objective_fault(name: str, loaded: LoadedRecipe | None) -> str | None:
    assert loaded is not None
    recipe = loaded.recipe
    own = [*task_metrics(recipe, all_tasks()[recipe.task]), *map(short_metric, recipe.evaluation.metrics or ())]
    if name in (*own, ENERGY):
        return None
    return f"{name}: neither a metric of {recipe.task} nor {ENERGY}; {nearest_or_all(name, [*own, ENERGY])}"
