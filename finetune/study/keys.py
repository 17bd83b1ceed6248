"""The keys of a study file: type, range, default and meaning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from finetune.recipe.kinds import Count, RunName, Section, Seed, Text

StrategyName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,19}$")]


class StudyKeys(Section):
    """What is held against what, on how many rows, how often."""

    recipe: Text = Field(
        description="The recipe that all strategies share: a file, relative to the study's, or the name of a shipped "
        "recipe.",
        examples=["quickstart"],
    )
    name: RunName | None = Field(
        default=None, description="The study's name: the group of its runs. null: the name of the file."
    )
    strategies: Annotated[dict[StrategyName, dict[str, Any]], Field(min_length=2)] = Field(
        description="Two strategies or more by name (at most 20 letters, digits, . - _), each with the dotted recipe "
        "keys that it sets. A list under training.learning_rate names candidates, of which a search on validation "
        "chooses one.",
        examples=[{"full": {}, "scratch": {"model.init": "scratch"}}],
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Dotted recipe keys that hold for all strategies, over the recipe's own."
    )
    rows: Annotated[list[Count], Field(min_length=1)] | None = Field(
        default=None,
        description="Amounts of training rows; each holds the rows of the smaller ones. null: one, as the recipe says.",
    )
    search_rows: Count | None = Field(
        default=None,
        description="On how many training rows the learning rates are searched. null: on the middle one of `rows`.",
    )
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(
        default=[1, 2, 3], description="training.seed of the runs of each cell; the search has the first."
    )
    reference: Text | None = Field(
        default=None,
        description="The strategy whose score the others are to reach, and against which they are held. "
        "null: the first.",
    )
    pretraining: Text | None = Field(
        default=None,
        description="What is published about the energy of the pre-training, with its source: shown on chart and page. "
        "null: not known.",
    )
