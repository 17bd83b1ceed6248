"""Axes: from numbers to places on a drawing, with round ticks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_LOG_FROM = 30.0  # where the largest number is so many times the smallest, a linear axis squeezes the small ones


@dataclass(frozen=True)
class Axis:
    """Maps `low` to `start` and `high` to `end` (places on a drawing), linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool
    ticks: tuple[tuple[float, str], ...]
    """Place and words of each tick."""

    def at(self, value: float) -> float:
        """Return the place of a number; what lies beyond the axis is put on its end."""
        return _place(value, self.low, self.high, self.start, self.end, self.is_log)


def energy_axis(values: Sequence[float], start: float, end: float, ticks: int = 6) -> Axis:
    """Return an axis for energies (at least one above 0): from 0 on, or by logarithm when they lie far apart."""
    smallest, largest = min(value for value in values if value > 0), max(values)
    if largest / smallest < _LOG_FROM:
        return _linear(0.0, largest * 1.04, start, end, ticks)
    return log_axis(values, start, end, ticks)


def log_axis(values: Sequence[float], start: float, end: float, ticks: int = 6, at: Sequence[float] = ()) -> Axis:
    """Return a logarithmic axis for numbers of which at least one is above 0, with its ticks `at` numbers if named."""
    low, high = min(value for value in values if value > 0) / 1.3, max(values) * 1.3
    named = tuple((_place(value, low, high, start, end, True), f"{value:,.12g}") for value in at)
    return Axis(low, high, start, end, True, named or _log_ticks(low, high, start, end, ticks))


def score_axis(values: Sequence[float], start: float, end: float, ticks: int = 5) -> Axis:
    """Return an axis for scores, a little wider than they are."""
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.05 * (abs(high) or 1.0)
    return _linear(low - room, high + room, start, end, ticks)


def _linear(low: float, high: float, start: float, end: float, ticks: int) -> Axis:
    step = _round_step(high - low, ticks)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9)) + (1 if _has_half(step) else 0)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    values = [number * step for number in range(first, last + 1)]
    places = tuple((_place(value, low, high, start, end, False), f"{value:,.{decimals}f}") for value in values)
    return Axis(low, high, start, end, False, places)


def _log_ticks(low: float, high: float, start: float, end: float, ticks: int) -> tuple[tuple[float, str], ...]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        values = [value for value in values if low <= value <= high]
        if len(values) <= ticks:
            break
    while len(values) > ticks:
        values = values[::2]
    return tuple((_place(value, low, high, start, end, True), f"{value:.12g}") for value in values)


def _place(value: float, low: float, high: float, start: float, end: float, is_log: bool) -> float:
    if is_log:
        value, low, high = (math.log10(max(number, low / 1e6)) for number in (value, low, high))
    share = min(1.0, max(0.0, (value - low) / (high - low)))
    return start + share * (end - start)


def _round_step(width: float, ticks: int) -> float:
    """Return the step of 1, 2, 2.5 or 5 times a power of ten that comes nearest to so many ticks."""
    power = 10.0 ** math.floor(math.log10(width / ticks))
    return min((factor * power for factor in (1, 2, 2.5, 5, 10)), key=lambda step: abs(width / step - ticks))


def _has_half(step: float) -> bool:
    return math.isclose(step / 10.0 ** math.floor(math.log10(step) + 1e-9), 2.5)
