"""How many rows, and how much energy, a strategy needs to reach the reference's score. Nothing is extrapolated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy

from finetune.runs.energy_ratio import ASSUMED_SPREAD, energy_ratio, ranked_parts
from finetune.study.curves import Drawn, Floats, Interval, by_amount, draw, interval, isotonic, reached_at
from finetune.study.results import Cell, Results

ROWS, ENERGY = "rows", "kwh"


@dataclass(frozen=True)
class Ratio:
    """What a strategy needs over what the reference has, with the range that seeds, rows and meters leave it.

    A bound of inf is not reached; one of 0 lies below the strategy's smallest amount.
    """

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Return "less", "more" or "undecided"."""
        return "less" if self.high < 1 else "more" if self.low > 1 else "undecided"


@dataclass(frozen=True)
class Reach:
    """What a strategy needs, in rows or kWh, for the reference's score on `target_rows` rows.

    `value` is inf where it is not reached within `last`, the strategy's largest amount, and 0 where its smallest,
    `first`, is there already. `spread` is over the draws of seeds and rows. `reference` is what the reference takes.
    """

    strategy: str
    axis: str
    target_rows: int
    target: float
    reference: float
    first: float
    last: float
    value: float
    spread: Interval
    ratio: Ratio

    @property
    def is_inside(self) -> bool:
        """Tell whether the score is reached between two amounts that were measured."""
        return 0 < self.value < math.inf


def reaches(results: Results) -> list[Reach]:
    """Return what every other strategy needs for each score of the reference, in rows, then in kWh where known."""
    reference, cells = results.curve(results.study.reference), list(results.cells)
    if not reference or len(results.amounts) < 2:
        return []
    drawn = dict(zip(map(id, cells), draw([cell.values(results.sign) for cell in cells]), strict=True))
    targets = isotonic(_means(reference, results.sign))
    target_draws = isotonic(numpy.stack([drawn[id(cell)].scores for cell in reference], -1))
    found = []
    for axis, strategy in product((ROWS, ENERGY), results.study.strategies):
        curve = results.curve(strategy.name)
        is_known = axis == ROWS or all(cell.kwh is not None for cell in (*curve, *reference))
        if strategy.name == results.study.reference or not curve or not is_known:
            continue
        amounts, scores = by_amount(_amounts(curve, axis), _means(curve, results.sign))
        draws = by_amount(
            _drawn_amounts(curve, axis, drawn), numpy.stack([drawn[id(cell)].scores for cell in curve], -1)
        )
        for place, cell in enumerate(reference):
            target = float(targets[place])
            own = float(_amounts([cell], axis)[0])
            value = float(reached_at(amounts, scores, numpy.asarray(target)))
            needed = reached_at(*draws, target_draws[:, place])
            spread = interval(needed)
            own_draws = _drawn_amounts([cell], axis, drawn)[..., 0]
            # Of a draw that is there with the smallest amount, only that is known: it needs so much at most.
            at_most = numpy.where(needed == 0, draws[0][..., 0], needed)
            low, high = _meter_range(curve, cell) if axis == ENERGY else (1.0, 1.0)
            bounds = interval(needed / own_draws).low * low, interval(at_most / own_draws).high * high
            ratio = Ratio(value / own, *bounds)
            ends = float(amounts[0]), float(amounts[-1])
            found.append(Reach(strategy.name, axis, cell.rows, results.sign * target, own, *ends, value, spread, ratio))
    return found


def _means(cells: Sequence[Cell], sign: int) -> Floats:
    return numpy.array([sign * cell.score.value for cell in cells])


def _amounts(cells: Sequence[Cell], axis: str) -> Floats:
    return numpy.array([cell.rows if axis == ROWS else cell.kwh for cell in cells], dtype=float)


def _drawn_amounts(cells: Sequence[Cell], axis: str, drawn: dict[int, Drawn]) -> Floats:
    if axis == ROWS:
        return _amounts(cells, axis)
    return numpy.stack([kwh for cell in cells if (kwh := drawn[id(cell)].kwh) is not None], -1)


def _meter_range(curve: Sequence[Cell], reference: Cell) -> tuple[float, float]:
    """Return by which factors the meters may err in the ratio of two energies: the widest over all pairs of runs.

    The errors of one machine and method cancel (finetune.runs.energy_ratio); a run on another machine, or after a
    restart of it, has errors of its own. By how much a mean of runs is off lies between its runs, whichever a draw
    weighs most. The spread between runs is left out, since it is in the draws.
    """
    their_parts = [ranked_parts(run) for run in reference.runs.values()]
    our_parts = [ranked_parts(run) for cell in curve for run in cell.runs.values()]
    found = [energy_ratio(ours, theirs) for ours, theirs in product(our_parts, their_parts)]
    if None in found:
        return 0.0, math.inf
    lows = [each.low * ASSUMED_SPREAD / each.value for each in found if each is not None]
    highs = [each.high / ASSUMED_SPREAD / each.value for each in found if each is not None]
    return min(lows), max(highs)
