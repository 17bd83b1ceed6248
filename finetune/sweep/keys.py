"""The keys of a sweep file, apart from its space: type, range, default and meaning."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from finetune.recipe.kinds import Count, Positive, RunName, Section, Seed, Text

ENERGY = "energy_kwh"
"""The objective that is minimised: training, evaluating and saving, without work that was done again."""

HALVING = "successive_halving"


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class SweepKeys(Section):
    """What is varied, what is wanted, and what it may cost."""

    recipe: Text = Field(
        description="The recipe that is varied: a file, relative to the sweep's, or the name of a shipped recipe.",
        examples=["quickstart"],
    )
    name: RunName | None = Field(
        default=None,
        description="The sweep's name: the group of its runs, its folder, its study in the storage. "
        "null: the name of the file.",
    )
    objective: Annotated[list[Text], Field(min_length=1, max_length=2), BeforeValidator(_as_list)] = Field(
        description="One or two of: a metric of the task, scored on validation, and energy_kwh.",
        examples=[["accuracy", "energy_kwh"]],
    )
    space: dict[str, Any] = Field(
        description="Dotted recipe keys, each with a list of values, one value, or {low, high, log, step}; "
        "`when` names earlier keys and the values at which a key takes part."
    )
    sampler: Literal["tpe", "random", "nsga2", "grid"] = Field(
        default="tpe", description="Who chooses the values: all combinations in turn (grid), or an algorithm of Optuna."
    )
    sampler_seed: Seed = Field(default=0, description="Seed of the sampler.")
    pruning: Literal["none", "successive_halving"] = Field(
        default="none",
        description="Whether trials that fall behind end early: asked after the evaluations number 1, 2, 4, 8 … which "
        "the better half passes. For one objective that is a metric.",
    )
    trials: Count | None = Field(
        default=None, description="How many trials there are, those that fail or are pruned included. null: the grid's."
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] | None = Field(
        default=None,
        description="training.seed of the runs of each trial, which then counts by their mean. null: the recipe's.",
    )
    max_energy_kwh: Positive | None = Field(
        default=None,
        description="Energy budget of the whole sweep in kWh × PUE; a trial is begun if its forecast fits.",
    )
    max_emissions_g: Positive | None = Field(
        default=None, description="Carbon budget of the whole sweep in g CO2e, in the same way."
    )
    storage: Text | None = Field(
        default=None,
        description="Where workers keep their common account: a journal file, or the URL of a database. "
        "null: a journal in the sweep's folder.",
        examples=["postgresql://user@host/sweeps"],
    )
