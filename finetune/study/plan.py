"""Which runs a study consists of, which of them are there, and the learning rates that their search chose.

A study may grow. What it has chosen once is read from its own runs, so that they stay its runs: on how many rows and
with which seed it searched, and the learning rates of its cells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from finetune.errors import FinetuneError
from finetune.recipe.load import LoadedRecipe, load_recipe
from finetune.runs.differences import flatten
from finetune.runs.record import Run, as_mapping, as_number
from finetune.study.definition import Strategy, Study
from finetune.sweep.members import newest_member
from finetune.tasks import greater_is_better
from finetune.text import join_words
from finetune.training.recorded import changed_keys, recipe_as_recorded
from finetune.training.words import seed_settings

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
        own = [*seed_settings(self.seed), f"output_dir={self.study.output_dir}"]
        return load_recipe(self.study.recipe, [*self.settings, *own])


@dataclass(frozen=True)
class State:
    """The members of a study with their runs as far as there are any; `rates` holds what is chosen so far.

    A strategy without an entry in `rates` is still to be searched, and its cells are not known yet. The search of those
    in `closed` is over, since cells were made by its outcome: candidates that have no score get none any more.
    """

    searches: tuple[tuple[Member, Run | None], ...]
    rates: Mapping[str, float | None]
    cells: tuple[tuple[Member, Run | None], ...]
    closed: frozenset[str]

    @property
    def members(self) -> tuple[tuple[Member, Run | None], ...]:
        """Return all members, searches first."""
        return (*self.searches, *self.cells)


def search_members(study: Study) -> list[Member]:
    """Return the runs that the search for learning rates takes."""
    return [
        Member(study, strategy, study.search_rows, study.search_seed, rate, is_search=True)
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
    Where cells were made already, theirs stays.
    """
    study = _with_search_as_begun(study)
    searches = tuple((member, _run_of(member)) for member in search_members(study))
    rates: dict[str, float | None] = {}
    closed = set()
    for strategy in study.strategies:
        if not strategy.is_searched:
            rates[strategy.name] = next(iter(strategy.learning_rates), None)
            continue
        if (rate := _rate_of_cells(study, strategy)) is not None:
            rates[strategy.name] = rate
            closed.add(strategy.name)
            continue
        own = [(member, run) for member, run in searches if member.strategy is strategy]
        waiting = [member for member, run in own if run is None or not run.is_finished]
        if given_up is not None and any(member.name not in given_up for member in waiting):
            continue
        if (rate := chosen_rate({member.learning_rate: run for member, run in own if run is not None})) is not None:
            rates[strategy.name] = rate
    cells = tuple((member, _run_of(member)) for member in cell_members(study, rates))
    return State(searches, rates, cells, frozenset(closed))


def _with_search_as_begun(study: Study) -> Study:
    """Return the study with the rows and the seed of its search, as far as runs of it are there.

    The default of both depends on the lists of rows and seeds, to which more may have been added.
    """
    run = next((run for member in search_members(study) if (run := _run_of(member)) is not None), None)
    if run is None:
        return study
    made_with = flatten(run.recipe)
    rows = study.search_rows if study.names_search_rows else made_with.get("dataset.max_train_samples")
    return replace(study, search_rows=rows, search_seed=made_with.get("training.seed", study.search_seed))


def _rate_of_cells(study: Study, strategy: Strategy) -> float | None:
    """Return the candidate that the cells of a strategy were made with, None where there is no cell yet."""
    runs = (run for member in cell_members(study, {strategy.name: None}) if (run := _run_of(member)) is not None)
    rates = (flatten(run.recipe).get("training.learning_rate") for run in runs)
    return next((rate for rate in rates if rate in strategy.learning_rates), None)


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


def require_different_rows(state: State) -> None:
    """Raise FinetuneError when two amounts of rows are the same, since both lie beyond the data that runs had."""
    known = [(member, run) for member, run in state.members if member.rows is not None and run is not None]
    there = [rows for member, run in known if 0 < (rows := training_rows(run)) < (member.rows or 0)]
    if not there:
        return
    same = [rows for rows in known[0][0].study.rows if rows is not None and rows >= min(there)]
    if len(same) > 1:
        amounts = join_words([f"{rows:,}" for rows in same], "and")
        raise FinetuneError(
            f"{known[0][0].study.path}: rows: {amounts} are the same, as there are {min(there):,} training rows",
            f"Keep one of them, {same[0]}: it stands for all rows.",
        )


def training_rows(run: Run) -> int:
    """Return on how many rows a run trained, 0 where that is not known."""
    return int(as_number(as_mapping(run.dataset.get("rows")).get("train")) or 0)


def _run_of(member: Member) -> Run | None:
    return newest_member(member.study.output_dir, member.name, member.study.name)
