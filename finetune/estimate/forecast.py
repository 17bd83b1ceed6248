"""What a forecast says: totals with their ranges, the phases, other grids, budgets, memory. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Protocol

from finetune.emissions import tables
from finetune.emissions.components import JOULES_PER_KWH
from finetune.emissions.ledger import PHASES
from finetune.estimate.costs import Cost, band_factors, total

# Grids that differ much: mostly nuclear, mostly hydro, mixed, mostly coal.
_OTHER_GRIDS = ("FRA", "BRA", "USA", "IND")

Section = Mapping[str, Any]


class Limits(Protocol):
    """The budgets of a recipe."""

    @property
    def max_energy_kwh(self) -> float | None:
        """Energy × PUE in kWh."""

    @property
    def max_emissions_g(self) -> float | None:
        """Grams of CO2e."""


def amounts(costs: Mapping[str, Cost], emissions: Section) -> dict[str, Any]:
    """Return energy, emissions and time of a run: central values, two ranges, and the phases.

    `forecast` is where the meter's reading will lie; energy_kwh_low and _high are, as in a run's record, the bounds of
    what is really drawn, so they span the forecast and the meter's band together. `emissions` is the
    section of the probe: how the components are read, the grid, the PUE.
    """
    whole, intensity, pue = total(costs.values()), emissions["carbon_intensity"], emissions["pue"]
    measured_phases = [phase for phase in ("train", "evaluate", "save") if phase in emissions["phases"]]
    band_low, band_high = band_factors(emissions, measured_phases or emissions["phases"])
    is_measured = emissions["energy_kwh"] is not None
    grams_low, grams_high = (
        intensity["g_per_kwh"] if intensity[name] is None else intensity[name]
        for name in ("g_per_kwh_low", "g_per_kwh_high")
    )

    def kwh(joules: float, factor: float | None = 1.0) -> float | None:
        return joules / JOULES_PER_KWH * factor if is_measured and factor is not None else None

    def grams(energy: float | None, g_per_kwh: float = intensity["g_per_kwh"]) -> float | None:
        return None if energy is None else energy * pue * g_per_kwh

    low, high = kwh(whole.joules_low), kwh(whole.joules_high)
    bound_low, bound_high = kwh(whole.joules_low, band_low), kwh(whole.joules_high, band_high)
    return {
        "energy_kwh": kwh(whole.joules),
        "energy_kwh_low": bound_low,
        "energy_kwh_high": bound_high,
        "emissions_g": grams(kwh(whole.joules)),
        "emissions_g_low": grams(bound_low, grams_low),
        "emissions_g_high": grams(bound_high, grams_high),
        "duration_s": whole.seconds,
        "forecast": {
            "energy_kwh_low": low,
            "energy_kwh_high": high,
            "emissions_g_low": grams(low),
            "emissions_g_high": grams(high),
            "duration_s_low": whole.seconds_low,
            "duration_s_high": whole.seconds_high,
        },
        "complete": emissions["complete"],
        "carbon_intensity": intensity,
        "pue": pue,
        "components": {
            name: {"method": entry["method"], "detail": entry["detail"]}
            for name, entry in emissions["components"].items()
        },
        "phases": {
            name: {
                "energy_kwh": kwh(costs[name].joules),
                "emissions_g": grams(kwh(costs[name].joules)),
                "duration_s": costs[name].seconds,
            }
            for name in PHASES
            if name in costs
        },
    }


def budget_verdicts(expected: Section, limits: Limits) -> list[dict[str, Any]]:
    """Return for each budget of the recipe whether the run fits: yes, perhaps (within the range) or no.

    Budgets count what the meter reads, energy × PUE, so the meter's band is no part of it.
    """
    energies, pue = (expected["energy_kwh"], *_range(expected, "energy_kwh")), expected["pue"]
    asked = {
        "emissions.max_energy_kwh": (limits.max_energy_kwh, [None if e is None else e * pue for e in energies]),
        "emissions.max_emissions_g": (
            limits.max_emissions_g, [expected["emissions_g"], *_range(expected, "emissions_g")]
        ),
    }  # fmt: skip
    return [
        {"key": key, "limit": limit, "forecast": values[0], "low": values[1], "high": values[2],
         "fits": _fits(limit, values[1], values[2])}
        for key, (limit, values) in asked.items()
        if limit is not None
    ]  # fmt: skip


def _range(expected: Section, name: str) -> tuple[float | None, float | None]:
    return expected["forecast"][f"{name}_low"], expected["forecast"][f"{name}_high"]


def _fits(limit: float, low: float | None, high: float | None) -> str | None:
    if low is None or high is None:
        return None
    return "yes" if high <= limit else "no" if low > limit else "perhaps"


def grid_table(expected: Section) -> list[dict[str, Any]]:
    """Return what the run would emit on the user's grid and on others, as intensities of the tables with their scope.

    It is the same energy each time: the machine does not change.
    """
    own, countries = expected["carbon_intensity"], tables.country_intensities()
    rows = [("here", own["location"], own["g_per_kwh"], own["year"], own["scope"])]
    for code in _OTHER_GRIDS:
        entry = countries[code]
        rows.append((entry.name, code, entry.g_per_kwh, entry.year, entry.scope))
    world = tables.world_intensity()
    rows.append((world.name, None, world.g_per_kwh, world.year, world.scope))
    energy = expected["energy_kwh"]
    return [
        {
            "place": place,
            "location": location,
            "g_per_kwh": g_per_kwh,
            "emissions_g": None if energy is None else energy * expected["pue"] * g_per_kwh,
            "year": year,
            "scope": scope,
        }
        for place, location, g_per_kwh, year, scope in rows
    ]


def memory_needed(found: Section, measured: Section | None, ram_free_bytes: int) -> dict[str, Any]:
    """Return the most memory that a run takes at a time, measured with the longest rows, or else estimated."""
    if measured is not None:
        ram, gpu = measured["peak_ram_bytes"], measured["peak_gpu_bytes"]
    else:
        more = math.fsum(count for name, count in found["memory"].items() if name != "weights_bytes")
        on_gpu = found["hardware"]["device"] == "cuda"
        loaded = found["peak_ram_bytes"]
        ram = loaded if on_gpu or loaded is None else int(loaded + more)
        gpu = int(more + found["memory"]["weights_bytes"]) if on_gpu else None
    known = "estimated" if measured is None else "measured"
    return {"ram_bytes": ram, "gpu_bytes": gpu, "known": known, "ram_free_bytes": ram_free_bytes}
