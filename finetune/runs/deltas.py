"""What runs have more or less than other runs: score, energy, grams, and the grams for each point of score."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from finetune.runs.comparison import Delta, Grid, Row
from finetune.runs.energy_ratio import Part, group_energy_ratio
from finetune.runs.record import Run, as_mapping, as_number
from finetune.runs.score_pairs import Judged, group_difference, with_holm

Members = Mapping[str, Sequence[Row]]
"""Runs by what pairs them with others; a run alone is a group of one."""


def alone(row: Row) -> Members:
    """Return a run as a group of one."""
    return {"": (row,)}


def delta(ours: Members, theirs: Members, grid: Grid | None) -> Delta:
    """Return some runs against others; what cannot be compared is None."""
    our_rows, their_rows = ([row for rows in side.values() for row in rows] for side in (ours, theirs))
    rows = [*our_rows, *their_rows]
    run_set = our_rows[0].run_set
    same_set = run_set is not None and all(row.run_set == run_set for row in rows)
    scored = same_set and all(row.score is not None for row in rows)
    score = group_difference(judged(ours), judged(theirs)) if scored else None
    ranked = not any(row.not_ranked for row in rows)
    energy = group_energy_ratio(energy_parts(ours), energy_parts(theirs)) if ranked else None
    extra_g, extra_ranked_g = _extra_grams(our_rows, their_rows, grid)
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
        unit: [Judged(row.score, row.row_scores) for row in rows if row.score is not None]
        for unit, rows in members.items()
    }


def energy_parts(members: Members) -> dict[str, Mapping[str, Part]]:
    """Return the ranked energy of each unit, of which runs made twice are all part."""
    return {
        f"{unit} {number}" if number else unit: row.parts
        for unit, rows in members.items()
        for number, row in enumerate(rows)
    }


def _extra_grams(ours: Sequence[Row], theirs: Sequence[Row], grid: Grid | None) -> tuple[float | None, float | None]:
    """Return the grams that a run has more than another: of the whole run, and of the energy that is ranked."""
    if grid is None and len({intensity(row.run) for row in (*ours, *theirs)}) > 1:
        return None, None  # grams on different grids say more about the grids than about the runs

    def whole(row: Row) -> float | None:
        return row.run.emissions_g() if grid is None else row.emissions_g_on_grid

    def ranked(row: Row) -> float | None:
        g_per_kwh, _, pue = (grid.g_per_kwh, None, 1.0) if grid is not None else intensity(row.run)
        return None if row.ranked_kwh is None or g_per_kwh is None else row.ranked_kwh * pue * g_per_kwh

    return _less(ours, theirs, whole), _less(ours, theirs, ranked)


def _less(ours: Sequence[Row], theirs: Sequence[Row], value: Callable[[Row], float | None]) -> float | None:
    sides = [[value(row) for row in side] for side in (ours, theirs)]
    known = [[number for number in side if number is not None] for side in sides]
    if list(map(len, known)) != list(map(len, sides)):
        return None
    return fmean(known[0]) - fmean(known[1])
