"""finetune estimate: try the recipe or look at past runs, and put the forecast together."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.console import say
from finetune.emissions.allocation import memory_limit_bytes
from finetune.emissions.forecast import Rate
from finetune.emissions.intensity import resolve_intensity
from finetune.estimate.ask import LONGEST_MEASURING_S, Answer, ask
from finetune.estimate.assumed import assumed_rates
from finetune.estimate.costs import Cost, measured_rates, phase_costs, seen_costs, warm_up_cost
from finetune.estimate.forecast import amounts, budget_verdicts, grid_table, memory_needed
from finetune.estimate.history import past_rates
from finetune.hub import go_offline_if_unreachable
from finetune.recipe.dump import recipe_settings
from finetune.recipe.load import load_recipe
from finetune.recipe.paths import hub_references
from finetune.recipe.schema import Recipe
from finetune.runs.record import Run, list_runs
from finetune.text import join_words, plural

_PROBE, _HISTORY, _ASSUMED = "probe", "history", "assumed"

Section = dict[str, Any]


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    recipe: str
    overrides: Sequence[str] = ()
    probe: bool = True
    country: str | None = None
    region: str | None = None
    output_dir: Path | None = None


@dataclass(frozen=True)
class Basis:
    """What a unit of each kind of work costs and how that is known; `fixed` is what a run pays once, by phase."""

    name: str
    rates: Mapping[str, Rate]
    fixed: Mapping[str, Cost]
    notes: tuple[str, ...] = ()
    run_ids: tuple[str, ...] = ()


def estimate(request: Request) -> Section:
    """Return the forecast of a run, as `finetune estimate --json` prints it.

    Raises FinetuneError for a recipe with problems, for what the run would be refused for, and when the probe fails.
    """
    folder = [f"output_dir={request.output_dir}"] if request.output_dir is not None else []
    loaded = load_recipe(request.recipe, [*request.overrides, *folder])
    recipe = loaded.recipe if loaded.recipe.name else loaded.recipe.model_copy(update={"name": loaded.path.stem})
    resolve_intensity(recipe.emissions, request.country, request.region)  # an unknown place is refused at once
    unreachable = go_offline_if_unreachable(hub_references(recipe))
    for note in [*loaded.notes, *([unreachable] if unreachable else [])]:
        say(f"note: {note}")
    if request.probe:
        say(f"trying the recipe: data and model as in the run, then steps for less than {LONGEST_MEASURING_S:.0f} s")
    answer = ask(recipe, request.probe, request.country, request.region)
    runs = list_runs(Path(recipe.output_dir))[0] if Path(recipe.output_dir).is_dir() else ()
    report = compose(answer, choose_basis(answer, runs, recipe), recipe, free_ram())
    return report | {"next": next_command(request)}


def choose_basis(answer: Answer, runs: Sequence[Run], recipe: Recipe) -> Basis:
    """Return what the forecast rests on: the probe, else past runs, else assumptions."""
    seen, notes = seen_costs(answer.found["emissions"]), (answer.note,) if answer.note else ()
    if answer.measured is not None:
        rates = measured_rates(answer.measured)
        return Basis(_PROBE, rates, {**seen, "train": warm_up_cost(answer.measured, rates)}, notes)
    past = past_rates(runs, answer.found, recipe_settings(recipe))
    if past is None:
        note = "no past run compares: the cost of a token is assumed from the size of the model and the machine"
        return Basis(_ASSUMED, assumed_rates(answer.found), seen, (*notes, note))
    if not past.is_same_model:
        notes = (*notes, "the past runs had other models: their cost is carried over by the number of operations")
    return Basis(_HISTORY, past.rates, seen, notes, past.run_ids)


def compose(answer: Answer, basis: Basis, recipe: Recipe, ram_free_bytes: int) -> Section:
    """Put everything that is known about a run before it starts into one report."""
    found, measured = answer.found, answer.measured
    costs = phase_costs(found["work"]["phases"], basis.rates)
    for phase, extra in basis.fixed.items():
        costs[phase] = costs.get(phase, Cost()) + extra
    emissions = (measured or found)["emissions"]
    expected, memory = amounts(costs, emissions), memory_needed(found, measured, ram_free_bytes)
    return {
        "name": found["name"],
        "task": found["task"],
        "basis": basis.name,
        "based_on": list(basis.run_ids),
        **expected,
        "budget": budget_verdicts(expected, recipe.emissions),
        "grids": grid_table(expected),
        "model": found["model"],
        "dataset": {key: found["dataset"][key] for key in ("path", "name", "fingerprint", "rows", "length_tokens")},
        "training": found["training"] | {"evaluations": found["work"]["evaluations"]},
        "memory": memory,
        "disk": found["disk"],
        "probe": {
            "energy_kwh": emissions["energy_kwh"],
            "duration_s": emissions["duration_s"],
            "steps": measured["steps"] if measured else 0,
        },
        "notes": [*basis.notes, *_notes(found, recipe, memory, emissions), *found["notes"], *emissions["notes"]],
    }


def free_ram() -> int:
    """Return the memory in bytes that a run could take now, within the container's limit where there is one."""
    import psutil

    available, limit = int(psutil.virtual_memory().available), memory_limit_bytes()
    return available if limit is None else min(available, limit)


def _notes(found: Section, recipe: Recipe, memory: Section, emissions: Section) -> list[str]:
    """Return what the forecast takes for granted, and what may keep the run from its end."""
    training, notes = recipe.training, []
    if memory["ram_bytes"] is not None and memory["ram_bytes"] > memory["ram_free_bytes"]:
        notes.append("the memory may be too small: try a smaller training.per_device_train_batch_size")
    if neighbours := emissions.get("shared_with"):
        notes.append(f"the probe was not alone on the machine: {join_words(neighbours, 'and')} ran beside it")
    if training.early_stopping_patience is not None:
        patience = plural(training.early_stopping_patience, "evaluation")
        notes.append(f"early stopping (after {patience} without a new best) may end the run before its last step")
    if not found["work"]["is_exact"]:
        notes.append("the rows are streamed: how long they are is taken from the first of them")
    if training.gradual_unfreezing is not None:
        notes.append("gradual unfreezing: every step is taken to cost what the last ones do, which is an upper bound")
    return notes


def next_command(request: Request) -> str:
    """Return the command that starts the run which was estimated."""
    options = {"--country": request.country, "--region": request.region, "--output-dir": request.output_dir}
    given = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return shlex.join(["finetune", "run", request.recipe, *request.overrides, *given])
