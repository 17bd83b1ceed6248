"""Numbers and settings as people read them: three significant digits, a unit, and never 0 for what was not measured."""

import math
from collections.abc import Iterable
from typing import Any

from finetune.runs.record import Score
from finetune.runs.statistics import Mean

NOT_MEASURED = "not measured"


def significant(value: float, digits: int = 3) -> str:
    """Return a number with so many significant digits, without an exponent unless it is tiny."""
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits - 1}e}")
    if abs(rounded) < 1e-6:
        return f"{rounded:.{digits - 1}e}"
    return f"{rounded:,.{max(0, digits - 1 - math.floor(math.log10(abs(rounded))))}f}"


def energy_unit(values_kwh: Iterable[float | None]) -> tuple[str, float]:
    """Return the unit that suits a column of energies, and how many of it make a kWh."""
    largest = max((value for value in values_kwh if value is not None), default=0.0)
    return ("kWh", 1.0) if largest >= 1 else ("Wh", 1000.0)


def energy(kwh: float | None) -> str:
    """Return an energy in kWh, or Wh below 1 kWh."""
    if kwh is None:
        return NOT_MEASURED
    unit, factor = energy_unit([kwh])
    return f"{significant(kwh * factor)} {unit}"


def energy_with_band(kwh: float | None, low: float | None, high: float | None) -> str:
    """Return an energy with its bounds; without an upper bound it is a lower bound itself and says so."""
    if kwh is None:
        return NOT_MEASURED
    if high is None or low is None:
        return f"at least {energy(low if low is not None else kwh)}"
    unit, factor = energy_unit([kwh])
    return f"{significant(kwh * factor)} {unit} (band {span(low * factor, high * factor)})"


def grams(emissions_g: float | None) -> str:
    """Return grams of CO2e, in kg from 1,000 g on."""
    if emissions_g is None:
        return NOT_MEASURED
    return f"{significant(emissions_g / 1000)} kg" if emissions_g >= 1000 else f"{significant(emissions_g)} g"


def span(low: float, high: float, digits: int = 3) -> str:
    """Return two bounds: 0.93–1.12."""
    return f"{significant(low, digits)}–{significant(high, digits)}"


def score_value(value: float) -> str:
    """Return a score: three decimals up to 1, three significant digits beyond."""
    return f"{value:.3f}" if abs(value) < 10 else significant(value, 4)


def score_interval(score: Score | Mean) -> str:
    """Return the interval of a score, empty when it has none."""
    if score.low is None or score.high is None:
        return ""
    return f"{score_value(score.low)}{' to ' if score.low < 0 else '–'}{score_value(score.high)}"


def score(score: Score | None) -> str:
    """Return a score with its interval: 0.965 [0.931–0.982]."""
    if score is None:
        return NOT_MEASURED
    interval = score_interval(score)
    return score_value(score.value) + (f" [{interval}]" if interval else "")


def mean_score(mean: Mean) -> str:
    """Return a mean over seeds with half its interval: 0.912 ± 0.008."""
    value = score_value(mean.value)
    return value if mean.high is None else f"{value} ± {score_value(mean.high - mean.value)}"


def duration(seconds: float | None) -> str:
    """Return a wall time: 41 s, 3 min 20 s, 2 h 05 min."""
    if seconds is None:
        return NOT_MEASURED
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def count(number: float | None) -> str:
    """Return a large number of things: 950, 22.7 M."""
    if number is None:
        return "–"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{significant(number / size)} {unit}"
    return f"{number:.0f}"


def setting(value: Any) -> str:
    """Return a setting of a recipe as people write it; – for none."""
    if value is None or value == {}:
        return "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "[" + ", ".join(map(setting, value)) + "]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def file_size(size: int) -> str:
    """Return a number of bytes: 512 bytes, 1.2 MB (powers of 1,000)."""
    value, unit = float(size), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 1000:
            break
        value, unit = value / 1000, larger
    return f"{size:,} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
