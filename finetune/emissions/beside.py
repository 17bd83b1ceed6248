"""What stands beside the emissions of a run and never in them: water, the making of the hardware, the SCI score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.emissions.components import MICROJOULES_PER_KWH

if TYPE_CHECKING:
    from finetune.emissions.ledger import Life

_GRAMS_PER_KG = 1000
_SECONDS_PER_H = 3600


@dataclass(frozen=True)
class Embodied:
    """The user's figures for a machine: kg CO2e that making it took, hours that it serves, share the run reserves."""

    kg: float
    lifetime_h: float
    share: float = 1.0


def water_l(lives: Sequence[Life]) -> float | None:
    """Return Σ over (segment, node) of WUE × IT energy, in litres; None unless every life states a WUE.

    WUE is defined per kWh of the IT equipment (The Green Grid), so PUE has no part in it.
    """
    parts = [None if life.wue is None else life.wue * _kwh(life) for life in lives]
    stated = [part for part in parts if part is not None]
    return math.fsum(stated) if lives and len(stated) == len(parts) else None


def embodied_g(lives: Sequence[Life]) -> float | None:
    """Return Σ over (segment, node) of TE × TiR/EL × RR/ToR (ISO/IEC 21031:2024), in grams.

    TE is the making of the machine, TiR the time that this life had it, EL its lifetime, RR/ToR the share reserved.
    None unless every life states figures.
    """
    parts = [None if life.embodied is None else _embodied_g(life.embodied, reserved_s(life)) for life in lives]
    stated = [part for part in parts if part is not None]
    return math.fsum(stated) if lives and len(stated) == len(parts) else None


def sci_g_per_run(operational_g: float | None, made_g: float | None) -> float | None:
    """Return the SCI score, ((E × I) + M) per R, in grams, where R is one training run and E includes PUE.

    None without M: the standard wants embodied emissions in every score.
    """
    return None if operational_g is None or made_g is None else operational_g + made_g


def reserved_s(life: Life) -> float:
    """Return how long a life had its machine, from the opening of the meter to its last reading, at rest or not."""
    return life.start_up_s + (sum(life.microseconds.values()) + life.idle_microseconds) / 1e6


def _embodied_g(stated: Embodied, seconds: float) -> float:
    return stated.kg * _GRAMS_PER_KG * stated.share * seconds / _SECONDS_PER_H / stated.lifetime_h


def _kwh(life: Life) -> float:
    return sum(life.microjoules.values()) / MICROJOULES_PER_KWH
