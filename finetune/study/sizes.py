"""The smaller model against the larger one: size, speed, energy, and what is retained of the score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy

from finetune.runs.energy_ratio import EnergyRatio
from finetune.runs.record import Run, as_mapping, as_number
from finetune.runs.statistics import mean_of_all
from finetune.study.curves import Interval, draw, interval
from finetune.study.results import Cell, Results


@dataclass(frozen=True)
class Size:
    """A strategy on the largest amount of rows; None is what was not measured.

    `retained` is its score over the reference's, with the interval over seeds and rows; None for the reference itself
    and for scores where less is better. `train_energy` is the energy of making it over that of making the reference.
    """

    cell: Cell
    parameters: float | None
    weights_bytes: float | None
    predictions_per_second: float | None
    wh_per_1000_predictions: float | None
    retained: float | None = None
    retained_interval: Interval | None = None
    train_energy: EnergyRatio | None = None


def sizes(results: Results) -> list[Size]:
    """Return the sizes of all strategies; empty when all began with the same checkpoint."""
    largest = [curve[-1] for strategy in results.study.strategies if (curve := results.curve(strategy.name))]
    found = [_size(cell) for cell in largest]
    if len({str(run.recipe.get("model", {}).get("name_or_path")) for run in map(_first, largest)}) < 2:
        return []
    reference = next((size.cell for size in found if size.cell.strategy == results.study.reference), None)
    if reference is None or not results.greater_is_better or reference.score.value <= 0:
        return found
    drawn = dict(zip(map(id, largest), draw([cell.values(1) for cell in largest]), strict=True))
    base = drawn[id(reference)].scores
    with_share = []
    for size in found:
        if size.cell is reference or size.cell.rows != reference.rows or not (base > 0).all():
            with_share.append(size)
            continue
        share = size.cell.score.value / reference.score.value
        spread = interval(numpy.asarray(drawn[id(size.cell)].scores / base))
        with_share.append(
            Size(size.cell, size.parameters, size.weights_bytes, size.predictions_per_second,
                 size.wh_per_1000_predictions, share, spread, size.cell.energy)
        )  # fmt: skip
    return with_share


def _first(cell: Cell) -> Run:
    return next(iter(cell.runs.values()))


def _size(cell: Cell) -> Size:
    return Size(
        cell,
        parameters=_mean(cell, lambda run: as_number(run.model.get("parameters"))),
        weights_bytes=_mean(cell, _weights_bytes),
        predictions_per_second=_mean(cell, _predictions_per_second),
        wh_per_1000_predictions=_mean(cell, Run.wh_per_1000_predictions),
    )


def _mean(cell: Cell, value: Callable[[Run], float | None]) -> float | None:
    return mean_of_all([value(run) for run in cell.runs.values()])


def _weights_bytes(run: Run) -> float | None:
    """Return the size of the saved weights, None when they are not there any more."""
    if run.directory is None:
        return None
    sizes = [path.stat().st_size for path in (run.directory / "model").glob("*.safetensors")]
    return float(sum(sizes)) or None


def _predictions_per_second(run: Run) -> float | None:
    inference = as_mapping(run.emissions.get("inference"))
    rows, seconds = as_number(inference.get("rows")), as_number(inference.get("duration_s"))
    return rows / seconds if rows and seconds else None
