"""A study as text, Markdown or JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from finetune.runs import formats
from finetune.runs.comparison import ScoreDifference
from finetune.runs.energy_ratio import EnergyRatio
from finetune.runs.report import output_dir_option
from finetune.runs.tables import Column, markdown_table, plain, text_table
from finetune.runs.total import total_energy
from finetune.study.findings import Findings
from finetune.study.reach import ENERGY, ROWS, Reach
from finetune.study.results import Cell, Results
from finetune.study.saved import grams_per_kwh, saved, saved_json, saved_line, saved_words
from finetune.study.sizes import Size
from finetune.text import plural

NOT_IN_IT = "The energy of pre-training is not in these numbers."


def written(found: Findings, form: str) -> str:
    """Return a study as `text`, `md` or `json`."""
    results = found.results
    if form == "json":
        return json.dumps(to_json(found), indent=2, allow_nan=False)
    table = markdown_table if form == "md" else text_table
    parts = [heading(results), table(cell_columns(results))]
    if found.reaches:
        parts += ["\n".join(reach_lines(results, found.reaches)), table(reach_columns(results, found.reaches))]
    if found.sizes:
        parts.append(table(size_columns(results, found.sizes)))
    if results.searches:
        parts.append(table(search_columns(results)))
    notes = [*energy_lines(results), pretraining_words(results), *results.notes]
    parts.append("\n".join(f"* {note}" for note in notes))
    if form == "text":
        where = output_dir_option(results.study.output_dir)
        parts.append(f"next     finetune compare {results.study.name}{where} --tag study")
    return plain("\n\n".join(parts))


def heading(results: Results) -> str:
    """Return what the scores are, in one line."""
    return f"{results.study.name}: {subject(results)}"


def subject(results: Results) -> str:
    """Return what the scores are, without the name of the study."""
    better = "" if results.greater_is_better else ", lower is better"
    of = f" ({plural(results.n, 'row')}{better})" if results.n is not None else better
    lacking = f"; {plural(results.missing, 'run')} missing" if results.missing else ""
    return f"{results.metric} on {results.split}{of}, against {results.study.reference}{lacking}"


def pretraining_words(results: Results) -> str:
    """Return what is known of the energy that is not in the study."""
    known = results.study.pretraining or "not known to this study"
    return f"{NOT_IN_IT} What is published of it: {known.strip().rstrip('.')}."


def energy_lines(results: Results) -> list[str]:
    """Return what the whole study used, its searches apart."""
    total, search = total_energy(list(results.runs)), [each.kwh for each in results.searches]
    bound = "at least " if total["without_reading"] or total["incomplete"] else ""
    lines = [
        f"All {plural(len(results.runs), 'run')} used {bound}{formats.energy(total['energy_kwh'])}, "
        f"{bound}{formats.grams(total['emissions_g'])} CO2e."
    ]
    if search:
        known = [kwh for kwh in search if kwh is not None]
        words = formats.energy(sum(known)) if len(known) == len(search) else formats.NOT_MEASURED
        lines[0] = lines[0].removesuffix(".") + f"; {words} of it went into the search for learning rates."
    return lines


def cell_columns(results: Results) -> list[Column]:
    """Return the table of the cells."""
    cells, rates = results.cells, {each.strategy: each.chosen for each in results.searches}
    unit, factor = formats.energy_unit(cell.kwh for cell in cells)
    columns = [
        Column("strategy", [cell.strategy for cell in cells]),
        Column("rows", [f"{cell.rows:,}" for cell in cells], right=True),
        Column(results.metric, [formats.mean_score(cell.score) for cell in cells], right=True),
        Column("against " + results.study.reference, [difference_words(cell.difference) for cell in cells], right=True),
        Column(unit, [amount_words(cell.kwh, factor) for cell in cells], right=True),
        Column("× energy", [energy_words(cell.energy) for cell in cells], right=True),
        Column("epochs", ["–" if cell.epochs is None else f"{cell.epochs:.0f}" for cell in cells], right=True),
        Column("seeds", [str(len(cell.runs)) for cell in cells], right=True),
    ]
    if rates:
        chosen = [rates.get(cell.strategy) for cell in cells]
        columns.append(Column("rate", [f"{rate:g}" if rate is not None else "–" for rate in chosen], right=True))
    return columns


def reach_columns(results: Results, found: Sequence[Reach]) -> list[Column]:
    """Return what each strategy needs for each score of the reference."""
    name, g_per_kwh = results.study.reference, grams_per_kwh(results)
    return [
        Column("strategy", [each.strategy for each in found]),
        Column(f"to reach {name} on", [f"{each.target_rows:,} rows" for each in found], right=True),
        Column(results.metric, [formats.score_value(each.target) for each in found], right=True),
        Column("needs", [needed_words(each) for each in found], right=True),
        Column("95 %", [spread_words(each) for each in found], right=True),
        Column("× " + name, [ratio_words(each) for each in found], right=True),
        Column(f"{name} saves", [saved_words(saved(each, g_per_kwh)) for each in found], right=True),
        Column("not reached in", [f"{each.spread.beyond:.0%} of draws" for each in found], right=True),
    ]


def reach_lines(results: Results, found: Sequence[Reach]) -> list[str]:
    """Return in words what reaching each score of the reference takes, in rows and in energy."""
    energies = {(each.strategy, each.target_rows): each for each in found if each.axis == ENERGY}
    lines, g_per_kwh = [], grams_per_kwh(results)
    for each in found:
        if each.axis != ROWS:
            continue
        score = f"the {formats.score_value(each.target)} of {results.study.reference} on {each.target_rows:,} rows"
        energy = energies.get((each.strategy, each.target_rows))
        if each.is_inside:
            line = f"{each.strategy} needs {needed_words(each)} for {score}: {ratio_words(each)} times as many"
        elif math.isinf(each.value):
            line = f"{each.strategy} does not reach {score} within {amount(each, each.last)}"
        else:
            line = f"{each.strategy} has {score} with {amount(each, each.first)} already, or fewer"
        if energy is not None and not math.isinf(energy.value):
            undecided = ", undecided" if energy.ratio.verdict == "undecided" else ""
            line += f"; energy {needed_words(energy)}, × {ratio_words(energy)}{undecided}"
        in_energy = saved(energy, g_per_kwh) if energy is not None else None
        if words := saved_line(results.study.reference, saved(each, g_per_kwh), in_energy):
            line += f"; {words}"
        lines.append(line)
    return lines


def size_columns(results: Results, found: Sequence[Size]) -> list[Column]:
    """Return size, speed, energy and retained score of each strategy on the largest amount of rows."""
    unit, factor = formats.energy_unit(size.cell.kwh for size in found)
    return [
        Column("strategy", [size.cell.strategy for size in found]),
        Column("parameters", [formats.count(size.parameters) for size in found], right=True),
        Column("weights", [_bytes(size.weights_bytes) for size in found], right=True),
        Column("predictions/s", [_number(size.predictions_per_second) for size in found], right=True),
        Column("Wh per 1,000", [_number(size.wh_per_1000_predictions) for size in found], right=True),
        Column(f"{unit} to make", [amount_words(size.cell.kwh, factor) for size in found], right=True),
        Column("× energy", [energy_words(size.train_energy) for size in found], right=True),
        Column(results.metric, [formats.mean_score(size.cell.score) for size in found], right=True),
        Column("retained", [retained_words(size) for size in found], right=True),
    ]


def search_columns(results: Results) -> list[Column]:
    """Return the searches for learning rates: validation scores by rate, the chosen one, what they took."""
    return [
        Column("search", [each.strategy for each in results.searches]),
        Column(
            "learning rate: validation",
            [
                ", ".join(
                    f"{rate:g}: {'–' if score is None else formats.score_value(score)}"
                    for rate, score in each.scores.items()
                )
                for each in results.searches
            ],
        ),
        Column("chosen", ["–" if each.chosen is None else f"{each.chosen:g}" for each in results.searches], right=True),
        Column("energy", [formats.energy(each.kwh) for each in results.searches], right=True),
    ]


def difference_words(difference: ScoreDifference | None) -> str:
    """Return the difference from the reference; (noise) is what rows and seeds alone could make."""
    if difference is None:
        return "–"
    known = difference.low is not None and difference.is_distinguished
    return f"{difference.value:+.3f}" + ("" if known else " (noise)")


def energy_words(ratio: EnergyRatio | None) -> str:
    """Return an energy ratio with its range and what it tells."""
    if ratio is None:
        return "–"
    told = "" if ratio.verdict != "undecided" else " undecided"
    return f"{formats.significant(ratio.value)} [{formats.span(ratio.low, ratio.high)}]{told}"


def amount_words(kwh: float | None, factor: float) -> str:
    """Return an energy in the unit of its column; the notes say why one cannot be compared."""
    return "not compared" if kwh is None else formats.significant(kwh * factor)


def amount(reach: Reach, value: float) -> str:
    """Return an amount on the axis of a reach."""
    return formats.energy(value) if reach.axis == ENERGY else f"{value:,.0f} rows"


def needed_words(reach: Reach) -> str:
    """Return what is needed; never more than was measured."""
    if math.isinf(reach.value):
        return f"not reached within {amount(reach, reach.last)}"
    return f"at most {amount(reach, reach.first)}" if reach.value == 0 else amount(reach, reach.value)


def spread_words(reach: Reach) -> str:
    """Return the interval of what is needed; a bound outside of what was measured is told as that."""
    low, high = reach.spread.low, reach.spread.high
    if math.isinf(low) or high == 0:
        return f"> {amount(reach, reach.last)}" if high else f"≤ {amount(reach, reach.first)}"
    begin = f"≤ {amount(reach, reach.first)}" if low == 0 else amount(reach, low)
    return f"{begin} – " + (f"> {amount(reach, reach.last)}" if math.isinf(high) else amount(reach, high))


def ratio_words(reach: Reach) -> str:
    """Return how many times the reference's amount is needed, with its range."""
    if not reach.is_inside:
        bound = reach.last / reach.reference if reach.value else reach.first / reach.reference
        return f"{'>' if reach.value else '≤'} {formats.significant(bound)}"
    low, high = reach.ratio.low, reach.ratio.high
    begin = formats.significant(low) if low else f"≤ {formats.significant(reach.first / reach.reference)}"
    end = f"> {formats.significant(reach.last / reach.reference)}" if math.isinf(high) else formats.significant(high)
    return f"{formats.significant(reach.ratio.value)} [{begin} – {end}]"


