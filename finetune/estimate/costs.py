"""From amounts of work and what a unit costs to a run's energy, time and CO2e, by phase. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.emissions.components import JOULES_PER_KWH
from finetune.emissions.forecast import INFERENCE_SECONDS, Block, Rate, complete_rates, rate_of

# How far off a time may be when the energy that would tell was not measured.
_TIME_SPREAD = 0.3

Section = Mapping[str, Any]


@dataclass(frozen=True)
class Cost:
    """Energy in joules and time in seconds, each with the range of the forecast."""

    joules: float = 0.0
    joules_low: float = 0.0
    joules_high: float = 0.0
    seconds: float = 0.0
    seconds_low: float = 0.0
    seconds_high: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.joules + other.joules,
            self.joules_low + other.joules_low,
            self.joules_high + other.joules_high,
            self.seconds + other.seconds,
            self.seconds_low + other.seconds_low,
            self.seconds_high + other.seconds_high,
        )


def cost(units: float, rate: Rate) -> Cost:
    """Return what so much work costs; its time is as uncertain as its energy."""
    low, high = (
        (rate.low / rate.joules, rate.high / rate.joules) if rate.joules > 0 else (1 - _TIME_SPREAD, 1 + _TIME_SPREAD)
    )
    seconds = units * rate.seconds
    return Cost(units * rate.joules, units * rate.low, units * rate.high, seconds, seconds * low, seconds * high)


def total(costs: Iterable[Cost]) -> Cost:
    """Return the sum; lows and highs add up as they are, since what makes one part dearer makes all dearer."""
    return sum(costs, Cost())


def measured_rates(measured: Section) -> dict[str, Rate]:
    """Return what a unit of each kind of work costs by the probe's blocks; "record" is the frozen part of a model."""
    found = {kind: rate_of([Block(**block) for block in blocks]) for kind, blocks in measured["blocks"].items()}
    rates = complete_rates(found)
    assert rates is not None  # the warm-up is training at least
    return rates | {"record": found.get("record") or rates["evaluate"]}


def phase_costs(work: Mapping[str, Mapping[str, float]], rates: Mapping[str, Rate]) -> dict[str, Cost]:
    """Return the cost of each phase: its amounts of each kind of work at their rates.

    The pass that measures the cost of an answer (the phase other) ends after half a minute.
    """
    found = {phase: total(cost(units, rates[kind]) for kind, units in kinds.items()) for phase, kinds in work.items()}
    passes = found.get("other", Cost())
    if passes.seconds > INFERENCE_SECONDS:
        share = INFERENCE_SECONDS / passes.seconds
        low, high = (share * value for value in (passes.joules_low, passes.joules_high))
        found["other"] = Cost(share * passes.joules, low, high, *3 * [INFERENCE_SECONDS])
    return found


def seen_costs(emissions: Section) -> dict[str, Cost]:
    """Return what the phases before training took in the probe, which a run goes through in the same way."""
    return {
        name: seen_once(_joules(phase), phase["duration_s"])
        for name, phase in emissions["phases"].items()
        if name in ("load", "preprocess")
    }


def seen_once(joules: float, seconds: float) -> Cost:
    """Return the cost of what was seen one time: its range is that of a single block."""
    rate = rate_of([Block(1.0, joules, seconds)])
    assert rate is not None
    return cost(1.0, rate)


def warm_up_cost(measured: Section, rates: Mapping[str, Rate]) -> Cost:
    """Return what the first steps took beyond the usual: buffers, kernels, compiling. The low end is nothing."""
    seen, usual = measured["warm_up"], cost(measured["warm_up"]["units"], rates["train"])
    joules, seconds = max(0.0, seen["joules"] - usual.joules), max(0.0, seen["seconds"] - usual.seconds)
    return Cost(joules, 0.0, joules, seconds, 0.0, seconds)


def band_factors(emissions: Section, phases: Iterable[str]) -> tuple[float, float | None]:
    """Return the factors of the meter's band: those of the components, weighted by their energy in some phases.

    The upper one is None when a component gives no reading: then every total is a lower bound.
    """
    spent = dict.fromkeys(emissions["components"], 0.0)
    for name in phases:
        for component, kwh in emissions["phases"].get(name, {}).get("components", {}).items():
            spent[component] += kwh or 0.0
    whole = math.fsum(spent.values())
    low = high = 0.0
    for component, kwh in spent.items():
        entry = emissions["components"][component]
        if kwh > 0 and entry["energy_kwh"]:
            low += kwh / whole * entry["energy_kwh_low"] / entry["energy_kwh"]
            high += kwh / whole * (entry["energy_kwh_high"] or 0.0) / entry["energy_kwh"]
    return (low, high) if emissions["complete"] else (low, None)


def _joules(phase: Section) -> float:
    return (phase["energy_kwh"] or 0.0) * JOULES_PER_KWH
