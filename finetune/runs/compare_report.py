"""A comparison as a table for people, as Markdown and as CSV."""

import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetune.runs import formats
from finetune.runs.comparison import Comparison, Delta, Row, component_methods, row_to_json
from finetune.runs.differences import short_key
from finetune.runs.record import Run, as_number
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

FRONT_LEGEND = "* on the Pareto front: no run is shown to score higher with less energy"
_DIFFERENCE_WIDTH = 18


def comparison_text(comparison: Comparison, width: int) -> str:
    """Return the table for a terminal of `width` characters, what did not fit in it, the deltas and the notes."""
    front, back = _front_columns(comparison), _back_columns(comparison, "\n")
    left = width - _table_width([*front, *back])
    differences: list[Column] = []
    hidden: list[str] = []
    for key in comparison.keys:
        column = _difference_column(comparison, key)
        left -= column_width(column) + 2
        if left >= 0:
            differences.append(column)
        else:
            hidden.append(key)
            left += column_width(column) + 2
    blocks = [text_table([*front, *differences, *back])]
    blocks += ["\n".join(_hidden_lines(comparison, hidden, width))] if hidden else []
    blocks.append("\n".join(_wrapped(line, width, "") for line in delta_lines(comparison)))
    blocks.append("\n".join(_wrapped(line, width, "- ") for line in _legend(comparison)))
    return plain("\n\n".join(block for block in blocks if block))


def comparison_markdown(comparison: Comparison) -> str:
    """Return a GitHub table with every difference, the deltas and the notes."""
    differences = [_difference_column(comparison, key, width=60) for key in comparison.keys]
    columns = [*_front_columns(comparison), *differences, *_back_columns(comparison, " ")]
    columns = [Column(column.heading, [_one_line(cell) for cell in column.cells], column.right) for column in columns]
    lines = [*delta_lines(comparison), *_legend(comparison)]
    return "\n\n".join(
        block for block in (markdown_table(columns), "\n".join(f"- {markdown_cell(line)}" for line in lines)) if block
    )


def comparison_csv(comparison: Comparison) -> str:
    """Return one line a run, with every number that --json has; an empty cell is what was not measured."""
    records = [_flat_record(row, comparison.keys) for row in comparison.rows]
    heading = list(records[0]) if records else ["run_id"]
    return csv_table(heading, [list(record.values()) for record in records])


def delta_lines(comparison: Comparison) -> list[str]:
    """Return one sentence for each run that can be held against the baseline run."""
    if comparison.baseline is None:
        return []
    against = run_label(comparison.baseline, comparison)
    return [
        f"{run_label(row.run, comparison)} against {against}: {words}"
        for row in comparison.rows
        if row.delta is not None and (words := _delta_words(row, row.delta, comparison))
    ]


def run_label(run: Run, comparison: Comparison) -> str:
    """Return the name of a run, with its short id when another run has that name."""
    return run_labels(comparison)[run.run_id]


def run_labels(comparison: Comparison) -> dict[str, str]:
    """Return the label of every run by its id."""
    runs = [row.run for row in comparison.rows]
    names = Counter(run.name for run in runs)
    return {run.run_id: one_line(run.name if names[run.name] == 1 else f"{run.name} {short_id(run)}") for run in runs}


def short_id(run: Run) -> str:
    """Return the last part of a run id, enough to name the run."""
    return run.run_id.rpartition("-")[2]


def _front_columns(comparison: Comparison) -> list[Column]:
    names = []
    for row in comparison.rows:
        mark = "* " if row.on_front else "  "
        status = [] if row.run.is_finished else [f"  {row.run.status}"]
        names.append("\n".join([mark + shorten(row.run.name, 24), f"  {short_id(row.run)}", *status]))
    columns = [Column("  run", names)]
    if len(comparison.sets) > 1:
        columns.append(Column("set", [row.run_set.name if row.run_set else "–" for row in comparison.rows]))
    return columns


def _back_columns(comparison: Comparison, separator: str) -> list[Column]:
    rows = comparison.rows
    columns = [
        Column(_score_heading(comparison, separator), [_score_cell(row) for row in rows], right=True),
        Column(f"energy{separator}kWh", [_energy_cell(row) for row in rows], right=True),
        Column(f"g CO2e{separator}as run", [_bounded(row.run, row.run.emissions_g()) for row in rows], right=True),
    ]
    if comparison.grid is not None:
        cells = [_bounded(row.run, row.emissions_g_on_grid) for row in rows]
        columns.append(Column(f"g CO2e{separator}@{comparison.grid.code}", cells, right=True))
    return [
        *columns,
        Column("time", [formats.duration(row.run.duration_s()) for row in rows], right=True),
        Column(f"Wh per{separator}1,000", [_per_1000(row.run) for row in rows], right=True),
        Column("method", ["\n".join(_method_lines(row.run)) for row in rows]),
    ]


def _score_heading(comparison: Comparison, separator: str) -> str:
    if len(comparison.sets) != 1:
        return "score"
    return f"{comparison.sets[0].metric}{separator}{comparison.sets[0].split}"


