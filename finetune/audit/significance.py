"""Tests and intervals of the probes: exact where they can be, seeded draws where they cannot."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from finetune.evaluation.intervals import bootstrap, wilson

if TYPE_CHECKING:
    import numpy

DRAWS = 9_999  # so that the smallest p value is 1 in 10,000
_SEED = 0  # a p value is a property of the answers: the same answers give the same
_AT_ONCE = 1 << 21  # numbers in one block of draws: 16 MB


def sign_test(above: int, below: int) -> float:
    """Return the two-sided exact p value of as many pairs above as below; ties are left out beforehand.

    It is McNemar's exact test too, of the pairs that differ in one direction and in the other.
    """
    n, fewer = above + below, min(above, below)
    tail = sum(math.comb(n, k) for k in range(fewer + 1))
    return min(1.0, float(2 * tail / 2**n))


def fisher(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Return Fisher's exact two-sided p value of two shares being one."""
    from scipy.stats import fisher_exact

    return float(fisher_exact([[hits, n - hits], [other_hits, other_n - other_hits]])[1])


def exchange_test(cells: numpy.ndarray) -> list[float]:
    """Return for each column the p value of it being exchangeable with the others within every row, by seeded draws.

    (1 + as far from the mean) / (1 + draws): Phipson and Smyth, Stat. Appl. Genet. Mol. Biol. 9, 2010.
    cells: clusters × groups. The statistic is the sum of a column. Exchanged, a group has in each row any one of its
    cells, so that the draws of one group are those of all.
    """
    import numpy

    draw = numpy.random.default_rng(_SEED)
    centred = cells - cells.mean(axis=1, keepdims=True)
    observed, beyond = abs(centred.sum(axis=0)), numpy.zeros(cells.shape[1], dtype=int)
    rows = numpy.arange(len(cells))
    for part in _parts(len(cells)):
        drawn = centred[rows, draw.integers(0, cells.shape[1], (part, len(cells)))].sum(axis=1)
        beyond += (abs(drawn)[:, None] >= observed - 1e-9).sum(axis=0)
    return [float(count) for count in (1 + beyond) / (1 + DRAWS)]


def _parts(size: int) -> list[int]:
    at_once = max(1, _AT_ONCE // max(1, size))
    return [min(at_once, DRAWS - done) for done in range(0, DRAWS, at_once)]


def mean_interval(values: numpy.ndarray, confidence: float) -> tuple[float, float] | None:
    """Return the percentile bootstrap interval of a mean."""
    import numpy

    return bootstrap(
        numpy.column_stack([values, numpy.ones(len(values))]), lambda sums: sums[..., 0] / sums[..., 1], confidence
    )


def difference_interval(
    first: tuple[float, int], second: tuple[float, int], confidence: float, correlation: float = 0.0
) -> tuple[float, float]:
    """Return the interval of one share less another, each given as (hits, n), n above 0.

    Newcombe's hybrid score interval: Stat. Med. 17, 1998, 873-890 (independent, method 10) and 2635-2650 (paired,
    method 10, where `correlation` is phi).
    """
    (p1, l1, u1), (p2, l2, u2) = (_share(hits, n, confidence) for hits, n in (first, second))

    def distance(one: float, other: float) -> float:
        return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))

    return p1 - p2 - distance(p1 - l1, u2 - p2), p1 - p2 + distance(u1 - p1, p2 - l2)


def paired_difference(both: int, first: int, second: int, neither: int, confidence: float) -> tuple[float, float]:
    """Return the interval of one share less another of the same rows: hit by both, by one of the two, by neither."""
    n = both + first + second + neither
    scale = math.sqrt((both + first) * (second + neither) * (both + second) * (first + neither))
    product = float(both * neither - first * second)
    if product > 0:
        product = max(product - n / 2, 0.0)
    phi = product / scale if scale else 0.0
    return difference_interval((both + first, n), (both + second, n), confidence, phi)


def mean_of_shares(first: tuple[float, int], second: tuple[float, int], confidence: float) -> tuple[float, float]:
    """Return the interval of the mean of two independent shares, each given as (hits, n), n above 0.

    From the Wilson interval of each: Zou and Donner, Stat. Med. 27, 2008.
    """
    (p1, l1, u1), (p2, l2, u2) = (_share(hits, n, confidence) for hits, n in (first, second))
    mean = (p1 + p2) / 2
    return mean - math.hypot(p1 - l1, p2 - l2) / 2, mean + math.hypot(u1 - p1, u2 - p2) / 2


def _share(hits: float, n: int, confidence: float) -> tuple[float, float, float]:
    interval = wilson(hits, n, confidence)
    assert interval is not None  # n is above 0
    return hits / n, *interval
