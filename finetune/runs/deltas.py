"""What runs have more or less than other runs: score, energy, grams, and the grams for each point of score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetune.runs.comparison import Delta, Grid, Members, Row, mean_of_members
from finetune.runs.energy_ratio import Part, group_energy_ratio
from finetune.runs.record import Run, as_mapping, as_number
from finetune.runs.score_pairs import Judged, group_difference, judged_run, with_holm


def delta(ours: Members, theirs: Members, grid: Grid | None) -> Delta:
    """Return some runs against others, over the seeds that both have where these are two; None: cannot be compared."""
    rows = _rows(ours, theirs)
    run_set = rows[0].run_set
    same_set = run_set is not None and all(row.run_set == run_set for row in rows)
    scored, ranked = same_set and all(row.score is not None for row in rows), not any(row.not_ranked for row in rows)
    ours, theirs = _over_the_same_seeds(ours, theirs)
    score = group_difference(judged(ours), judged(theirs)) if scored else None
    energy = group_energy_ratio(energy_parts(ours), energy_parts(theirs)) if ranked else None
    extra_g, extra_ranked_g = _extra_grams(ours, theirs, grid)
    gain = 0.0
    if score is not None and score.is_distinguished and run_set is not None:
        gain = score.value if run_set.greater_is_better else -score.value
    marginal = extra_ranked_g / (100 * gain) if gain > 0 and extra_ranked_g is not None and ranked else None
    return Delta(score, energy, extra_g, marginal)


def shown_together(deltas: Sequence[Delta]) -> list[Delta]:
    """Return deltas that count in how many they are; a price per point goes with a difference that is not one then."""
    scores = with_holm([found.score for found in deltas])
    return [
        replace(
            found,
            score=score,
            marginal_g_per_point=found.marginal_g_per_point if score is not None and score.is_distinguished else None,
        )
        for found, score in zip(deltas, scores, strict=True)
    ]


def intensity(run: Run) -> tuple[Any, ...]:
    """Return what turned the energy of a run into grams: g/kWh, its scope, PUE."""
    stated = as_mapping(run.emissions.get("carbon_intensity"))
    return (as_number(stated.get("g_per_kwh")), stated.get("scope"), as_number(run.emissions.get("pue")) or 1.0)


def judged(members: Members) -> dict[str, list[Judged]]:
    """Return the scores of runs, with what each row contributes to them."""
    return {
        unit: [judged_run(row.run, row.score, row.row_scores) for row in rows if row.score is not None]
        for unit, rows in members.items()
    }


def energy_parts(members: Members) -> dict[str, list[Mapping[str, Part]]]:
    """Return the ranked energies of runs, by unit."""
    return {unit: [row.parts for row in rows] for unit, rows in members.items()}


def _rows(ours: Members, theirs: Members) -> list[Row]:
    return [row for side in (ours, theirs) for rows in side.values() for row in rows]


def _over_the_same_seeds(ours: Members, theirs: Members) -> tuple[Members, Members]:
    shared = [unit for unit in ours if unit in theirs]
    if len(shared) < 2:
        return ours, theirs
    return {unit: ours[unit] for unit in shared}, {unit: theirs[unit] for unit in shared}


def _extra_grams(ours: Members, theirs: Members, grid: Grid | None) -> tuple[float | None, float | None]:
    """Return the grams that a run has more than another: of the whole run, and of the energy that is ranked."""
    if grid is None and len({intensity(row.run) for row in _rows(ours, theirs)}) > 1:
        return None, None  # grams on different grids say more about the grids than about the runs

    def whole(row: Row) -> float | None:
        return row.run.emissions_g() if grid is None else row.emissions_g_on_grid

    def ranked(row: Row) -> float | None:
        g_per_kwh, _, pue = (grid.g_per_kwh, None, 1.0) if grid is not None else intensity(row.run)
        return None if row.ranked_kwh is None or g_per_kwh is None else row.ranked_kwh * pue * g_per_kwh

    return _less(ours, theirs, whole), _less(ours, theirs, ranked)


def _less(ours: Members, theirs: Members, value: Callable[[Row], float | None]) -> float | None:
    our_mean, their_mean = (mean_of_members(side, value) for side in (ours, theirs))
    return None if our_mean is None or their_mean is None else our_mean - their_mean