def _score_cell(row: Row) -> str:
    if row.score is None:
        return "none"
    return f"{formats.score_value(row.score.value)}\n{formats.score_interval(row.score)}".rstrip()


def _energy_cell(row: Row) -> str:
    emissions, kwh = row.run.emissions, row.run.energy_kwh()
    if kwh is None:
        return formats.NOT_MEASURED
    low, high = as_number(emissions.get("energy_kwh_low")), as_number(emissions.get("energy_kwh_high"))
    lines = [formats.significant(kwh)]
    if emissions.get("complete") is not True:
        lines[0] = f"≥ {lines[0]}"
    elif low is not None and high is not None:
        lines.append(formats.span(low, high, 2))
    if row.ranked_kwh is not None and not row.not_ranked:
        lines.append(f"ranked {formats.significant(row.ranked_kwh)}")
    return "\n".join(lines)


def _bounded(run: Run, grams: float | None) -> str:
    is_bound = grams is not None and run.emissions.get("complete") is not True
    return f"≥ {_measured(grams)}" if is_bound else _measured(grams)


def _per_1000(run: Run) -> str:
    return _measured(as_number(run.emissions.get("wh_per_1000_predictions")))


def _measured(value: float | None) -> str:
    return "–" if value is None else formats.significant(value)


def _method_lines(run: Run) -> list[str]:
    return [f"{name} {method}" for name, method in component_methods(run).items()] or [formats.NOT_MEASURED]


def _difference_column(comparison: Comparison, key: str, width: int = _DIFFERENCE_WIDTH) -> Column:
    cells = [shorten(_setting(row.differences.get(key)), width) for row in comparison.rows]
    return Column(short_key(key, comparison.keys), cells)


def _setting(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(_setting(item) for item in value) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _hidden_lines(comparison: Comparison, keys: Sequence[str], width: int) -> list[str]:
    lines = ["Also different (--csv and --md have them all):"]
    for key in keys:
        values = dict.fromkeys(_setting(row.differences.get(key)) for row in comparison.rows)
        lines.append(shorten(f"  {key}: {' · '.join(values)}", width))
    return lines


def _wrapped(line: str, width: int, start: str) -> str:
    return textwrap.fill(line, max(40, width), initial_indent=start, subsequent_indent="  ", break_long_words=False,
                         break_on_hyphens=False)  # fmt: skip


def _delta_words(row: Row, delta: Delta, comparison: Comparison) -> str:
    words = []
    if delta.score is not None and row.run_set is not None:
        words.append(f"{row.run_set.metric} {_score_difference_words(delta)}")
    if delta.energy is not None:
        ratio = delta.energy
        words.append(
            f"{formats.significant(ratio.value)} × the energy ({formats.span(ratio.low, ratio.high)}): {ratio.verdict}"
        )
    if delta.marginal_g_per_point is not None and delta.marginal_g_per_point > 0:
        grid = f" @{comparison.grid.code}" if comparison.grid else ""
        words.append(f"{formats.significant(delta.marginal_g_per_point)} g CO2e{grid} more per point gained")
    return ", ".join(words)


def _score_difference_words(delta: Delta) -> str:
    score = delta.score
    if score is None:
        return ""
    if score.low is None or score.high is None:
        return f"{score.value:+.3f}"
    inside = "" if score.is_distinguished else ", inside the noise"
    return f"{score.value:+.3f} ({score.low:+.3f} to {score.high:+.3f}{inside})"


def _legend(comparison: Comparison) -> list[str]:
    lines = [FRONT_LEGEND] if any(row.on_front for row in comparison.rows) else []
    if any(row.ranked_kwh is not None and not row.not_ranked for row in comparison.rows):
        lines.append("ranked: train + evaluate + save, less repeated work; rankings and ratios count only this")
    return [*lines, *comparison.notes]


def _flat_record(row: Row, keys: Sequence[str]) -> dict[str, Any]:
    record = row_to_json(row)
    differences, score, delta = record.pop("differences"), record.pop("score") or {}, record.pop("delta") or {}
    methods, reasons = record.pop("methods"), record.pop("not_ranked")
    names = ("score", "score_low", "score_high", "energy_ratio", "energy_ratio_low", "energy_ratio_high",
             "energy_verdict", "emissions_g", "marginal_g_per_point")  # fmt: skip
    return {
        **record,
        **{f"score_{name}": score.get(name) for name in ("value", "low", "high", "n")},
        "methods": "; ".join(f"{name} {method}" for name, method in methods.items()) or None,
        "not_ranked": "; ".join(reasons) or None,
        **{f"delta_{name}": delta.get(name) for name in names},
        **{key: differences.get(key) if not isinstance(differences.get(key), list) else _setting(differences[key])
           for key in keys},
    }  # fmt: skip


def _table_width(columns: Sequence[Column]) -> int:
    return sum(map(column_width, columns)) + 2 * (len(columns) - 1)


def _one_line(cell: str) -> str:
    return " · ".join(line.strip() for line in cell.split("\n") if line.strip())
