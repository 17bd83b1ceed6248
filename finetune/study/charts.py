"""Where everything of a study's charts lies: score against rows and against energy, a line for each strategy."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from finetune.runs import formats
from finetune.runs.axes import Axis, energy_axis, log_axis, score_axis
from finetune.runs.page.charts import COLOURS, NARROW, Frame, drawing
from finetune.study.curves import by_amount
from finetune.study.findings import Findings
from finetune.study.reach import ENERGY, ROWS
from finetune.study.report import heading, pretraining_words
from finetune.study.results import Cell, Results
from finetune.text import plural

Section = dict[str, Any]

PANEL = Frame(540, 400)
HALF = Frame(450, 360)
_LETTERS = 130  # of 12 units in the width of the figure, on the safe side
INFERENCE = "inference"


def panels(found: Findings) -> list[Section]:
    """Return the charts that there is something for, each in two sizes with its heading."""
    return [
        {"heading": _HEADINGS[axis], "wide": panel(found, axis, PANEL), "narrow": panel(found, axis, NARROW)}
        for axis in axes_of(found)
    ]


_HEADINGS = {
    ROWS: "Score against training rows",
    ENERGY: "Score against the energy of training",
    INFERENCE: "Score against the energy of predictions",
}


def axes_of(study: Findings) -> list[str]:
    """Return what scores are drawn against: rows where there are several amounts, energy where it is known."""
    results = study.results
    found = [ROWS] if len(results.amounts) > 1 else []
    if any(cell.kwh is not None for cell in results.cells):
        found.append(ENERGY)
    if len(results.amounts) == 1 and any(size.wh_per_1000_predictions is not None for size in study.sizes):
        found.append(INFERENCE)
    return found


def panel(found: Findings, axis: str, frame: Frame) -> Section:
    """Return one chart: points with the intervals of their means, and lines through the isotonic means."""
    results, amount = found.results, _amount_on(found, axis)
    x, x_title = _x_axis(found, axis, frame)
    scores = [bound for cell in results.cells for bound in (cell.score.value, cell.score.low, cell.score.high)]
    y = score_axis([score for score in scores if score is not None], frame.box["bottom"], frame.box["top"])
    better = "" if results.greater_is_better else " (lower is better)"
    series = []
    for place, strategy in enumerate(results.study.strategies):
        cells = [cell for cell in results.curve(strategy.name) if amount(cell) is not None]
        points = [_point(cell, amount(cell) or 0.0, x, y) for cell in cells]
        series.append({
            "name": strategy.name, "colour": _colour(place), "points": points,
            "path": _line(results, cells, amount, x, y) if axis != INFERENCE else "",
        })  # fmt: skip
    return {**drawing(frame, x, y, x_title, f"{results.metric} on {results.split}{better}"), "series": series}


def legend(results: Results) -> list[Section]:
    """Return the strategies with their colours."""
    return [
        {"name": f"{strategy.name}{' (reference)' if strategy.name == results.study.reference else ''}",
         "colour": _colour(place)}
        for place, strategy in enumerate(results.study.strategies)
    ]  # fmt: skip


def figure(found: Findings) -> Section:
    """Return all charts side by side, with a legend and what is not in the energy, to stand alone."""
    results = found.results
    drawn = [{**panel(found, axis, HALF), "at": place * HALF.width} for place, axis in enumerate(axes_of(found))]
    entries, left = [], HALF.left
    for entry in legend(results):
        entries.append({**entry, "x": left, "y": HALF.height + 4})
        left += 28 + 6.6 * len(entry["name"]) + 20
    words = [f"{heading(results)}; {_seeds(results)}.", pretraining_words(results)]
    lines = [line for sentence in words for line in textwrap.wrap(sentence, _LETTERS)]
    top = HALF.height + 38
    return {
        "title": heading(results), "panels": drawn, "legend": entries,
        "lines": [{"words": line, "y": top + 16 * place} for place, line in enumerate(lines)],
        "width": HALF.width * max(2, len(drawn)), "height": top + 16 * len(lines) + 2,
    }  # fmt: skip


def _seeds(results: Results) -> str:
    return f"means of {plural(len(results.study.seeds), 'seed')} with their 95 % intervals"


def _colour(place: int) -> int:
    return place % COLOURS + 1


def _amount_on(found: Findings, axis: str) -> Callable[[Cell], float | None]:
    if axis == INFERENCE:
        known = {size.cell.strategy: size for size in found.sizes}
        return lambda cell: known[cell.strategy].wh_per_1000_predictions
    if axis == ROWS:
        return lambda cell: float(cell.rows)
    factor = formats.energy_unit(cell.kwh for cell in found.results.cells)[1]
    return lambda cell: None if cell.kwh is None else cell.kwh * factor


def _x_axis(found: Findings, axis: str, frame: Frame) -> tuple[Axis, str]:
    results, amount = found.results, _amount_on(found, axis)
    values = [value for cell in results.cells if (value := amount(cell)) is not None]
    ends = frame.box["left"], frame.box["right"]
    if axis == ROWS:
        return log_axis(values, *ends, at=results.amounts), "training rows"
    if axis == INFERENCE:
        return energy_axis(values, *ends, 5), "Wh per 1,000 predictions"
    unit, _ = formats.energy_unit(cell.kwh for cell in results.cells)
    make = log_axis if len(results.amounts) > 1 else energy_axis
    return make(values, *ends, 5), f"energy of train + evaluate + save, {unit}"


def _point(cell: Cell, amount: float, x: Axis, y: Axis) -> Section:
    score = cell.score
    spent = f", {formats.energy(cell.kwh)}" if cell.kwh is not None else ""
    return {
        "x": x.at(amount),
        "y": y.at(score.value),
        "low_y": None if score.low is None else y.at(score.low),
        "high_y": None if score.high is None else y.at(score.high),
        "tip": f"{cell.strategy} on {cell.rows:,} rows: {formats.mean_score(score)}{spent}",
    }


def _line(results: Results, cells: Sequence[Cell], amount: Callable[[Cell], float | None], x: Axis, y: Axis) -> str:
    """Return the line that is inverted to tell what a score needs: straight in the logarithm of the amount."""
    if len(cells) < 2:
        return ""
    amounts = numpy.array([amount(cell) for cell in cells], dtype=float)
    amounts, scores = by_amount(amounts, numpy.array([results.sign * cell.score.value for cell in cells]))
    return " ".join(
        f"{x.at(float(a)):.1f},{y.at(float(results.sign * b)):.1f}" for a, b in zip(amounts, scores, strict=True)
    )
