"""What the parts of a machine are called, how their energy is known, and how far off it may be."""

from dataclasses import dataclass

COMPONENTS = ("cpu", "gpu", "ram")
MICROJOULES_PER_KWH = 3_600_000_000_000

BANDS: dict[str, tuple[float, float]] = {
    "GPU counter": (0.90, 1.10),
    "power samples": (0.70, 1.30),
    "CPU counter": (0.95, 1.05),
    "CPU load, TDP known": (0.5, 2.0),
    "CPU load, TDP unknown": (0.3, 3.0),
    "memory constant": (0.3, 2.0),
    "exact": (1.0, 1.0),
}
"""Low and high factors on a component's energy: bounds by our own engineering judgement, not confidence intervals."""


@dataclass(frozen=True)
class Component:
    """How the energy of one component on one node is known.

    `method` is measured, modelled, assumed, absent (no such hardware), or None: there, but without a reading.
    `low` and `high` are the factors of its band.
    """

    name: str
    method: str | None
    detail: str
    low: float = 1.0
    high: float = 1.0


def known(name: str, method: str, detail: str, band: str) -> Component:
    """Return a component with one of the BANDS."""
    low, high = BANDS[band]
    return Component(name, method, detail, low, high)


def absent(name: str, detail: str) -> Component:
    """Return a component that the machine, or this run's part of it, does not have."""
    return Component(name, "absent", detail)


def unread(name: str, reason: str) -> Component:
    """Return a component that is there and gives no reading: its energy is null and the total a lower bound."""
    return Component(name, None, reason)
