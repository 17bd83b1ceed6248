"""The mathematics of learning curves: isotonic means, where they reach a score, and draws that know of censoring.

Scores are greater-is-better here; the last axis of every array is the amounts of a curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

Floats = NDArray[numpy.float64]

DRAWS = 2_000
_AT_ONCE = 4_000_000  # numbers held while rows are drawn
_FARTHEST = 50.0  # of a logarithm: far beyond every measured energy, and no overflow


def isotonic(values: Floats) -> Floats:
    """Return the non-decreasing numbers nearest to `values` by squares, along the last axis.

    The min-max form of pool adjacent violators (Barlow, Bartholomew, Bremner and Brunk 1972): the largest over all
    beginnings of the smallest mean over all ends. For the few amounts of a study.
    """
    count = values.shape[-1]
    fitted = [
        numpy.max([_smallest_mean(values, start, place) for start in range(place + 1)], 0) for place in range(count)
    ]
    return numpy.stack(fitted, -1)


def _smallest_mean(values: Floats, start: int, place: int) -> Floats:
    """Return the smallest mean from `start` to any end that is not before `place`."""
    ends = range(place + 1, values.shape[-1] + 1)
    return numpy.asarray(numpy.min([values[..., start:end].mean(-1) for end in ends], 0))


def reached_at(amounts: Floats, scores: Floats, target: Floats) -> Floats:
    """Return the amount at which non-decreasing scores first reach a target, linearly in the logarithm of the amount.

    `amounts` ascend and are above 0. Nothing is extrapolated: inf where the target is not reached within the last
    amount, 0 where the first amount is there already (or beyond), so that less would do.
    """
    amounts, scores = numpy.broadcast_arrays(amounts, scores)
    target = numpy.broadcast_to(target, scores.shape[:-1])
    found = numpy.where(scores[..., 0] >= target, 0.0, numpy.inf)
    for place in range(1, scores.shape[-1]):
        below, above = scores[..., place - 1], scores[..., place]
        inside = (below < target) & (target <= above)
        share = numpy.where(inside, (target - below) / numpy.where(inside, above - below, 1.0), 0.0)
        low, high = amounts[..., place - 1], amounts[..., place]
        found = numpy.where(inside, numpy.minimum(low * (high / low) ** share, high), found)
    return found


def by_amount(amounts: Floats, scores: Floats) -> tuple[Floats, Floats]:
    """Return a curve with its amounts in ascending order and isotonic scores; each draw has an order of its own."""
    amounts, scores = numpy.broadcast_arrays(amounts, scores)
    order = numpy.argsort(amounts, axis=-1, kind="stable")
    return numpy.take_along_axis(amounts, order, -1), isotonic(numpy.take_along_axis(scores, order, -1))


@dataclass(frozen=True)
class CellValues:
    """What the runs of a cell measured, by seed: scores, ranked kWh (None: not known), and the score of each row.

    `rows` has the shape (seeds, rows) and the mean of a line is that seed's score; None where it is not known.
    """

    scores: Floats
    kwh: Floats | None
    rows: Floats | None


@dataclass(frozen=True)
class Drawn:
    """The mean score, and the mean kWh, of a cell in each draw."""

    scores: Floats
    kwh: Floats | None


def draw(cells: Sequence[CellValues], draws: int = DRAWS, seed: int = 0) -> list[Drawn]:
    """Draw what seeds and rows leave open of the means; return those of each draw.

    Rows are drawn with replacement, the same for all cells, and only if every cell has the same number of them. Means
    over seeds are drawn cell by cell from Student's t, so that the percentile interval of one of them alone is its t
    interval: to draw a few seeds with replacement is too narrow, for three by a factor of
    z·√((n - 1)/n)/t = 1.96·0.82/4.30 = 0.37. Scores and energies of a cell keep their correlation.
    """
    random = numpy.random.default_rng(seed)
    counts = {None if cell.rows is None else cell.rows.shape[1] for cell in cells}
    rows = counts.pop() if len(counts) == 1 else None
    weights = [_seed_weights(len(cell.scores), draws, random) for cell in cells]
    means = (
        [cell.scores.mean() for cell in cells]
        if rows is None
        else _over_rows([cell.rows.mean(0) for cell in cells if cell.rows is not None], rows, draws, random)
    )
    return [
        Drawn(
            mean + share @ cell.scores,
            None if cell.kwh is None else _above_zero(cell.kwh.mean(), share @ cell.kwh),
        )
        for cell, share, mean in zip(cells, weights, means, strict=True)
    ]


def _seed_weights(seeds: int, draws: int, random: numpy.random.Generator) -> Floats:
    """Return (draws, seeds) numbers whose products with the values x of the seeds are t·s/√n of n - 1 degrees.

    With z normal, less its mean over the seeds, z·x is normal with variance (n - 1)·s²; divided by √(n·χ²) of n - 1
    degrees it is t·s/√n. Of one seed the spread is not known: 0.
    """
    if seeds < 2:
        return numpy.zeros((draws, seeds))
    normal = random.standard_normal((draws, seeds))
    centred = normal - normal.mean(1, keepdims=True)
    return numpy.asarray(centred / numpy.sqrt(seeds * random.chisquare(seeds - 1, draws))[:, None])


def _above_zero(mean: float, change: Floats) -> Floats:
    """Return the mean changed by a share that is taken for one of its logarithm: no energy is below 0."""
    return numpy.asarray(mean * numpy.exp(numpy.clip(change / mean, -_FARTHEST, _FARTHEST)))


def _over_rows(cells: Sequence[Floats], rows: int, draws: int, random: numpy.random.Generator) -> list[Floats]:
    """Return the mean over the rows, of which each cell has its values, in each draw."""
    step = max(1, _AT_ONCE // rows)
    pieces: list[list[Floats]] = [[] for _ in cells]
    for start in range(0, draws, step):
        weights = random.multinomial(rows, numpy.full(rows, 1 / rows), min(step, draws - start)) / rows
        for piece, values in zip(pieces, cells, strict=True):
            piece.append(weights @ values)
    return [numpy.concatenate(piece) for piece in pieces]


@dataclass(frozen=True)
class Interval:
    """A percentile interval over draws of which some are censored; `beyond` and `below` are their shares.

    A bound of inf lies beyond the largest amount, one of 0 below the smallest.
    """

    low: float
    high: float
    beyond: float
    below: float


def interval(values: Floats, confidence: float = 0.95) -> Interval:
    """Return the percentile interval of draws; a censored draw counts by its side, so that nothing is invented."""
    tail = (1 - confidence) / 2
    low, high = (float(bound) for bound in numpy.quantile(values, (tail, 1 - tail), method="inverted_cdf"))
    return Interval(low, high, float(numpy.isinf(values).mean()), float((values == 0).mean()))
