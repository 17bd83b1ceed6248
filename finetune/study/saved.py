"""What the reference saves against a strategy that reaches the same score: rows, kWh and grams, not their ratio."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from finetune.runs import formats
from finetune.runs.deltas import intensity
from finetune.study.reach import ENERGY, Reach
from finetune.study.results import Results


@dataclass(frozen=True)
class Saved:
    """What a strategy takes more than the reference for the reference's score, in rows or kWh; below 0 it takes less.

    `bound`: the strategy does not reach the score, and would take so much more "at least"; or has it with its smallest
    amount, and takes so much more "at most", which is less. `low` and `high` are the range of the ratio, less 1, times
    what the reference took; None where it is open. `is_decided`: that range leaves out 0. `grams` go with kWh, None
    where they are not known.
    """

    axis: str
    value: float
    low: float | None
    high: float | None
    bound: Literal["at least", "at most"] | None
    is_decided: bool
    grams: float | None


def saved(reach: Reach, g_per_kwh: float | None) -> Saved | None:
    """Return what the reference saves by what a strategy needs; None where nothing is known of it.

    A bound is the nearer one of what was measured and of the range, so that not one draw in 40 goes beyond it; where
    that does not tell more from less, it is none.
    """
    reference, ratio = reach.reference, reach.ratio
    low, high = ((limit - 1) * reference if 0 < limit < math.inf else None for limit in (ratio.low, ratio.high))
    bound: Literal["at least", "at most"] | None = None
    value = reach.value - reference
    if math.isinf(reach.value):
        bound, value = "at least", min(reach.last, ratio.low * reference) - reference
    elif not reach.is_inside:
        bound, value = "at most", max(reach.first, ratio.high * reference) - reference
    if (bound == "at least" and value <= 0) or (bound == "at most" and value >= 0):
        return None
    grams = value * g_per_kwh if reach.axis == ENERGY and g_per_kwh is not None else None
    return Saved(reach.axis, value, low, high, bound, ratio.verdict != "undecided", grams)


def grams_per_kwh(results: Results) -> float | None:
    """Return the grams of CO2e for each kWh of the runs, PUE included; None where they were charged differently."""
    found = {intensity(run) for cell in results.cells for run in cell.runs.values()}
    if len(found) != 1:
        return None
    g_per_kwh, _, pue = found.pop()
    return None if g_per_kwh is None else g_per_kwh * pue


def saved_words(found: Saved | None) -> str:
    """Return what is saved, for a table; a minus says that the reference takes more."""
    if found is None:
        return "not known"
    bound = f"{found.bound} " if found.bound else ""
    return bound + amounts_words(found) + ("" if found.is_decided else " (undecided)")


def saved_line(reference: str, rows: Saved | None, energy: Saved | None) -> str | None:
    """Return in words what the reference saves, in rows and in energy; None where that is nothing, or not shown."""
    sure = [each for each in (rows, energy) if each is not None and each.value > 0]
    words = [("at least " if each.bound else "") + amounts_words(each) for each in sure if each.is_decided]
    return f"{reference} saves {' and '.join(words)}" if words else None


def amounts_words(found: Saved) -> str:
    """Return the amount in its unit, energy with its grams where they are known."""
    minus, value = "−" if found.value < 0 else "", abs(found.value)
    if found.axis != ENERGY:
        return f"{minus}{value:,.0f} rows"
    grams = "" if found.grams is None else f" ({minus}{formats.grams(abs(found.grams))} CO2e)"
    return f"{minus}{formats.energy(value)}{grams}"


def saved_json(found: Saved | None) -> dict[str, Any] | None:
    """Return what is saved for programs: rows or kWh, with grams."""
    if found is None:
        return None
    return {
        "value": found.value, "low": found.low, "high": found.high, "bound": found.bound,
        "emissions_g": found.grams, "is_decided": found.is_decided,
    }  # fmt: skip
