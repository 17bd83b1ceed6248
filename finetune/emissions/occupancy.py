"""When each life of a run metered which hardware, so that the runs of a machine add up without counting twice."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from finetune.emissions.components import MICROJOULES_PER_KWH

if TYPE_CHECKING:
    from finetune.emissions.ledger import Life


def lives_section(lives: Sequence[Life]) -> list[dict[str, Any]]:
    """Return an entry a life and machine: its boot, its first reading, its time, and its energy by hardware key.

    `g_per_kwh` is PUE × carbon intensity. The energy of a component is spread evenly over its keys (one a card).
    """
    return [
        {
            "segment": life.segment,
            "node": life.node,
            "boot_id": life.boot_id,
            "metered_from": _metered_from(life),
            "duration_s": sum(life.microseconds.values()) / 1e6,
            "g_per_kwh": life.pue * life.carbon_intensity.g_per_kwh,
            "hardware_kwh": _by_hardware(life),
        }
        for life in lives
    ]


def _metered_from(life: Life) -> str | None:
    """Return when the life's first reading was taken: after the meter's start and the idle baseline."""
    try:
        opened = datetime.fromisoformat(life.started_at)
    except ValueError:
        return None
    first = opened + timedelta(seconds=life.start_up_s + life.idle_microseconds / 1e6)
    return first.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _by_hardware(life: Life) -> dict[str, float]:
    found = {}
    for part in life.components:
        spent = sum(energy for (name, _), energy in life.microjoules.items() if name == part.name)
        if spent:
            found.update({key: spent / len(part.covers()) / MICROJOULES_PER_KWH for key in part.covers()})
    return found
