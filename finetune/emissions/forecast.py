"""What a run will have spent at its end: what it has spent, plus the work that is left at the cost of the work so far.

There are three kinds of work, each with its phase of the meter: training (counted in tokens, padding too), evaluation
(in tokens) and saving (in bytes). What one unit costs is a ratio estimator, ΣJ / Σunits, over blocks of the run. All
functions are pure; nothing here can know of an early stop, so a forecast holds for a run that goes to its end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from finetune.emissions.components import JOULES_PER_KWH

KINDS = ("train", "evaluate", "save")
SHORTEST_BLOCK_S = 2.0
KEPT_BLOCKS = 128
INFERENCE_PASSES = 3
INFERENCE_SECONDS = 30.0
"""The cost of an answer is measured over so many passes of the reported split, or so long if that is shorter."""

_TRIMMED = 0.1  # of the units, at either end of the blocks in the order of their cost
_FEWEST_TRIMMED = 3
_LEAST_SPREAD = 0.15
_SPREAD_OF_ONE = 0.3
# Assumptions for work of which none has been seen: a step is a forward and a backward pass of twice its cost.
_FORWARDS_A_STEP = (2.0, 3.0, 4.0)
BYTES_PER_S = 100e6


@dataclass(frozen=True)
class Block:
    """A stretch of one kind of work: how much of it, and the energy and time that it took."""

    units: float
    joules: float
    seconds: float

    def __add__(self, other: Block) -> Block:
        return Block(self.units + other.units, self.joules + other.joules, self.seconds + other.seconds)


@dataclass(frozen=True)
class Rate:
    """What one unit of work costs: joules, between low and high, and seconds."""

    joules: float
    low: float
    high: float
    seconds: float

    def times(self, joules: tuple[float, float, float], seconds: float = 1.0) -> Rate:
        """Return the rate with its low, central and high energy and its time multiplied."""
        low, central, high = joules
        return Rate(self.joules * central, self.low * low, self.high * high, self.seconds * seconds)


@dataclass(frozen=True)
class Work:
    """Amounts of work: tokens trained on (padding counted), tokens evaluated, bytes saved."""

    train: float = 0.0
    evaluate: float = 0.0
    save: float = 0.0

    def __add__(self, other: Work) -> Work:
        return Work(self.train + other.train, self.evaluate + other.evaluate, self.save + other.save)

    def __sub__(self, other: Work) -> Work:
        return Work(self.train - other.train, self.evaluate - other.evaluate, self.save - other.save)


@dataclass(frozen=True)
class Spent:
    """What a run has used: IT energy, emissions (with PUE) and wall time."""

    energy_kwh: float
    emissions_g: float
    duration_s: float


@dataclass(frozen=True)
class Forecast:
    """What a run will have used at its end, if no rule stops it before; low and high bound the energy."""

    energy_kwh: float
    energy_kwh_low: float
    energy_kwh_high: float
    emissions_g: float
    duration_s: float


def rate_of(blocks: Sequence[Block]) -> Rate | None:
    """Return the cost of a unit as ΣJ / Σunits over the blocks without the cheapest and the dearest tenth.

    The range is the spread of these blocks, wider when they are few, and never less than 15 % to either side. None
    where no energy was seen: a counter that has not moved yet does not say that work is free.
    """
    known = sorted((block for block in blocks if block.units > 0), key=lambda block: block.joules / block.units)
    if not any(block.joules > 0 for block in known):
        return None
    kept = _trimmed(known)
    if not any(block.joules > 0 for block in kept):
        kept = known
    units = math.fsum(block.units for block in kept)
    joules = math.fsum(block.joules for block in kept) / units
    seconds = math.fsum(block.seconds for block in kept) / units
    spread = _spread(kept)
    return Rate(joules, joules * max(0.0, 1 - spread), joules * (1 + spread), seconds)


def at_least(rate: Rate, blocks: Sequence[Block]) -> Rate:
    """Return the rate, or that of some blocks where it is dearer."""
    other = rate_of(blocks)
    return rate if other is None or other.joules <= rate.joules else other


def _trimmed(ordered: Sequence[Block]) -> Sequence[Block]:
    """Leave out the blocks that lie whole in the first or last tenth of the units; of three or more, one at each end.

    A machine that slept makes one block of any cost.
    """
    cut = _TRIMMED * math.fsum(block.units for block in ordered)
    first, last = (1, len(ordered) - 1) if len(ordered) >= _FEWEST_TRIMMED else (0, len(ordered))
    left = math.fsum(block.units for block in ordered[:first])
    right = math.fsum(block.units for block in ordered[last:])
    while first + 1 < last and (left := left + ordered[first].units) <= cut:
        first += 1
    while first + 1 < last and (right := right + ordered[last - 1].units) <= cut:
        last -= 1
    return ordered[first:last]


def _spread(blocks: Sequence[Block]) -> float:
    """Return the standard deviation of the blocks' costs over their mean, as a share, each weighted by its units."""
    if len(blocks) == 1:
        return _SPREAD_OF_ONE
    units = math.fsum(block.units for block in blocks)
    mean = math.fsum(block.joules for block in blocks) / units
    if mean <= 0:
        return _SPREAD_OF_ONE
    variance = math.fsum(block.units * (block.joules / block.units - mean) ** 2 for block in blocks) / units
    return max(_LEAST_SPREAD, math.sqrt(variance) / mean * (1 + 2 / len(blocks)))


