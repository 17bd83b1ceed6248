"""Compare runs: score, energy and CO2e side by side, and who is better by more than the noise.

Pure: runs in, comparison out, whatever their order.
"""

from collections.abc import Sequence
from dataclasses import replace

from finetune.runs.comparison import Comparison, Grid, Row, RunSet
from finetune.runs.deltas import delta, intensity, shown_together
from finetune.runs.differences import differing_keys, settings
from finetune.runs.energy_ratio import ranked_parts, why_not_known
from finetune.runs.front import with_front
from finetune.runs.groups import group_notes, group_pairs, grouping_key, make_groups
from finetune.runs.predictions import read_row_scores
from finetune.runs.record import Run
from finetune.runs.scoring import Scored, check_metric, recorded_confidence, scored_run
from finetune.runs.sets import run_sets
from finetune.runs.sorting import sorted_groups, sorted_rows
from finetune.runs.statistics import CONFIDENCE
from finetune.runs.target import Target, energy_to_target, timeline_metrics
from finetune.text import join_some, join_words, plural

MOST_PREDICTIONS = 50


def compare_runs(
    runs: Sequence[Run],
    metric: str | None = None,
    sort: str | None = None,
    baseline: Run | None = None,
    grid: Grid | None = None,
    group_by: str | None = None,
    target: Target | None = None,
) -> Comparison:
    """Put runs side by side.

    `metric` is a metric or split.metric (default: each run's main metric); `sort` a column, a metric or a recipe
    key (default: best score first); deltas are taken against `baseline`, which defaults to the lower-scored run
    when there are exactly two. `group_by` puts runs together: seed, none or a recipe key (default: seeds, where a
    recipe has several). The predictions of up to 50 runs are read, to compare scores on the same rows. Raises
    FinetuneError for a metric, column or key that no run has.
    """
    unique = {run.run_id: run for run in ([*runs, baseline] if baseline else runs)}
    ordered = sorted(unique.values(), key=lambda run: (run.created_at or "", run.run_id))
    if metric is not None:
        check_metric(metric, ordered)
    scored = {run.run_id: scored_run(run, metric) for run in ordered}
    sets = run_sets(ordered, scored)
    keys = differing_keys(ordered)
    rows = [_row(run, scored[run.run_id], sets.get(run.run_id), keys, grid) for run in ordered]
    if target is not None:
        rows = _with_target(rows, target)
    if len(rows) <= MOST_PREDICTIONS:
        rows = [_with_row_scores(row, scored[row.run.run_id]) for row in rows]
    rows = with_front(rows, grid)
    by = grouping_key(group_by, rows)
    groups = make_groups(rows, by, keys, grid) if by else []
    against = next((row for row in rows if baseline is not None and row.run.run_id == baseline.run_id), None)
    if against is None and len(rows) == 2:
        against = _lower_scored(rows)
    if against is not None:
        rows = _with_deltas(rows, against, grid)
    distinct = tuple(sorted(set(sets.values()), key=lambda run_set: run_set.name))
    notes = _notes(rows, distinct, grid, bool(groups))
    return Comparison(
        rows=tuple(sorted_rows(rows, sort)),
        sets=distinct,
        keys=keys,
        baseline=against.run if against is not None else None,
        grid=grid,
        notes=(*notes, *(group_notes(rows, groups, by) if by else ())),
        grouped_by=by,
        groups=tuple(sorted_groups(groups, sort)),
        pairs=tuple(group_pairs(groups, against if baseline is not None else None, grid)),
        target=target,
    )


def _with_deltas(rows: Sequence[Row], against: Row, grid: Grid | None) -> list[Row]:
    others = [row for row in rows if row is not against]
    found = shown_together([delta(row.members, against.members, grid) for row in others])
    deltas = {row.run.run_id: difference for row, difference in zip(others, found, strict=True)}
    return [replace(row, delta=deltas.get(row.run.run_id)) for row in rows]


def _with_target(rows: Sequence[Row], target: Target) -> list[Row]:
    """Return the rows with where they reached the target; raises FinetuneError when none was evaluated by it."""
    evaluated = [row.run for row in rows if target.metric in timeline_metrics(row.run)]
    reached = {run.run_id: energy_to_target(run, target) for run in evaluated or [row.run for row in rows]}
    return [replace(row, reached=reached.get(row.run.run_id)) for row in rows]


