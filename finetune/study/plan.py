"""Which runs a study consists of, which of them are there, and the learning rates that their search chose."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from finetune.errors import FinetuneError
from finetune.recipe.load import LoadedRecipe, load_recipe
from finetune.runs.record import Run
from finetune.study.definition import Strategy, Study
from finetune.sweep.members import newest_member
from finetune.tasks import greater_is_better
from finetune.text import join_words
from finetune.training.recorded import changed_keys, recipe_as_recorded

CELL_TAG, SEARCH_TAG = "study", "search"


@dataclass(frozen=True)
class Member:
    """One run of a study: of a cell (strategy × rows × seed), or of the search for a learning rate."""

    study: Study
    strategy: Strategy
    rows: int | None
    seed: int
    learning_rate: float | None
    is_search: bool = False

    @property
    def name(self) -> str:
        """Return what its run is called."""
        amount = "all" if self.rows is None else self.rows
        what = f"lr{self.learning_rate:g}" if self.is_search else f"{amount}-s{self.seed}"
        return f"{self.study.name}-{self.strategy.name}-{what}"

    @property
    def settings(self) -> list[str]:
        """Return what it sets in the recipe, as a command line has it."""
        tags = [*self.study.loaded.recipe.tags, SEARCH_TAG if self.is_search else CELL_TAG]
        return [
            *self.study.common,
            *self.strategy.settings,
            *([f"training.learning_rate={self.learning_rate!r}"] if self.learning_rate is not None else []),
            *([f"dataset.max_train_samples={self.rows}"] if self.rows is not None else []),
            f"name={self.name}",
            f"tags=[{', '.join(tags)}]",
        ]

    def recipe(self) -> LoadedRecipe:
        """Return the recipe of its run."""
        own = ["training.seeds=null", f"training.seed={self.seed}", f"output_dir={self.study.output_dir}"]
        return load_recipe(self.study.recipe, [*self.settings, *own])


@dataclass(frozen=True)
class State:
    """The members of a study with their runs as far as there are any; `rates` holds what is chosen so far.

    A strategy without an entry in `rates` is still to be searched, and its cells are not known yet.
    """

    searches: tuple[tuple[Member, Run | None], ...]
    rates: Mapping[str, float | None]
    cells: tuple[tuple[Member, Run | None], ...]

    @property
    def members(self) -> tuple[tuple[Member, Run | None], ...]:
        """Return all members, searches first."""
        return (*self.searches, *self.cells)


def search_members(study: Study) -> list[Member]:
    """Return the runs that the search for learning rates takes."""
    return [
        Member(study, strategy, study.search_rows, study.seeds[0], rate, is_search=True)
        for strategy in study.strategies
        if strategy.is_searched
        for rate in strategy.learning_rates
    ]


def cell_members(study: Study, rates: Mapping[str, float | None]) -> list[Member]:
    """Return the runs of the cells: a whole table for the first seed, then for the next one."""
    return [
        Member(study, strategy, rows, seed, rates[strategy.name])
        for seed in study.seeds
        for rows in study.rows
        for strategy in study.strategies
        if strategy.name in rates
    ]


def number_of_cells(study: Study) -> int:
    """Return how many runs the table takes."""
    return len(study.strategies) * len(study.rows) * len(study.seeds)


def read_state(study: Study, given_up: Collection[str] | None = None) -> State:
    """Return how far a study has come.

    A rate is chosen when all runs of its search are finished or `given_up`; with None from those that are finished.
    Raises FinetuneError when a run of the study was made with other settings.
    """
    searches = tuple((member, _run_of(member)) for member in search_members(study))
    rates: dict[str, float | None] = {}
    for strategy in study.strategies:
        if not strategy.is_searched:
            rates[strategy.name] = next(iter(strategy.learning_rates), None)
            continue
        own = [(member, run) for member, run in searches if member.strategy is strategy]
        waiting = [member for member, run in own if run is None or not run.is_finished]
        if given_up is not None and any(member.name not in given_up for member in waiting):
            continue
        if (rate := chosen_rate({member.learning_rate: run for member, run in own if run is not None})) is not None:
            rates[strategy.name] = rate
    return State(searches, rates, tuple((member, _run_of(member)) for member in cell_members(study, rates)))


def chosen_rate(runs: Mapping[float | None, Run]) -> float | None:
    """Return the learning rate of the best validation score, the lowest one of equals; None without a finished run."""
    best: tuple[float, float] | None = None
    for rate, run in runs.items():
        metric = str(run.main_metric.get("name"))
        score = run.score(metric, "validation")
        if rate is None or score is None or not run.is_finished:
            continue
        worth = score.value if greater_is_better(metric) else -score.value
        best = max(best or (worth, -rate), (worth, -rate))
    return None if best is None else -best[1]


def require_same_settings(state: State, but: Collection[str] = ()) -> None:
    """Raise FinetuneError when a run was made with other settings than the study has now, `but` run ids left out."""
    for member, run in state.members:
        if run is None or run.directory is None or run.run_id in but:
            continue
        changed = changed_keys(run.recipe, recipe_as_recorded(member.recipe().recipe, run.directory))
        if changed:
            raise FinetuneError(
                f"{run.run_id} belongs to the study {member.study.name} and was made with another "
                f"{join_words(changed, 'and')}",
                "Give the changed study its own name, put back what was changed, or remove that run's folder.",
            )


def _run_of(member: Member) -> Run | None:
    return newest_member(member.study.output_dir, member.name, member.study.name)