def forward_rate(first_pass: Rate | None, train: Rate | None) -> Rate | None:
    """Return the cost of evaluating a token, as long as only the first pass of the untrained model was seen, if that.

    In a short first pass the model warms up: where it is dearer than a third of training, of whose three passes the
    forward one is the first, that is expected, and what was seen is the high end.
    """
    if first_pass is None or train is None or first_pass.joules <= train.joules / 3:
        return first_pass
    return Rate(train.joules / 3, train.low / 4, first_pass.high, train.seconds / 3)


def complete_rates(found: Mapping[str, Rate | None], bytes_per_s: float = BYTES_PER_S) -> dict[str, Rate] | None:
    """Return a rate for every kind of work; what has not been seen yet is inferred from what has.

    Evaluating a token is taken to cost what training on one does (about three times too much: the low end allows for
    it), training three evaluations, and saving the time that a disk of `bytes_per_s` takes at the power so far. None
    where neither training nor evaluation has been seen.
    """
    train, evaluate = found.get("train"), found.get("evaluate")
    if train is None and evaluate is None:
        return None
    train = train or evaluate.times(_FORWARDS_A_STEP, _FORWARDS_A_STEP[1])  # type: ignore[union-attr]
    evaluate = evaluate or train.times((1 / _FORWARDS_A_STEP[2], 1.0, 1.0))
    watts = train.joules / train.seconds if train.seconds > 0 else 0.0
    joules = watts / bytes_per_s
    save = found.get("save") or Rate(joules, joules / 10, joules * 3, 1 / bytes_per_s)
    return {"train": train, "evaluate": evaluate, "save": save}


def inference_tokens(split_tokens: float, evaluate: Rate) -> float:
    """Return how many tokens the pass goes through that measures the cost of an answer."""
    all_passes = INFERENCE_PASSES * split_tokens
    return min(all_passes, INFERENCE_SECONDS / evaluate.seconds) if evaluate.seconds > 0 else all_passes


def cost_kwh(work: Work, rates: Mapping[str, Rate]) -> float:
    """Return the energy that some work will take, in kWh."""
    return math.fsum(getattr(work, kind) * rates[kind].joules for kind in KINDS) / JOULES_PER_KWH


def forecast(spent: Spent, left: Work, rates: Mapping[str, Rate], grams_per_kwh: float) -> Forecast:
    """Return what the run will have used: what is spent, and the work that is left at its rates.

    `grams_per_kwh` are the emissions of one kWh of IT energy: carbon intensity × PUE. Lows and highs add up as they
    are: what makes one kind of work dearer, such as another program on the machine, makes all of it dearer.
    """
    amounts = [(getattr(left, kind), rates[kind]) for kind in KINDS]

    def kwh(joules: Iterable[float]) -> float:
        return math.fsum(joules) / JOULES_PER_KWH

    central = kwh(units * rate.joules for units, rate in amounts)
    return Forecast(
        energy_kwh=spent.energy_kwh + central,
        energy_kwh_low=spent.energy_kwh + kwh(units * rate.low for units, rate in amounts),
        energy_kwh_high=spent.energy_kwh + kwh(units * rate.high for units, rate in amounts),
        emissions_g=spent.emissions_g + central * grams_per_kwh,
        duration_s=spent.duration_s + math.fsum(units * rate.seconds for units, rate in amounts),
    )
