"""A comparison as the plain values that its page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.runs import formats
from finetune.runs.compare_columns import members_words
from finetune.runs.compare_report import line_labels, run_labels, sentences
from finetune.runs.comparison import Comparison, Group, Line, Row
from finetune.runs.groups import SEED
from finetune.runs.page import facts
from finetune.runs.page.charts import COLOURS, NARROW, WIDE, curves_plot, learning_curve, pareto_chart
from finetune.runs.page.table import groups_table, runs_table, units
from finetune.runs.report import intensity_source, intensity_words
from finetune.runs.scatter import (
    FRONT,
    NOT_RANKED,
    UNDECIDED,
    Scatter,
    kind_words,
    line_kinds,
    run_kinds,
    scatters,
)
from finetune.runs.total import total_energy
from finetune.text import join_words, plural

Section = dict[str, Any]

PLOTS = 6
"""More sets than this make a page of plots that nobody reads: the largest are drawn, the others named."""
BARS = 12


def comparison_content(comparison: Comparison, notes: Sequence[str]) -> Section:
    """Return what the template of a comparison shows; `notes` are those on runs and folders that were left out."""
    view, plots = _view(comparison), scatters(comparison)
    lines = comparison.lines
    return {
        "title": _title(view),
        "cards": _cards(view),
        "verdicts": sentences(comparison),
        "groups": groups_table(comparison, view.kinds, view.places),
        "grouped_by": "seed" if comparison.grouped_by == SEED else comparison.grouped_by,
        "plots": [_plot(scatter) for scatter in plots[:PLOTS]],
        "undrawn": [scatter.run_set.name for scatter in plots[PLOTS:]],
        "curves": _curves(view),
        "bars": facts.energy_bars([(view.labels[line.key], units(line)) for line in lines[:BARS]]),
        "bars_left_out": max(0, len(lines) - BARS),
        "unit": comparison.unit,
        "runs": runs_table(comparison, view.kinds, view.places),
        "details": [_detail(row, view) for row in comparison.rows],
        "has_sets": len(comparison.sets) > 1,
        "set_names": [run_set.name for run_set in comparison.sets],
        "places": view.places,
        "kind_words": kind_words(comparison.unit),
        "notes": [*comparison.notes, *notes],
        "rules": facts.RULES,
    }


@dataclass(frozen=True)
class _View:
    """A comparison, and how each run and group stands to the front, what it is called, and where it is on the page.

    These by the key of a run or group; `groups` tells the group of a run by its id.
    """

    comparison: Comparison
    kinds: Mapping[str, str]
    labels: Mapping[str, str]
    places: Mapping[str, str]
    groups: Mapping[str, Group]


def _view(comparison: Comparison) -> _View:
    places = {group.key: f"group-{number}" for number, group in enumerate(comparison.groups, start=1)}
    places |= {row.key: f"run-{number}" for number, row in enumerate(comparison.rows, start=1)}
    kinds = line_kinds(comparison.lines) | run_kinds(comparison)
    groups = {row.key: group for group in comparison.groups for row in group.rows}
    return _View(comparison, kinds, line_labels(comparison) | run_labels(comparison), places, groups)


def _title(view: _View) -> str:
    comparison = view.comparison
    labels = [view.labels[line.key] for line in comparison.lines]
    if len(labels) <= 3:
        return join_words(labels, "and")
    groups = f" in {plural(len(labels), 'group')}" if comparison.groups else ""
    return f"{plural(len(comparison.rows), 'run')}{groups} compared"


def _cards(view: _View) -> list[Section]:
    """Return the figures at the top; best and cheapest are named only where all runs may be ranked together."""
    comparison, kinds = view.comparison, view.kinds
    total = total_energy([row.run for row in comparison.rows])
    unread, twice = total["without_reading"], total["metered_twice_kwh"]
    words = f"of {plural(total['runs'] - unread, 'run')}" + (f"; {unread} not measured" if unread else "")
    words += f"; {formats.energy(twice)} that runs side by side metered once more left out" if twice else ""
    at_least = "≥ " if unread + total["incomplete"] and total["energy_kwh"] is not None else ""
    cards = [
        _card("Energy together", at_least + formats.energy(total["energy_kwh"]), words),
        _card("CO₂e as run", at_least + formats.grams(total["emissions_g"]), ""),
    ]
    if len(comparison.sets) != 1:
        return [_card("Sets", str(len(comparison.sets)), "each ranked on its own"), *cards]
    ranked = [line for line in comparison.lines if not line.not_ranked and line.ranked_kwh is not None]
    front = [kinds[line.key] for line in comparison.lines]
    count = front.count(FRONT) + front.count(UNDECIDED)
    if ranked:
        words = f"{front.count(UNDECIDED)} of them undecided" if UNDECIDED in front else f"of {len(ranked)} ranked"
        cards.insert(0, _card("On the Pareto front", plural(count, comparison.unit), words))
    return [*_best_card(view), *cards]


def _best_card(view: _View) -> list[Section]:
    """Return the best score: of groups the best mean, since the best of many seeds is luck."""
    comparison, [run_set] = view.comparison, view.comparison.sets
    scored = [
        line for line in comparison.lines if line.score is not None and all(row.run.is_finished for row in line.rows)
    ]
    if not scored:
        return []
    sign = 1 if run_set.greater_is_better else -1
    best = max(scored, key=lambda line: sign * (line.score.value if line.score is not None else 0.0))
    assert best.score is not None
    words = view.labels[best.key] + _mean_of(best, comparison) + facts.interval_words(best.score)
    return [_card(f"Best {run_set.metric} on {run_set.split}", formats.score_value(best.score.value), words)]


def _mean_of(line: Line, comparison: Comparison) -> str:
    return f", mean of {members_words(line, comparison.grouped_by)}" if isinstance(line, Group) else ""


def _card(name: str, value: str, words: str) -> Section:
    return {"name": name, "value": value, "words": words}


def _plot(scatter: Scatter) -> Section:
    run_set, ranked = scatter.run_set, [mark for mark in scatter.marks if mark.kind != NOT_RANKED]
    on_front = [mark.label for mark in scatter.marks if mark.kind == FRONT]
    names = join_words(on_front[:5], "and") if len(on_front) <= 5 else plural(len(on_front), scatter.unit)
    count = plural(len(scatter.marks), scatter.unit)
    return {
        "set": run_set.name,
        "heading": f"{run_set.metric} on {run_set.split}",
        "words": f"{count}, {len(ranked)} of them ranked. On the front: {names or 'none'}.",
        "kinds": list(scatter.kinds),
        "wide": pareto_chart(scatter, WIDE),
        "narrow": pareto_chart(scatter, NARROW),
        "outside": scatter.outside,
    }


def _curves(view: _View) -> list[Section]:
    """Return one plot of learning curves a set, a colour a run or group; of many only those of the front have one."""
    found = []
    for run_set in view.comparison.sets[:PLOTS]:
        lines = [line for line in view.comparison.lines if line.run_set == run_set]
        coloured = lines if len(lines) <= COLOURS else [line for line in lines if view.kinds[line.key] == FRONT]
        colours = {row.key: number for number, line in enumerate(coloured[:COLOURS], 1) for row in line.rows}
        entries = {row.key: view.labels[line.key] for line in lines for row in line.rows}
        rows = [row for row in view.comparison.rows if row.run_set == run_set]
        curves = [
            curve
            for row in rows
            if (curve := learning_curve(
                row.run, view.labels[row.key], run_set.metric, colours.get(row.key, 0), entries.get(row.key)
            )) is not None
        ]  # fmt: skip
        if curves:
            found.append(curves_plot(curves, run_set.metric, run_set.name, len(rows) - len(curves)))
    return found


def _detail(row: Row, view: _View) -> Section:
    run, group = row.run, view.groups.get(row.key)
    beaten_by = group.dominated_by if group is not None else view.labels.get(row.dominated_by or "")
    intensity = run.emissions.get("carbon_intensity")
    standing = {
        "group": group.name if group is not None else None,
        "beaten by": f"the group {beaten_by}" if group is not None and beaten_by else beaten_by,
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
        "settings": [(key, formats.setting(row.differences.get(key))) for key in view.comparison.keys],
        "phases": facts.phase_rows(run),
        "components": facts.component_rows(run),
        "curve": _curve_rows(row),
    }


def _curve_rows(row: Row) -> Section | None:
    """Return a run's learning curve as numbers, None when it has none."""
    metric = row.run_set.metric if row.run_set is not None else ""
    curve = learning_curve(row.run, "", metric, 0)
    if curve is None:
        return None
    rows = [(formats.energy(kwh), formats.score_value(score)) for kwh, score in curve["points"]]
    return {"metric": metric, "rows": rows}
