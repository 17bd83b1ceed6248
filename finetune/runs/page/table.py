"""The tables of a comparison's page, of its runs and of its groups: columns, and words with what they sort by."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from finetune.runs import formats
from finetune.runs.compare_columns import members_words
from finetune.runs.compare_report import run_labels
from finetune.runs.comparison import Comparison, Group, Line, Row, component_methods
from finetune.runs.differences import short_key
from finetune.runs.page import facts
from finetune.runs.record import Run, as_number
from finetune.runs.scatter import NOT_RANKED
from finetune.runs.statistics import Mean

Section = dict[str, Any]

SHOWN_ROWS = 50
"""A longer table shows so many rows until it is asked for the rest."""

_Column = tuple[str, bool, Callable[[Any], Section]]


def runs_table(comparison: Comparison, kinds: Mapping[str, str], places: Mapping[str, str]) -> Section:
    """Return the table of all runs; `kinds`: how each stands; `places`: where it is on the page; by its key."""
    baseline, labels = comparison.baseline.run_id if comparison.baseline is not None else None, run_labels(comparison)

    def head(row: Row) -> Section:
        words = [row.run.short_id, "" if row.run.is_finished else row.run.status, "baseline" * (row.key == baseline)]
        return {
            "link": places[row.key],
            "run": places[row.key],
            "name": row.run.name,
            "words": " · ".join(filter(None, words)),
            "tags": list(row.run.tags),
            # Where runs are put together, groups are what is compared.
            "dominated_by": labels.get(row.dominated_by or "") if not comparison.groups else None,
        }

    return _table("run", comparison, comparison.rows, kinds, head)


def groups_table(comparison: Comparison, kinds: Mapping[str, str], places: Mapping[str, str]) -> Section | None:
    """Return the table of the groups, None without; `kinds` and `places` as for runs."""

    def head(group: Group) -> Section:
        return {
            "place": places[group.key],
            "name": group.name,
            "words": members_words(group, comparison.grouped_by),
            "dominated_by": group.dominated_by,
            "members": [places[row.key] for row in group.rows],
        }

    return _table("group", comparison, comparison.groups, kinds, head) if comparison.groups else None


def _table(
    what: str, comparison: Comparison, lines: Sequence[Any], kinds: Mapping[str, str], head: Callable[[Any], Section]
) -> Section:
    columns = _columns(comparison, lines)
    return {
        "id": f"{what}s-table",
        "what": what,
        "columns": [{"heading": heading, "is_number": is_number} for heading, is_number, _ in columns],
        "shown_rows": SHOWN_ROWS,
        "rows": [
            {
                **{"place": None, "link": None, "run": None, "members": [], "tags": []},
                **head(line),
                "kind": kinds[line.key],
                "set": line.run_set.name if line.run_set else "",
                "cells": [cell(line) for _, _, cell in columns],
            }
            for line in lines
        ],
    }


def _columns(comparison: Comparison, lines: Sequence[Line]) -> list[_Column]:
    """Return the columns of a table: heading, whether it holds numbers, and line → {text, more, value}."""
    columns: list[_Column] = []
    if len(comparison.sets) > 1:
        columns.append(("set", False, lambda line: _cell(line.run_set.name if line.run_set else "–")))
    one_set = comparison.sets[0] if len(comparison.sets) == 1 else None
    columns += [
        (f"{one_set.metric}, {one_set.split}" if one_set else "score", True, _score_cell),
        ("energy", True, _energy_cell),
        ("ranked energy", True, _ranked_cell),
        ("CO₂e as run", True, lambda line: _grams_cell(line, lambda row: row.run.emissions_g())),
    ]
    if comparison.grid is not None:
        heading = f"CO₂e @{comparison.grid.code}"
        columns.append((heading, True, lambda line: _grams_cell(line, lambda row: row.emissions_g_on_grid)))
    columns += [
        ("time", True, lambda line: _number_cell(line, Run.duration_s, formats.duration)),
        ("trained parameters", True, lambda line: _number_cell(line, Run.trained_parameters, "{:,.0f}".format)),
        ("Wh per 1,000", True, lambda line: _number_cell(line, Run.wh_per_1000_predictions, formats.significant)),
        ("how measured", False, lambda line: _cell("; ".join(dict.fromkeys(_methods(row.run) for row in line.rows)))),
    ]
    telling = [key for key in comparison.keys if len({str(line.differences.get(key)) for line in lines}) > 1]
    return columns + [(short_key(key, comparison.keys), False, _setting_column(key)) for key in telling]


def _setting_column(key: str) -> Callable[[Line], Section]:
    return lambda line: _cell(formats.setting(line.differences.get(key)), value=as_number(line.differences.get(key)))


def _cell(text: str, more: str = "", value: float | None = None) -> Section:
    return {"text": text, "more": more, "value": value}


def _score_cell(line: Line) -> Section:
    if line.score is None:
        return _cell("none")
    if isinstance(line.score, Mean):
        unknown = "seed noise unknown" if line.score.low is None else ""
        return _cell(formats.mean_score(line.score), unknown, line.score.value)
    return _cell(formats.score_value(line.score.value), formats.score_interval(line.score), line.score.value)


def units(line: Line) -> list[list[Run]]:
    """Return the runs of a line, those of one seed together."""
    return [[row.run for row in rows] for rows in line.members.values()]


def _energy_cell(line: Line) -> Section:
    of_line = units(line)
    return _cell(facts.energy_words(of_line), facts.energy_band(of_line), facts.mean_kwh(of_line))


def _ranked_cell(line: Line) -> Section:
    if line.not_ranked or line.ranked_kwh is None:
        return _cell(NOT_RANKED)
    return _cell(formats.energy(line.ranked_kwh), value=line.ranked_kwh)


def _grams_cell(line: Line, value: Callable[[Row], float | None]) -> Section:
    grams = line.mean(value)
    return _cell(facts.grams_words([row.run for row in line.rows], grams), value=grams)


def _number_cell(line: Line, value: Callable[[Run], float | None], words: Callable[[float], str]) -> Section:
    number = line.mean(lambda row: value(row.run))
    return _cell("–" if number is None else words(number), value=number)


def _methods(run: Run) -> str:
    return ", ".join(f"{name} {method}" for name, method in component_methods(run).items()) or formats.NOT_MEASURED
