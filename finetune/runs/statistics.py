"""What a few seeds and a few comparisons can tell: t intervals, p values, Holm's correction. Without scipy."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist, fmean

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """The mean over n seeds with its t interval; None bounds with one seed, whose noise is unknown."""

    value: float
    low: float | None
    high: float | None
    n: int


def mean_over_seeds(values: Sequence[float]) -> Mean:
    """Return mean ± t·s/√n with n - 1 degrees of freedom (n = 3: t = 4.303)."""
    n, value = len(values), fmean(values)
    if n < 2:
        return Mean(value, None, None, n)
    half = t_quantile(n - 1) * stdev(values) / math.sqrt(n)
    return Mean(value, value - half, value + half, n)


def mean_of_all(values: Sequence[float | None]) -> float | None:
    """Return the mean of measurements, None unless there are some and none of them is missing."""
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


@dataclass(frozen=True)
class Spread:
    """The variance of a difference of two means that the noise of seeds makes, and its degrees of freedom."""

    variance: float
    degrees: int


def unpaired_spread(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Return the spread of the difference of two means over seeds that have no partner; None for one seed against one.

    s₁²/n₁ + s₂²/n₂ with the degrees of freedom of the smaller side. A single value is taken to scatter as the n of the
    other side: s²·(1/n + 1), n - 1.
    """
    fewer, more = sorted((ours, theirs), key=len)
    if len(more) < 2:
        return None
    if len(fewer) < 2:
        return Spread(stdev(more) ** 2 * (1 / len(more) + 1), len(more) - 1)
    return Spread(stdev(ours) ** 2 / len(ours) + stdev(theirs) ** 2 / len(theirs), len(fewer) - 1)


def stdev(values: Sequence[float]) -> float:
    """Return the standard deviation of a sample; statistics.stdev takes a hundred times as long over a few floats."""
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def two_sided_p(statistic: float, degrees: float) -> float:
    """Return the chance that |T| is at least so large with Student's t of so many degrees of freedom (inf: normal).

    A closed form for whole degrees: Abramowitz & Stegun, Handbook of Mathematical Functions (1964), 26.7.3 and 26.7.4.
    """
    if math.isinf(degrees):
        return math.erfc(abs(statistic) / math.sqrt(2))
    whole = round(degrees)
    angle = math.atan(abs(statistic) / math.sqrt(whole))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = whole % 2
    term = cosine if odd else 1.0
    total = term if whole > 1 else 0.0
    for number in range(3 if odd else 2, whole - 1, 2):
        term *= cosine * cosine * (number - 1) / number
        total += term
    inside = 2 / math.pi * (angle + sine * total) if odd else sine * total
    return max(0.0, 1 - inside)


@cache
def t_quantile(degrees: float, confidence: float = CONFIDENCE) -> float:
    """Return the t beyond which, on both sides together, lies 1 - confidence."""
    if math.isinf(degrees):
        return NormalDist().inv_cdf(0.5 + confidence / 2)
    low, high = 0.0, 1.0
    while two_sided_p(high, degrees) > 1 - confidence:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided_p(middle, degrees) > 1 - confidence else (low, middle)
    return (low + high) / 2


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return p values adjusted for being several (S. Holm, Scand. J. Stat. 6, 1979); None stays None and counts not."""
    known = sorted((p, place) for place, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for number, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - number)))
        adjusted[place] = largest
    return adjusted
