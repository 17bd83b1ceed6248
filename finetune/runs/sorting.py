"""The order of the rows of a comparison."""

from collections.abc import Sequence
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.comparison import Group, Row
from finetune.runs.differences import flatten
from finetune.runs.record import as_number
from finetune.runs.scoring import metric_names, scored_run
from finetune.text import did_you_mean

_NUMBER_COLUMNS = (
    "energy_kwh", "ranked_energy_kwh", "emissions_g", "emissions_g_on_grid", "duration_s", "wh_per_1000_predictions",
    "trainable_parameters",
)  # fmt: skip
_ENERGY_COLUMNS = _NUMBER_COLUMNS[:4]
_TEXT_COLUMNS = ("name", "created_at")


def sorted_rows(rows: Sequence[Row], sort: str | None) -> list[Row]:
    """Return the rows set by set, best first by a column, a metric or a recipe key (default: score).

    Runs that did not finish, and with an energy column runs whose energy is not ranked, come last in their set; the
    order of `rows` plays no part. Raises FinetuneError for a column that no run has.
    """
    if sort is not None:
        _check_column(sort, rows)

    def key(row: Row) -> tuple[Any, ...]:
        unranked = not row.run.is_finished or (sort in _ENERGY_COLUMNS and bool(row.not_ranked))
        set_name = row.run_set.name if row.run_set else "~"  # after every letter
        value = _sort_value(row, sort)
        return (set_name, unranked, value is None, value or (), row.run.created_at or "", row.run.run_id)

    return sorted(rows, key=key)


def sorted_groups(groups: Sequence[Group], sort: str | None) -> list[Group]:
    """Return the groups set by set, by the mean of the column, or the first of texts.

    A group of which one run has no value shows none, and comes last.
    """

    def key(group: Group) -> tuple[Any, ...]:
        unranked = sort in _ENERGY_COLUMNS and bool(group.not_ranked)
        value = _group_value(group, sort)
        return (group.run_set.name if group.run_set else "~", unranked, value is None, value or (), group.name)

    return sorted(groups, key=key)


def _group_value(group: Group, sort: str | None) -> tuple[int, Any] | None:
    values = {row.key: _sort_value(row, sort) for row in group.rows}
    known = {key: value for key, value in values.items() if value is not None}
    if len(known) < len(values):
        return None
    if any(kind for kind, _ in known.values()):
        return min(known.values())
    return (0, group.mean(lambda row: known[row.key][1]))


def _sort_value(row: Row, sort: str | None) -> tuple[int, Any] | None:
    """Return what a row is sorted by, smallest first: numbers before texts."""
    if sort is None or sort == "score":
        if row.score is None or row.run_set is None:
            return None
        return (0, -row.score.value if row.run_set.greater_is_better else row.score.value)
    if sort in _NUMBER_COLUMNS:
        number = column_value(row, sort)
        return None if number is None else (0, number)
    if sort in _TEXT_COLUMNS:
        text = getattr(row.run, sort)
        return None if text is None else (1, text)
    scored = scored_run(row.run, sort)
    if scored is not None:
        return (0, -scored.score.value if scored.greater_is_better else scored.score.value)
    value = flatten(row.run.recipe).get(sort)
    number = as_number(value)
    return None if value is None else (0, number) if number is not None else (1, str(value))


def column_value(row: Row, column: str) -> float | None:
    """Return one of the number columns of a row."""
    run = row.run
    values = {
        "energy_kwh": run.energy_kwh(),
        "ranked_energy_kwh": row.ranked_kwh,
        "emissions_g": run.emissions_g(),
        "emissions_g_on_grid": row.emissions_g_on_grid,
        "duration_s": run.duration_s(),
        "wh_per_1000_predictions": run.wh_per_1000_predictions(),
        "trainable_parameters": run.trained_parameters(),
    }
    return values[column]


def _check_column(sort: str, rows: Sequence[Row]) -> None:
    runs = [row.run for row in rows]
    names = ("score", *_NUMBER_COLUMNS, *_TEXT_COLUMNS, *metric_names(runs))
    keys = dict.fromkeys(key for run in runs for key in flatten(run.recipe))
    if sort in names or sort in keys or any(scored_run(run, sort) for run in runs):
        return
    near = did_you_mean(sort, (*names, *keys))
    raise FinetuneError(
        f"--sort {sort}: no such column" + (f"; did you mean {near}?" if near else ""),
        f"Columns: {', '.join(names)}, or a recipe key such as training.learning_rate.",
    )
