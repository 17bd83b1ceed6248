"""Compare runs: score, energy and CO2e side by side, and who is better by more than the noise.

Pure: runs in, comparison out, whatever their order.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetune.runs.comparison import Comparison, Delta, Grid, Row, RunSet, score_difference
from finetune.runs.differences import differing_keys, settings
from finetune.runs.energy_ratio import energy_ratio, ranked_kwh, ranked_parts, why_not_known
from finetune.runs.front import with_front
from finetune.runs.record import Run, as_number
from finetune.runs.scoring import Scored, check_metric, scored_run
from finetune.runs.sets import run_sets
from finetune.runs.sorting import sorted_rows
from finetune.text import join_words, plural


def compare_runs(
    runs: Sequence[Run],
    metric: str | None = None,
    sort: str | None = None,
    baseline: Run | None = None,
    grid: Grid | None = None,
) -> Comparison:
    """Put runs side by side.

    `metric` is a metric or split.metric (default: each run's main metric); `sort` a column, a metric or a recipe
    key (default: best score first); deltas are taken against `baseline`, which defaults to the lower-scored run
    when there are exactly two. Raises FinetuneError for a metric or column that no run has.
    """
    unique = {run.run_id: run for run in ([*runs, baseline] if baseline else runs)}
    ordered = sorted(unique.values(), key=lambda run: (run.created_at or "", run.run_id))
    if metric is not None:
        check_metric(metric, ordered)
    scored = {run.run_id: scored_run(run, metric) for run in ordered}
    sets = run_sets(ordered, scored)
    keys = differing_keys(ordered)
    rows = [_row(run, scored[run.run_id], sets.get(run.run_id), keys, grid) for run in ordered]
    rows = with_front(rows)
    if baseline is None and len(rows) == 2:
        baseline = _lower_scored(rows).run
    if baseline is not None:
        against = next(row for row in rows if row.run.run_id == baseline.run_id)
        rows = [replace(row, delta=delta(row, against, grid)) if row is not against else row for row in rows]
    distinct = tuple(sorted(set(sets.values()), key=lambda run_set: run_set.name))
    return Comparison(
        rows=tuple(sorted_rows(rows, sort)),
        sets=distinct,
        keys=keys,
        baseline=baseline,
        grid=grid,
        notes=_notes(rows, distinct, grid),
    )


def delta(row: Row, against: Row, grid: Grid | None) -> Delta:
    """Return one row against another; what cannot be compared is None."""
    same_set = row.run_set is not None and row.run_set == against.run_set
    score = score_difference(row.score, against.score) if same_set and row.score and against.score else None
    ranked = not row.not_ranked and not against.not_ranked
    energy = energy_ratio(ranked_parts(row.run), ranked_parts(against.run)) if ranked else None
    extra_g, extra_ranked_g = _extra_grams(row, against, grid)
    gain = 0.0
    if score is not None and score.is_distinguished and row.run_set is not None:
        gain = score.value if row.run_set.greater_is_better else -score.value
    marginal = extra_ranked_g / (100 * gain) if gain > 0 and extra_ranked_g is not None and ranked else None
    return Delta(score, energy, extra_g, marginal)


def reasons_not_ranked(run: Run, read_kwh: float | None) -> tuple[str, ...]:
    """Say why the energy of a run takes no part in a ranking; empty when it does."""
    if not run.is_finished:
        return (f"{run.status}: not a whole run",)
    reasons = []
    if run.energy_kwh() is None:
        reasons.append("energy not measured")
    elif run.emissions.get("complete") is not True:
        reasons.append("part of the hardware gave no reading: the energy is a lower bound")
    elif read_kwh is None:
        reasons.append(why_not_known(run))
    shared_with = run.emissions.get("shared_with")
    if shared_with:
        others = join_words([str(other) for other in shared_with], "and")
        reasons.append(f"shared the machine with {others}: both saw the whole machine's energy")
    return tuple(reasons)


def _row(run: Run, scored: Scored | None, run_set: RunSet | None, keys: Sequence[str], grid: Grid | None) -> Row:
    recipe, energy_kwh, read_kwh = settings(run), run.energy_kwh(), ranked_kwh(run)
    return Row(
        run=run,
        differences={key: recipe.get(key) for key in keys},
        score=scored.score if scored else None,
        run_set=run_set,
        ranked_kwh=read_kwh,
        emissions_g_on_grid=energy_kwh * grid.g_per_kwh if grid and energy_kwh is not None else None,
        not_ranked=reasons_not_ranked(run, read_kwh),
    )


def _lower_scored(rows: Sequence[Row]) -> Row:
    """Return the row to start from when one of two is to be held against the other; without scores, the older one."""
    first, second = rows
    if first.run_set is None or first.run_set != second.run_set or first.score is None or second.score is None:
        return first
    sign = 1 if first.run_set.greater_is_better else -1
    return second if sign * second.score.value < sign * first.score.value else first


def _extra_grams(row: Row, against: Row, grid: Grid | None) -> tuple[float | None, float | None]:
    """Return the grams that one run has more than another: of the whole run, and of the energy that is ranked."""
    if grid is None and _intensity(row.run) != _intensity(against.run):
        return None, None  # grams on different grids say more about the grids than about the runs
    ours, theirs = (
        (one.run.emissions_g() if grid is None else one.emissions_g_on_grid, _ranked_grams(one, grid))
        for one in (row, against)
    )
    return _less(ours[0], theirs[0]), _less(ours[1], theirs[1])


def _ranked_grams(row: Row, grid: Grid | None) -> float | None:
    g_per_kwh, _, pue = (grid.g_per_kwh, None, 1.0) if grid is not None else _intensity(row.run)
    return None if row.ranked_kwh is None or g_per_kwh is None else row.ranked_kwh * pue * g_per_kwh


def _less(ours: float | None, theirs: float | None) -> float | None:
    return None if ours is None or theirs is None else ours - theirs


def _intensity(run: Run) -> tuple[Any, ...]:
    intensity = run.emissions.get("carbon_intensity")
    stated = intensity if isinstance(intensity, Mapping) else {}
    return (as_number(stated.get("g_per_kwh")), stated.get("scope"), as_number(run.emissions.get("pue")) or 1.0)


def _notes(rows: Sequence[Row], sets: Sequence[RunSet], grid: Grid | None) -> tuple[str, ...]:
    notes = []
    if len(sets) > 1:
        notes.append("runs on different data, splits, rows or metrics are not ranked together: " + "; ".join(
            _set_words(run_set, [row for row in rows if row.run_set == run_set]) for run_set in sets
        ))  # fmt: skip
    notes += [f"{row.run.run_id} is not ranked by energy: {reason}" for row in rows for reason in row.not_ranked]
    notes += [f"{row.run.run_id} has no score to rank" for row in rows if row.score is None and row.run.is_finished]
    if grid is not None:
        notes.append(
            f"g @{grid.code} is kWh × {grid.g_per_kwh:g} g/kWh ({grid.source}) with PUE 1 for all: "
            "energy rescaled, not new evidence"
        )
    elif len({_intensity(row.run) for row in rows if row.run.emissions_g() is not None}) > 1:
        notes.append("the grams were emitted on different grids: compare kWh, or put all on one with --grid ISO")
    if sum(not row.not_ranked for row in rows) > 1:
        notes.append(
            "each run counts as one seed: energy ratios assume ±5 % between repeated runs, "
            "and the seed noise of the scores is unknown"
        )
    return tuple(notes)


def _set_words(run_set: RunSet, rows: Sequence[Row]) -> str:
    path = next((str(row.run.dataset["path"]) for row in rows if row.run.dataset.get("path")), "unnamed data")
    rows_word = f" of {plural(run_set.n, 'row')}" if run_set.n is not None else ""
    return f"{run_set.name} = {run_set.metric} on {run_set.split}{rows_word} of {path} ({plural(len(rows), 'run')})"
