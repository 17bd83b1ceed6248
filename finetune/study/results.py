"""What the runs of a study show: the table of its cells, the curves, and what each strategy needs to reach a score."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

import numpy

from finetune.runs import formats
from finetune.runs.compare import reasons_not_ranked
from finetune.runs.comparison import ScoreDifference
from finetune.runs.differences import flatten
from finetune.runs.energy_ratio import EnergyRatio, group_energy_ratio, ranked_kwh, ranked_parts
from finetune.runs.predictions import read_row_scores
from finetune.runs.record import Run, as_number
from finetune.runs.score_pairs import Judged, group_difference, judged_run, with_holm
from finetune.runs.scoring import scored_run
from finetune.runs.sets import run_sets
from finetune.runs.statistics import Mean, mean_of_all, mean_over_seeds
from finetune.study.curves import CellValues
from finetune.study.definition import Study
from finetune.study.plan import State, training_rows
from finetune.text import join_words, plural

_PATIENCE = "training.early_stopping_patience"
PLATEAU = "early stopping"  # begins the reason of a run that its patience ended


@dataclass(frozen=True)
class Cell:
    """The finished runs of one strategy on one amount of rows, by seed.

    `kwh` is the mean of what rankings count (train + evaluate + save), None when a run's energy takes no part in
    rankings. `difference` and `energy` are against the reference on the same rows, None for the reference itself.
    """

    strategy: str
    rows: int
    runs: Mapping[int, Run]
    judged: Mapping[int, Judged]
    score: Mean
    kwh: float | None
    epochs: float | None
    at_plateau: int
    difference: ScoreDifference | None = None
    energy: EnergyRatio | None = None

    def values(self, sign: int) -> CellValues:
        """Return what the runs measured, for the draws; with a sign of -1 lower scores are better."""
        judged = list(self.judged.values())
        each = [one.rows for one in judged]
        asked = {one.questions for one in each if one is not None}
        rows = None
        if None not in each and len(asked) == 1:
            rows = sign * numpy.array([one.values for one in each if one is not None])
        kwh = None if self.kwh is None else numpy.array([ranked_kwh(run) for run in self.runs.values()], dtype=float)
        return CellValues(sign * numpy.array([one.score.value for one in judged]), kwh, rows)


@dataclass(frozen=True)
class Search:
    """The search for the learning rate of a strategy: validation scores by rate, the chosen one, what it took."""

    strategy: str
    scores: Mapping[float, float | None]
    chosen: float | None
    kwh: float | None

    @property
    def is_at_the_edge(self) -> bool:
        """Tell whether a rate beyond the candidates may be better."""
        return self.chosen is not None and self.chosen in (min(self.scores), max(self.scores))


@dataclass(frozen=True)
class Results:
    """A study as it stands. `cells` go by strategy, then rows; `runs` are all of its runs, searches included."""

    study: Study
    metric: str
    split: str
    greater_is_better: bool
    n: int | None
    cells: tuple[Cell, ...]
    searches: tuple[Search, ...]
    runs: tuple[Run, ...]
    missing: int
    notes: tuple[str, ...]

    @property
    def sign(self) -> int:
        """Return 1 where greater scores are better, else -1."""
        return 1 if self.greater_is_better else -1

    def curve(self, strategy: str) -> list[Cell]:
        """Return the cells of a strategy, fewest rows first."""
        return [cell for cell in self.cells if cell.strategy == strategy]

    @property
    def amounts(self) -> list[int]:
        """Return the amounts of rows that some cell has."""
        return sorted({cell.rows for cell in self.cells})


def make_results(study: Study, state: State, failed: Mapping[str, str]) -> Results:
    """Read what the runs of a study measured; `failed` are reasons by the name of a run."""
    finished = [(member, run) for member, run in state.cells if run is not None and run.is_finished]
    scored = {run.run_id: scored_run(run) for _, run in finished}
    sets = run_sets([run for _, run in finished], scored)
    first = next((each for each in sets.values() if each.name == "A"), None)
    grouped: dict[tuple[str, int], dict[int, Run]] = {}
    for member, run in finished:
        if sets.get(run.run_id) == first:
            grouped.setdefault((member.strategy.name, training_rows(run)), {})[member.seed] = run
    names = [strategy.name for strategy in study.strategies]
    cells = [_cell(*key, grouped[key]) for key in sorted(grouped, key=lambda key: (names.index(key[0]), key[1]))]
    outside = [run.run_id for _, run in finished if sets.get(run.run_id) != first]
    searches = tuple(_search(name, state) for name in names if any(m.strategy.name == name for m, _ in state.searches))
    cells = _against_reference(cells, study.reference)
    wanted = len(study.strategies) * len(study.rows) * len(study.seeds)
    return Results(
        study=study,
        metric=first.metric if first else "score",
        split=first.split if first else "test",
        greater_is_better=first.greater_is_better if first else True,
        n=first.n if first else None,
        cells=tuple(cells),
        searches=searches,
        runs=tuple(run for _, run in state.members if run is not None),
        missing=wanted - sum(len(cell.runs) for cell in cells),
        notes=(
            *_notes(study, cells, searches, outside),
            *_fall_notes(study, cells, -1 if first and not first.greater_is_better else 1),
            *_patience_notes(study, cells),
            *_plan_notes(state, searches),
            *(f"{name} failed: {why}" for name, why in failed.items()),
        ),
    )


def _cell(strategy: str, rows: int, runs: Mapping[int, Run]) -> Cell:
    judged = {}
    for seed, run in runs.items():
        scored = scored_run(run)
        assert scored is not None
        judged[seed] = judged_run(run, scored.score, read_row_scores(run, scored))
    kwh = [
        ranked_kwh(run) if not reasons_not_ranked(run, ranked_kwh(run) is not None) else None for run in runs.values()
    ]
    epochs = [value for run in runs.values() if (value := as_number(run.training.get("epochs"))) is not None]
    return Cell(
        strategy, rows, runs, judged, mean_over_seeds([one.score.value for one in judged.values()]),
        mean_of_all(kwh), fmean(epochs) if epochs else None,
        sum((run.status_reason or "").startswith(PLATEAU) for run in runs.values()),
    )  # fmt: skip


def _against_reference(cells: Sequence[Cell], reference: str) -> list[Cell]:
    """Hold each cell against the reference on the same rows, seed by seed; Holm over all of them."""
    base = {cell.rows: cell for cell in cells if cell.strategy == reference}
    held = [cell for cell in cells if cell.strategy != reference and cell.rows in base]
    found = with_holm([_difference(cell, base[cell.rows]) for cell in held])
    differences = {(cell.strategy, cell.rows): one for cell, one in zip(held, found, strict=True)}
    return [
        replace(cell, difference=differences[key], energy=cell_energy_ratio(cell, base[cell.rows]))
        if (key := (cell.strategy, cell.rows)) in differences
        else cell
        for cell in cells
    ]


def _difference(ours: Cell, theirs: Cell) -> ScoreDifference:
    """Return the score of one cell less that of another, seed by seed."""
    return group_difference(*({str(seed): [one] for seed, one in cell.judged.items()} for cell in (ours, theirs)))


def cell_energy_ratio(ours: Cell, theirs: Cell) -> EnergyRatio | None:
    """Return the energy of one cell over that of another, None when either takes no part in rankings."""
    if ours.kwh is None or theirs.kwh is None:
        return None
    parts = [{str(seed): [ranked_parts(run)] for seed, run in cell.runs.items()} for cell in (ours, theirs)]
    return group_energy_ratio(*parts)


def _search(strategy: str, state: State) -> Search:
    own = [(member, run) for member, run in state.searches if member.strategy.name == strategy]
    scores = {}
    for member, run in own:
        metric = str(run.main_metric.get("name")) if run is not None else ""
        score = run.score(metric, "validation") if run is not None and run.is_finished else None
        scores[member.learning_rate or math.nan] = score.value if score is not None else None
    kwh = [run.energy_kwh() for _, run in own if run is not None]
    known = [value for value in kwh if value is not None]
    return Search(strategy, scores, state.rates.get(strategy), sum(known) if known and len(known) == len(kwh) else None)


def _notes(study: Study, cells: Sequence[Cell], searches: Sequence[Search], outside: Sequence[str]) -> list[str]:
    notes = []
    if outside:
        notes.append(f"scored on other rows than the rest, and left out: {join_words(outside, 'and')}")
    single = [cell for cell in cells if len(cell.runs) < 3]
    if single:
        least = min(len(cell.runs) for cell in single)
        few = plural(len(single), "cell has", "cells have")
        notes.append(f"{few} fewer than three seeds ({least} at least): their seed noise is hardly known")
    for strategy in study.strategies:
        own = [cell for cell in cells if cell.strategy == strategy.name]
        short = sum(len(cell.runs) - cell.at_plateau for cell in own)
        if short:
            of = plural(sum(len(cell.runs) for cell in own), "run")
            notes.append(
                f"{strategy.name}: {short} of {of} ended before a plateau was seen; more training might help: raise "
                "training.num_train_epochs or max_steps, or set early_stopping_patience"
            )
    for search in searches:
        if search.is_at_the_edge and search.chosen is not None:
            notes.append(
                f"{search.strategy}: the chosen learning rate {search.chosen:g} lies at the edge of its candidates"
            )
    if any(one.rows is None for cell in cells for one in cell.judged.values()):
        notes.append(
            "the intervals of what is needed or retained hold the noise of seeds alone: the saved predictions do not "
            "give every score back row by row"
        )
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        for run in cell.runs.values():
            for reason in reasons_not_ranked(run, ranked_kwh(run) is not None):
                reasons.setdefault(reason.partition(" with ")[0], []).append(run.run_id)
    notes += [f"{plural(len(ids), 'run')} without an energy to compare: {why}" for why, ids in reasons.items()]
    return notes


def _fall_notes(study: Study, cells: Sequence[Cell], sign: int) -> list[str]:
    """Say where a strategy scores worse on more rows than on fewer: its settings do not suit all amounts."""
    notes = []
    for strategy in study.strategies:
        own = [cell for cell in cells if cell.strategy == strategy.name]
        pairs = [
            (less, more) for less, more in combinations(own, 2) if sign * (less.score.value - more.score.value) > 0
        ]
        told = with_holm([_difference(less, more) for less, more in pairs])
        fallen = [pair for pair, one in zip(pairs, told, strict=True) if one is not None and one.is_distinguished]
        if fallen:
            less, more = max(fallen, key=lambda pair: abs(pair[0].score.value - pair[1].score.value))
            notes.append(
                f"{strategy.name}: {formats.score_value(more.score.value)} on {more.rows:,} rows is worse than "
                f"{formats.score_value(less.score.value)} on {less.rows:,}: a lower learning rate may suit more rows "
                "better (search_rows says on how many it is searched), or more steps"
            )
    return notes


def _patience_notes(study: Study, cells: Sequence[Cell]) -> list[str]:
    """Say where strategies wait for a better score with unequal patience: their energies hold unequal waits."""
    by_patience: dict[int, list[str]] = {}
    tails = []
    for strategy in study.strategies:
        runs = [run for cell in cells if cell.strategy == strategy.name for run in cell.runs.values()]
        patience = {flatten(run.recipe).get(_PATIENCE) for run in runs}
        if len(patience) == 1 and (evaluations := patience.pop()):
            by_patience.setdefault(int(evaluations), []).append(strategy.name)
            shares = [share for run in runs if (share := _share_after_best(run)) is not None]
            tails.append(f"{fmean(shares):.0%} of {strategy.name}'s" if len(shares) == len(runs) else None)
    if len(by_patience) < 2:
        return []
    waits = join_words(
        [f"{plural(count, 'evaluation')} ({', '.join(names)})" for count, names in by_patience.items()], "and"
    )
    told = [tail for tail in tails if tail is not None]
    after = f": after the best score came {join_words(told, 'and')}" if len(told) == len(tails) else ""
    return [f"unequal patience: early stopping waits for {waits}, and that wait is in their energy{after}"]


def _share_after_best(run: Run) -> float | None:
    """Return which share of a run's energy up to its last evaluation came after the best one."""
    spent = {point.get("step"): as_number(point.get("energy_kwh")) for point in run.timeline}
    best, last = spent.get(run.training.get("best_step")), next(reversed(spent.values()), None)
    return None if best is None or not last else 1 - best / last


def _plan_notes(state: State, searches: Sequence[Search]) -> list[str]:
    """Say which candidates a search is without for good, and which amount of rows is all that there are."""
    notes = []
    for search in searches:
        lacking = [f"{rate:g}" for rate, score in search.scores.items() if score is None]
        if lacking and search.strategy in state.closed:
            notes.append(
                f"{search.strategy}: no score for the learning rate {join_words(lacking, 'and')}; its cells were made "
                f"with {search.chosen:g}, and stay: to search again remove them, or give the study another name"
            )
    short = {(member.rows, training_rows(run)) for member, run in state.cells if member.rows and run is not None}
    return notes + [
        f"{asked:,} rows were asked for: there are {there:,}" for asked, there in sorted(short) if 0 < there < asked
    ]