def _with_row_scores(row: Row, scored: Scored | None) -> Row:
    return replace(row, row_scores=read_row_scores(row.run, scored)) if scored is not None else row


def reasons_not_ranked(run: Run, has_ranked_energy: bool) -> tuple[str, ...]:
    """Say why the energy of a run takes no part in a ranking; empty when it does."""
    if not run.is_finished:
        return (f"{run.status}: not a whole run",)
    reasons = []
    if run.energy_kwh() is None:
        reasons.append("energy not measured")
    elif not run.is_complete:
        reasons.append("part of the hardware gave no reading: the energy is a lower bound")
    elif not has_ranked_energy:
        reasons.append(why_not_known(run))
    shared_with = run.emissions.get("shared_with")
    if shared_with:
        others = join_some(map(str, shared_with))
        reasons.append(f"shared the machine with {others}: both saw the whole machine's energy")
    elif shared_with is None and run.energy_kwh() is not None:
        reasons.append("nobody could look whether other runs used the machine at the same time")
    return tuple(reasons)


def _row(run: Run, scored: Scored | None, run_set: RunSet | None, keys: Sequence[str], grid: Grid | None) -> Row:
    recipe, energy_kwh, parts = settings(run), run.energy_kwh(), ranked_parts(run)
    return Row(
        run=run,
        differences={key: recipe.get(key) for key in keys},
        score=scored.score if scored else None,
        run_set=run_set,
        parts=parts,
        emissions_g_on_grid=energy_kwh * grid.g_per_kwh if grid and energy_kwh is not None else None,
        not_ranked=reasons_not_ranked(run, bool(parts)),
    )


def _lower_scored(rows: Sequence[Row]) -> Row:
    """Return the row to start from when one of two is to be held against the other; without scores, the older one."""
    first, second = rows
    if first.run_set is None or first.run_set != second.run_set or first.score is None or second.score is None:
        return first
    sign = 1 if first.run_set.greater_is_better else -1
    return second if sign * second.score.value < sign * first.score.value else first


def _notes(rows: Sequence[Row], sets: Sequence[RunSet], grid: Grid | None, grouped: bool) -> tuple[str, ...]:
    notes = []
    if len(sets) > 1:
        notes.append("runs on different data, splits, rows or metrics are not ranked together: " + "; ".join(
            _set_words(run_set, [row for row in rows if row.run_set == run_set]) for run_set in sets
        ))  # fmt: skip
    notes += [f"{row.run.run_id} is not ranked by energy: {reason}" for row in rows for reason in row.not_ranked]
    notes += [f"{row.run.run_id} has no score to rank" for row in rows if row.score is None and row.run.is_finished]
    levels = sorted({recorded_confidence(row.run) for row in rows if row.score and row.score.low is not None})
    if levels not in ([], [CONFIDENCE]):
        words = join_words([f"{100 * level:g} %" for level in levels], "and")
        notes.append(f"the intervals shown for single runs are of {words}; differences are judged at 95 % all the same")
    if grid is not None:
        notes.append(
            f"g @{grid.code} is kWh × {grid.g_per_kwh:g} g/kWh ({grid.source}) with PUE 1 for all: "
            "energy rescaled, not new evidence"
        )
    elif len({intensity(row.run) for row in rows if row.run.emissions_g() is not None}) > 1:
        notes.append("the grams were emitted on different grids: compare kWh, or put all on one with --grid ISO")
    if sum(not row.not_ranked for row in rows) > 1 and not grouped:
        notes.append(
            "each run counts as one seed: energy ratios assume ±5 % between repeated runs, "
            "and the seed noise of the scores is unknown"
        )
    if len(rows) > MOST_PREDICTIONS:
        notes.append(f"scores of more than {MOST_PREDICTIONS} runs are compared by their own intervals, not row by row")
    return tuple(notes)


def _set_words(run_set: RunSet, rows: Sequence[Row]) -> str:
    path = next((str(row.run.dataset["path"]) for row in rows if row.run.dataset.get("path")), "unnamed data")
    rows_word = f" of {plural(run_set.n, 'row')}" if run_set.n is not None else ""
    return f"{run_set.name} = {run_set.metric} on {run_set.split}{rows_word} of {path} ({plural(len(rows), 'run')})"