def retained_words(size: Size) -> str:
    """Return the share of the reference's score with its interval."""
    if size.retained is None or size.retained_interval is None:
        return "–"
    low, high = 100 * size.retained_interval.low, 100 * size.retained_interval.high
    return f"{100 * size.retained:.1f} % [{low:.1f}–{high:.1f}]"


def _bytes(size: float | None) -> str:
    return "–" if size is None else formats.file_size(round(size))


def _number(value: float | None) -> str:
    return formats.NOT_MEASURED if value is None else formats.significant(value)


def to_json(found: Findings) -> dict[str, Any]:
    """Return the study for programs; null is what was not measured, or not reached."""
    results, study = found.results, found.results.study
    total, g_per_kwh = total_energy(list(results.runs)), grams_per_kwh(results)
    return {
        "study": study.name, "group": study.name, "output_dir": str(study.output_dir), "reference": study.reference,
        "metric": results.metric, "split": results.split, "greater_is_better": results.greater_is_better,
        "n": results.n, "runs": len(results.runs), "missing": results.missing,
        "cells": [_cell_json(cell) for cell in results.cells],
        "reach": [_reach_json(each) | {"saved": saved_json(saved(each, g_per_kwh))} for each in found.reaches],
        "sizes": [_size_json(each) for each in found.sizes],
        "searches": [
            {"strategy": each.strategy, "chosen": each.chosen, "energy_kwh": each.kwh,
             "validation": [{"learning_rate": rate, "score": score} for rate, score in each.scores.items()]}
            for each in results.searches
        ],
        "energy_kwh": total["energy_kwh"], "emissions_g": total["emissions_g"],
        "pretraining": study.pretraining, "notes": [NOT_IN_IT, *results.notes],
    }  # fmt: skip


