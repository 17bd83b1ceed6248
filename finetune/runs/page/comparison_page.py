"""A comparison as the plain values that its page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.runs import formats
from finetune.runs.compare_columns import short_id
from finetune.runs.compare_report import run_labels, sentences, table_columns
from finetune.runs.comparison import Comparison, Row, component_methods
from finetune.runs.differences import short_key
from finetune.runs.groups import SEED
from finetune.runs.page import facts
from finetune.runs.page.charts import COLOURS, NARROW, WIDE, curves_plot, learning_curve, pareto_chart
from finetune.runs.record import Run, as_number
from finetune.runs.report import intensity_source, intensity_words
from finetune.runs.scatter import FRONT, KIND_WORDS, NOT_RANKED, UNDECIDED, Scatter, row_kinds, scatters
from finetune.text import join_words, plural

Section = dict[str, Any]

PLOTS = 6
"""More sets than this make a page of plots that nobody reads: the largest are drawn, the others named."""
BARS = 12
SHOWN_ROWS = 50
"""A longer table shows so many rows until it is asked for the rest."""


def comparison_content(comparison: Comparison, notes: Sequence[str]) -> Section:
    """Return what the template of a comparison shows; `notes` are those on runs and folders that were left out."""
    view, columns, plots = _view(comparison), _columns(comparison), scatters(comparison)
    return {
        "title": _title(view),
        "cards": _cards(view),
        "verdicts": sentences(comparison),
        "groups": _groups(comparison),
        "plots": [_plot(scatter) for scatter in plots[:PLOTS]],
        "undrawn": [scatter.run_set.name for scatter in plots[PLOTS:]],
        "curves": _curves(view),
        "bars": facts.energy_bars([(view.labels[row.run.run_id], row.run) for row in comparison.rows[:BARS]]),
        "bars_left_out": max(0, len(comparison.rows) - BARS),
        "columns": [{"heading": heading, "is_number": is_number} for heading, is_number, _ in columns],
        "rows": [_table_row(row, columns, view) for row in comparison.rows],
        "shown_rows": SHOWN_ROWS,
        "details": [_detail(row, view) for row in comparison.rows],
        "has_sets": len(comparison.sets) > 1,
        "set_names": [run_set.name for run_set in comparison.sets],
        "places": view.places,
        "kind_words": KIND_WORDS,
        "notes": [*comparison.notes, *notes],
        "rules": facts.RULES,
    }


@dataclass(frozen=True)
class _View:
    """A comparison, and by run id how each run stands to the front, what it is called, and where it is on the page."""

    comparison: Comparison
    kinds: Mapping[str, str]
    labels: Mapping[str, str]
    places: Mapping[str, str]


def _view(comparison: Comparison) -> _View:
    places = {row.run.run_id: f"run-{number}" for number, row in enumerate(comparison.rows, start=1)}
    return _View(comparison, row_kinds(comparison.rows), run_labels(comparison), places)


def _title(view: _View) -> str:
    labels = list(view.labels.values())
    return join_words(labels, "and") if len(labels) <= 3 else plural(len(labels), "run") + " compared"


def _cards(view: _View) -> list[Section]:
    """Return the figures at the top; best and cheapest are named only where all runs may be ranked together."""
    comparison, kinds = view.comparison, view.kinds
    runs = [row.run for row in comparison.rows]
    energies = [kwh for run in runs if (kwh := run.energy_kwh()) is not None]
    grams = [value for run in runs if (value := run.emissions_g()) is not None]
    unread = len(runs) - len(energies)
    words = f"of {plural(len(energies), 'run')}" + (f"; {unread} not measured" if unread else "")
    at_least = "" if all(run.emissions.get("complete") is True for run in runs) else "≥ "
    cards = [
        _card("Energy together", at_least + formats.energy(sum(energies)) if energies else formats.NOT_MEASURED, words),
        _card("CO₂e as run", at_least + formats.grams(sum(grams)) if grams else formats.NOT_MEASURED, ""),
    ]
    if len(comparison.sets) != 1:
        return [_card("Sets", str(len(comparison.sets)), "each ranked on its own"), *cards]
    scored = [(row.score, row.run.run_id) for row in comparison.rows if row.score is not None and row.run.is_finished]
    if scored:
        sign = 1 if comparison.sets[0].greater_is_better else -1
        best, run_id = max(scored, key=lambda pair: sign * pair[0].value)
        words = f"{view.labels[run_id]}{facts.interval_words(best)}"
        name = f"Best {comparison.sets[0].metric} on {comparison.sets[0].split}"
        cards.insert(0, _card(name, formats.score_value(best.value), words))
    ranked = [row for row in comparison.rows if not row.not_ranked and row.ranked_kwh is not None]
    front = [kinds[row.run.run_id] for row in comparison.rows]
    count = front.count(FRONT) + front.count(UNDECIDED)
    if ranked:
        words = f"{front.count(UNDECIDED)} of them undecided" if UNDECIDED in front else f"of {len(ranked)} ranked"
        cards.insert(len(cards) - 2, _card("On the Pareto front", plural(count, "run"), words))
    return cards


def _card(name: str, value: str, words: str) -> Section:
    return {"name": name, "value": value, "words": words}


def _plot(scatter: Scatter) -> Section:
    run_set, ranked = scatter.run_set, [mark for mark in scatter.marks if mark.kind != NOT_RANKED]
    kinds = {mark.kind for mark in scatter.marks}
    on_front = [mark.label for mark in scatter.marks if mark.kind == FRONT]
    names = join_words(on_front[:5], "and") if len(on_front) <= 5 else f"{len(on_front)} runs"
    return {
        "set": run_set.name,
        "heading": f"{run_set.metric} on {run_set.split}",
        "words": f"{plural(len(scatter.marks), 'run')}, {len(ranked)} of them ranked. On the front: {names or 'none'}.",
        "kinds": [kind for kind in KIND_WORDS if kind in kinds],
        "wide": pareto_chart(scatter, WIDE),
        "narrow": pareto_chart(scatter, NARROW),
        "outside": scatter.outside,
    }


def _curves(view: _View) -> list[Section]:
    """Return one plot of learning curves a set; with many runs only those of the front are coloured."""
    found = []
    for run_set in view.comparison.sets[:PLOTS]:
        rows = [row for row in view.comparison.rows if row.run_set == run_set]
        coloured = rows if len(rows) <= COLOURS else [row for row in rows if view.kinds[row.run.run_id] == FRONT]
        colours = {row.run.run_id: number for number, row in enumerate(coloured[:COLOURS], start=1)}
        curves = [
            curve
            for row in rows
            if (curve := learning_curve(
                row.run, view.labels[row.run.run_id], run_set.metric, colours.get(row.run.run_id, 0)
            )) is not None
        ]  # fmt: skip
        if curves:
            found.append(curves_plot(curves, run_set.metric, run_set.name, len(rows) - len(curves)))
    return found


def _groups(comparison: Comparison) -> Section | None:
    """Return the table of the groups, as the terminal has it; how each run was measured stands with the runs."""
    if not comparison.groups:
        return None
    columns = [column for column in table_columns(comparison, " ") if column.heading != "how"]
    return {
        "by": "seed" if comparison.grouped_by == SEED else str(comparison.grouped_by),
        "columns": [{"heading": column.heading.strip(), "is_number": column.right} for column in columns],
        "rows": [
            [cell.split("\n") for cell in cells] for cells in zip(*(column.cells for column in columns), strict=True)
        ],
    }


Column = tuple[str, bool, Any]


def _columns(comparison: Comparison) -> list[Column]:
    """Return the columns of the table: heading, whether it holds numbers, and row → {text, more, value}."""
    columns: list[Column] = []
    if len(comparison.sets) > 1:
        columns.append(("set", False, lambda row: _cell(row.run_set.name if row.run_set else "–")))
    one_set = comparison.sets[0] if len(comparison.sets) == 1 else None
    columns += [
        (f"{one_set.metric}, {one_set.split}" if one_set else "score", True, _score_cell),
        (
            "energy",
            True,
            lambda row: _cell(facts.energy_words(row.run), facts.energy_band(row.run), row.run.energy_kwh()),
        ),
        ("ranked energy", True, _ranked_cell),
        ("CO₂e as run", True, lambda row: _grams_cell(row, row.run.emissions_g())),
    ]
    if comparison.grid is not None:
        columns.append((f"CO₂e @{comparison.grid.code}", True, lambda row: _grams_cell(row, row.emissions_g_on_grid)))
    columns += [
        ("time", True, lambda row: _cell(formats.duration(row.run.duration_s()), value=row.run.duration_s())),
        ("trained parameters", True, lambda row: _count_cell(row.run.model.get("trainable_parameters"))),
        ("Wh per 1,000", True, lambda row: _number_cell(row.run.emissions.get("wh_per_1000_predictions"))),
        ("how measured", False, lambda row: _cell(_methods(row.run))),
    ]
    return columns + [(short_key(key, comparison.keys), False, _setting_column(key)) for key in comparison.keys]


def _setting_column(key: str) -> Any:
    return lambda row: _cell(facts.setting_words(row.differences.get(key)), value=as_number(row.differences.get(key)))


def _cell(text: str, more: str = "", value: float | None = None) -> Section:
    return {"text": text, "more": more, "value": value}


def _score_cell(row: Row) -> Section:
    if row.score is None:
        return _cell("none")
    return _cell(formats.score_value(row.score.value), formats.score_interval(row.score), row.score.value)


def _ranked_cell(row: Row) -> Section:
    if row.not_ranked or row.ranked_kwh is None:
        return _cell(NOT_RANKED)
    return _cell(formats.energy(row.ranked_kwh), value=row.ranked_kwh)


def _grams_cell(row: Row, grams: float | None) -> Section:
    return _cell(facts.grams_words(row.run, grams), value=grams)


def _count_cell(value: Any) -> Section:
    number = as_number(value)
    return _cell("–" if number is None else f"{number:,.0f}", value=number)


def _number_cell(value: Any) -> Section:
    number = as_number(value)
    return _cell("–" if number is None else formats.significant(number), value=number)


def _methods(run: Run) -> str:
    return ", ".join(f"{name} {method}" for name, method in component_methods(run).items()) or formats.NOT_MEASURED


def _table_row(row: Row, columns: Sequence[Column], view: _View) -> Section:
    run, baseline = row.run, view.comparison.baseline
    return {
        "id": run.run_id,
        "place": view.places[run.run_id],
        "name": run.name,
        "short_id": short_id(run),
        "kind": view.kinds[run.run_id],
        "status": "" if run.is_finished else run.status,
        "is_baseline": baseline is not None and baseline.run_id == run.run_id,
        "set": row.run_set.name if row.run_set else "",
        "tags": list(run.tags),
        "cells": [cell(row) for _, _, cell in columns],
    }


def _detail(row: Row, view: _View) -> Section:
    run = row.run
    intensity = run.emissions.get("carbon_intensity")
    standing = {
        "beaten by": view.labels.get(row.dominated_by) if row.dominated_by else None,
        "not ranked by energy": "; ".join(row.not_ranked),
        "status": run.status + (f" ({run.status_reason})" if run.status_reason else ""),
        "started": (run.created_at or "–").replace("T", " "),
        "model": run.model.get("name_or_path"),
        "data": run.dataset.get("path"),
        "grid": ", ".join(word for word in (intensity_words(intensity), intensity_source(intensity)) if word),
        "tags": ", ".join(run.tags),
        "command": run.command,
    }
    return {
        "place": view.places[run.run_id],
        "id": run.run_id,
        "label": view.labels[run.run_id],
        "kind": view.kinds[run.run_id],
        "facts": [(name, str(value)) for name, value in standing.items() if value],
        "settings": [(key, facts.setting_words(row.differences.get(key))) for key in view.comparison.keys],
        "phases": facts.phase_rows(run),
        "components": facts.component_rows(run),
    }
