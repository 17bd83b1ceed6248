"""A comparison as a table for people, as Markdown and as CSV."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.runs import formats
from finetune.runs.break_even import break_even_lines
from finetune.runs.compare_columns import BADGES, group_back, group_front, run_back, run_front
from finetune.runs.comparison import (
    Comparison,
    Delta,
    Grid,
    Row,
    RunSet,
    ScoreDifference,
    component_methods,
    group_to_json,
    row_to_json,
)
from finetune.runs.differences import short_key
from finetune.runs.tables import (
    Column,
    column_width,
    csv_table,
    markdown_cell,
    markdown_table,
    one_line,
    plain,
    shorten,
    text_table,
)
from finetune.runs.target import Target, timeline_metrics
from finetune.text import plural

FRONT_LEGEND = "* on the Pareto front: no run is shown to score higher with less energy"
DOMINATED_LEGEND = (
    "dominated by: that one is shown to score higher with less energy, counting all pairs that were tried"
)
_DIFFERENCE_WIDTH = 18
# The parts of a record that have several numbers, which a line of CSV has one after the other.
_NESTED = {
    "score": ("value", "low", "high", "n"),
    "delta": ("score", "score_low", "score_high", "score_p_holm", "score_is_distinguished", "energy_ratio",
              "energy_ratio_low", "energy_ratio_high", "energy_verdict", "emissions_g", "marginal_g_per_point"),
    "target": ("score", "step", "is_confirmed", "energy_kwh_above", "energy_kwh_at_most"),
}  # fmt: skip
_LISTED = ("methods", "runs", "not_ranked", "differences")


def comparison_text(comparison: Comparison, width: int, only_changed: bool = False) -> str:
    """Return the table for a terminal of `width` characters, what did not fit in it, the deltas and the notes.

    `only_changed` leaves out every column that is the same in all lines.
    """
    table = _table(comparison, "\n", _DIFFERENCE_WIDTH, only_changed)
    left = width - sum(column_width(column) + 2 for column in (*table.front, *table.back)) + 2
    differences: list[Column] = []
    hidden: list[str] = []
    for key, column in table.differences.items():
        if left - column_width(column) - 2 >= 0:
            differences.append(column)
            left -= column_width(column) + 2
        else:
            hidden.append(key)
    blocks = [text_table([*table.front, *differences, *table.back])]
    blocks += ["\n".join(_hidden_lines(table.settings, hidden, width))] if hidden else []
    blocks.append("\n".join(_wrapped(line, width, "") for line in sentences(comparison)))
    blocks.append("\n".join(_wrapped(line, width, "- ") for line in _legend(comparison)))
    return plain("\n\n".join(block for block in blocks if block))


def comparison_markdown(comparison: Comparison, only_changed: bool = False) -> str:
    """Return a GitHub table with every difference, the deltas and the notes."""
    columns = [
        Column(column.heading, [_one_line(cell) for cell in column.cells], column.right)
        for column in table_columns(comparison, " ", only_changed)
    ]
    lines = [*sentences(comparison), *_legend(comparison)]
    return "\n\n".join(
        block for block in (markdown_table(columns), "\n".join(f"- {markdown_cell(line)}" for line in lines)) if block
    )


def table_columns(comparison: Comparison, separator: str, only_changed: bool = False) -> list[Column]:
    """Return every column of the table, of runs or of groups; `separator` parts the words of a heading."""
    table = _table(comparison, separator, 60, only_changed)
    return [*table.front, *table.differences.values(), *table.back]


@dataclass(frozen=True)
class _Table:
    """The columns of a table: who it is, what differs by its key, what was found; and the settings of each line."""

    front: list[Column]
    differences: dict[str, Column]
    back: list[Column]
    settings: Sequence[Mapping[str, Any]]


def _table(comparison: Comparison, separator: str, width: int, only_changed: bool) -> _Table:
    if comparison.groups:
        front, back = group_front(comparison), group_back(comparison, separator)
        settings = [group.differences for group in comparison.groups]
        keys = [key for key in comparison.keys if any(key in group.differences for group in comparison.groups)]
        keys = [key for key in keys if len({str(of_group[key]) for of_group in settings}) > 1]
    else:
        front, back = run_front(comparison), run_back(comparison, separator)
        settings, keys = [row.differences for row in comparison.rows], list(comparison.keys)
    if only_changed and len(settings) > 1:
        # The first column behind the differences is the score, which is what the table is for.
        back = [back[0], *(column for column in back[1:] if len(set(column.cells)) > 1)]
    differences = {key: _difference_column(settings, key, comparison.keys, width) for key in keys}
    return _Table(front, differences, back, settings)


def comparison_csv(comparison: Comparison) -> str:
    """Return one line a run (or a group, where runs are grouped), with every number that --json has.

    An empty cell is what was not measured.
    """
    if comparison.groups:
        records = [_flat_record(group_to_json(group), comparison.keys) for group in comparison.groups]
    else:
        records = [_flat_record(row_to_json(row), comparison.keys) for row in comparison.rows]
    heading = list(records[0]) if records else ["run_id"]
    return csv_table(heading, [list(record.values()) for record in records])


def sentences(comparison: Comparison) -> list[str]:
    """Return what is said below the table: differences, steps along the front, and when a target was reached."""
    if comparison.groups:
        lines = [*pair_lines(comparison), *step_lines(comparison), *target_lines(comparison)]
    else:
        lines = [*delta_lines(comparison), *step_lines(comparison), *target_lines(comparison)]
    return [*lines, *break_even_lines([row.run for row in comparison.rows])]


def delta_lines(comparison: Comparison) -> list[str]:
    """Return one sentence for each run that can be held against the baseline run."""
    if comparison.baseline is None:
        return []
    labels = run_labels(comparison)
    against = labels[comparison.baseline.run_id]
    return [
        f"{labels[row.run.run_id]} against {against}: {words}"
        for row in comparison.rows
        if row.delta is not None and (words := delta_words(row.delta, row.run_set, comparison.grid))
    ]


def pair_lines(comparison: Comparison) -> list[str]:
    """Return one sentence for each two groups that are held against each other."""
    sets = {group.name: group.run_set for group in comparison.groups}
    return [
        f"{pair.name} against {pair.against}: {words}"
        for pair in comparison.pairs
        if (words := delta_words(pair.delta, sets[pair.name], comparison.grid))
    ]


def step_lines(comparison: Comparison) -> list[str]:
    """Return what a point of score cost along the front, for each run or group that was shown to gain some."""
    grid, labels = f" @{comparison.grid.code}" if comparison.grid else "", run_labels(comparison)
    if comparison.groups:
        steps = [(group.name, group.next_cheaper, group.step) for group in comparison.groups]
        told = {(pair.name, pair.against) for pair in comparison.pairs}
    else:
        steps = [
            (labels[row.run.run_id], labels[row.next_cheaper] if row.next_cheaper else None, row.step)
            for row in comparison.rows
        ]
        baseline = labels[comparison.baseline.run_id] if comparison.baseline else ""
        told = {(name, baseline) for name in labels.values()}
    return [
        f"{name}: {formats.significant(step.marginal_g_per_point)} g CO2e{grid} for each point more than {cheaper}, "
        f"the next cheaper on the front{_by_reading(step)}"
        for name, cheaper, step in steps
        if step is not None and step.marginal_g_per_point is not None and (name, cheaper) not in told
    ]


def _by_reading(step: Delta) -> str:
    """Say where it is not shown that the cheaper one is cheaper."""
    is_shown = step.energy is not None and step.energy.verdict != "undecided"
    return "" if is_shown else " (by its reading; which one is cheaper is undecided)"


def target_lines(comparison: Comparison) -> list[str]:
    """Return the energy that each run had used when it reached the target."""
    target = comparison.target
    if target is None:
        return []
    labels = run_labels(comparison)
    return [
        f"{labels[row.run.run_id]}: validation {target.metric} {target.value:g} {_reached_words(row, target)}"
        for row in comparison.rows
    ]


def _reached_words(row: Row, target: Target) -> str:
    reached = row.reached
    if target.metric not in timeline_metrics(row.run):
        return "not known: the run was not evaluated by it"
    if reached is None:
        return f"not reached in {plural(len(row.run.timeline), 'evaluation')}"
    sure = "" if reached.is_confirmed else " (no later evaluation confirms it)"
    until = "energy" if reached.energy_kwh is None else "after"
    return f"reached at step {reached.step}{sure}, {until} {reached.energy_words}"


def run_labels(comparison: Comparison) -> dict[str, str]:
    """Return the label of every run by its id."""
    runs = [row.run for row in comparison.rows]
    names = Counter(run.name for run in runs)
    return {run.run_id: one_line(run.name if names[run.name] == 1 else f"{run.name} {run.short_id}") for run in runs}


def line_labels(comparison: Comparison) -> dict[str, str]:
    """Return what each line of the table is called, by the key of its run or group."""
    if comparison.groups:
        return {group.key: one_line(group.name) for group in comparison.groups}
    return run_labels(comparison)


def _method_legend(comparison: Comparison) -> list[str]:
    found = {method for row in comparison.rows for method in component_methods(row.run).values()}
    words = [f"{badge} {method}" for method, badge in BADGES.items() if method in found]
    words += ["– not measured"] if found - BADGES.keys() else []
    return [f"how the energy is known: {', '.join(words)}"] if words else []


def _difference_column(settings: Sequence[Mapping[str, Any]], key: str, keys: Sequence[str], width: int) -> Column:
    return Column(short_key(key, keys), [shorten(formats.setting(of_line.get(key)), width) for of_line in settings])


def _hidden_lines(settings: Sequence[Mapping[str, Any]], keys: Sequence[str], width: int) -> list[str]:
    lines = ["Also different (--csv and --md have them all):"]
    for key in keys:
        values = dict.fromkeys(formats.setting(of_line.get(key)) for of_line in settings)
        lines.append(shorten(f"  {key}: {' · '.join(values)}", width))
    return lines


def _wrapped(line: str, width: int, start: str) -> str:
    return textwrap.fill(line, max(40, width), initial_indent=start, subsequent_indent="  ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def delta_words(delta: Delta, run_set: RunSet | None, grid: Grid | None) -> str:
    """Return a delta in words: score, energy, grams for each point; empty when nothing can be compared."""
    words = []
    if delta.score is not None and run_set is not None:
        words.append(f"{run_set.metric} {_score_difference_words(delta.score)}")
    if delta.energy is not None:
        ratio = delta.energy
        words.append(
            f"{formats.significant(ratio.value)} × the energy ({formats.span(ratio.low, ratio.high)}): {ratio.verdict}"
        )
    if delta.marginal_g_per_point is not None and delta.marginal_g_per_point > 0:
        place = f" @{grid.code}" if grid else ""
        words.append(f"{formats.significant(delta.marginal_g_per_point)} g CO2e{place} more per point gained")
    return ", ".join(words)


def _score_difference_words(score: ScoreDifference) -> str:
    if score.low is None or score.high is None:
        return f"{score.value:+.3f}"
    inside = ""
    if score.inside_seed_noise:
        inside = ", inside the noise of seeds"
    elif not score.is_distinguished:
        inside = ", inside the noise"
    return f"{score.value:+.3f} ({score.low:+.3f} to {score.high:+.3f}{inside})"


def _legend(comparison: Comparison) -> list[str]:
    lines = [FRONT_LEGEND] if any(line.on_front for line in comparison.lines) else []
    lines += [DOMINATED_LEGEND] if any(line.dominated_by for line in comparison.lines) else []
    lines += _group_legend(comparison)
    if any(row.ranked_kwh is not None and not row.not_ranked for row in comparison.rows):
        lines.append("ranked: train + evaluate + save, less repeated work; rankings and ratios count only this")
    return [*lines, *_method_legend(comparison), *comparison.notes]


def _group_legend(comparison: Comparison) -> list[str]:
    if not comparison.groups:
        return []
    what = "seeds" if comparison.grouped_by == "training.seed" else f"runs that share {comparison.grouped_by}"
    return [f"one line for all {what} (--group-by none shows each run): mean ± t·s/√n, 95 %; energy, grams and time of "
            "one run on average"]  # fmt: skip


def _flat_record(record: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    differences, methods = record["differences"], record.get("methods", {})
    numbers = {name: value for name, value in record.items() if name not in (*_NESTED, *_LISTED)}
    nested = {
        f"{section}_{name}": (record[section] or {}).get(name)
        for section, names in _NESTED.items()
        if section in record
        for name in names
    }
    listed = {
        "methods": [f"{name} {method}" for name, method in methods.items()],
        "runs": record.get("runs", []),
        "not_ranked": record["not_ranked"],
    }
    return {
        **numbers,
        **nested,
        **{name: "; ".join(words) or None for name, words in listed.items() if name in record},
        **{key: formats.setting(value) if isinstance(value := differences.get(key), list) else value for key in keys},
    }


def _one_line(cell: str) -> str:
    return " · ".join(line.strip() for line in cell.split("\n") if line.strip())