def _cell_json(cell: Cell) -> dict[str, Any]:
    difference, energy = cell.difference, cell.energy
    return {
        "strategy": cell.strategy, "rows": cell.rows, "score": asdict(cell.score), "energy_kwh": cell.kwh,
        "epochs": cell.epochs, "at_plateau": cell.at_plateau,
        "runs": [{"seed": seed, "run_id": run.run_id, "score": cell.judged[seed].score.value}
                 for seed, run in cell.runs.items()],
        "difference": asdict(difference) | {"is_distinguished": difference.is_distinguished} if difference else None,
        "energy_ratio": _energy_json(energy),
    }  # fmt: skip


def _reach_json(reach: Reach) -> dict[str, Any]:
    def known(value: float) -> float | None:
        return value if 0 < value < math.inf else None

    outcome = "reached" if reach.is_inside else "not reached" if reach.value else "at most"
    return {
        "strategy": reach.strategy, "axis": reach.axis, "target_rows": reach.target_rows, "target": reach.target,
        "reference": reach.reference, "first": reach.first, "last": reach.last, "outcome": outcome,
        "value": known(reach.value), "low": known(reach.spread.low), "high": known(reach.spread.high),
        "share_not_reached": reach.spread.beyond, "share_below_first": reach.spread.below,
        "ratio": known(reach.ratio.value), "ratio_low": known(reach.ratio.low), "ratio_high": known(reach.ratio.high),
        "verdict": reach.ratio.verdict,
    }  # fmt: skip


def _size_json(size: Size) -> dict[str, Any]:
    spread = size.retained_interval
    return {
        "strategy": size.cell.strategy, "parameters": size.parameters, "weights_bytes": size.weights_bytes,
        "predictions_per_second": size.predictions_per_second,
        "wh_per_1000_predictions": size.wh_per_1000_predictions, "energy_kwh": size.cell.kwh,
        "retained": size.retained, "retained_low": spread.low if spread else None,
        "retained_high": spread.high if spread else None, "energy_ratio": _energy_json(size.train_energy),
    }  # fmt: skip


def _energy_json(ratio: EnergyRatio | None) -> dict[str, Any] | None:
    return asdict(ratio) | {"verdict": ratio.verdict} if ratio is not None else None
