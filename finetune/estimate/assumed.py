"""What a token costs by arithmetic alone: floating point operations, at a speed and a power that are assumed.

A forward pass takes 2 operations a parameter and token, a backward pass 2 for the gradient of what flows through and 2
for that of each weight that is trained (Kaplan et al. 2020, arXiv:2001.08361, section 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.emissions.components import JOULES_PER_KWH
from finetune.emissions.forecast import Rate, complete_rates

# Operations a second that a fine-tuning reaches: low, usual, high. A processor's are for each thread.
_SPEEDS = {
    ("cpu", "no"): (5e9, 25e9, 80e9),
    ("cpu", "bf16"): (10e9, 60e9, 200e9),
    ("mps", "no"): (0.5e12, 2e12, 8e12),
    ("cuda", "no"): (2e12, 15e12, 60e12),
    ("cuda", "bf16"): (5e12, 50e12, 300e12),
    ("cuda", "fp16"): (5e12, 50e12, 150e12),
}
# Watts beyond what the machine drew while the model was loaded: low, usual, high.
_GPU_WATTS = (60.0, 250.0, 700.0)
_PROCESSOR_SHARES = (0.9, 1.2, 3.0)  # of what it drew then

Section = Mapping[str, Any]


def train_operations(parameters: float, trainable: float, is_full: bool) -> float:
    """Return the floating point operations to train on one token: 6 a parameter where all are trained.

    With adapters the gradient flows through the frozen weights (4 and 2 for what is trained); frozen lower layers are
    run once a row and counted apart, so that only the trained part counts (6).
    """
    return 6 * trainable if is_full else 4 * parameters + 2 * trainable


def assumed_rates(found: Section) -> dict[str, Rate]:
    """Return rates from the size of the model and the kind of machine; the range spans a factor of ten and more."""
    size, hardware = found["work"]["size"], found["hardware"]
    device = hardware["device"]
    slow, usual, fast = _SPEEDS.get((device, hardware["mixed_precision"]), _SPEEDS[device, "no"])
    many = hardware["threads"] if device == "cpu" else 1
    watts = _watts(found["emissions"], device)

    def rate(operations: float) -> Rate:
        seconds = [operations / speed / many for speed in (fast, usual, slow)]
        low, central, high = (power * time for power, time in zip(watts, seconds, strict=True))
        return Rate(central, low, high, seconds[1])

    forward = rate(2 * size["computed"])
    train = rate(train_operations(size["computed"], size["trained"], size["is_full"]))
    rates = complete_rates({"train": train, "evaluate": forward})
    assert rates is not None
    return rates | {"record": forward}


def _watts(emissions: Section, device: str) -> list[float]:
    """Return low, usual and high power in training; 0 where nothing can be measured."""
    if not emissions["energy_kwh"] or not emissions["duration_s"]:
        return [0.0, 0.0, 0.0]
    idle = emissions["energy_kwh"] * JOULES_PER_KWH / emissions["duration_s"]
    if device == "cpu":
        return [idle * share for share in _PROCESSOR_SHARES]
    return [idle + watts for watts in _GPU_WATTS]
