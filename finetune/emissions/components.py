"""What the parts of a machine are called, how their energy is known, and how far off it may be."""

import re
from dataclasses import dataclass

COMPONENTS = ("cpu", "gpu", "ram")
JOULES_PER_KWH = 3.6e6
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
    `low` and `high` are the factors of its band. `hardware` names what the reading covers, where that is not the whole
    component of the machine: gpu:<uuid>, cpu:<processors or control group>. `lacks` says what of it gives no reading.
    """

    name: str
    method: str | None
    detail: str
    low: float = 1.0
    high: float = 1.0
    hardware: tuple[str, ...] = ()
    lacks: str = ""

    def covers(self) -> tuple[str, ...]:
        """Return what tells the hardware of this reading from that of others on the machine."""
        return self.hardware or (self.name,)


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


def overlap(one: str, other: str) -> bool:
    """Tell whether two keys name the same hardware, at least in part.

    A key is a component (all of it) or component:part, a part being a card, a control group or processors (0-3,8).
    """
    (kind, _, part), (other_kind, _, other_part) = one.partition(":"), other.partition(":")
    if kind != other_kind or not part or not other_part or part == other_part:
        return kind == other_kind
    return bool(_numbers(part) & _numbers(other_part))


def _numbers(part: str) -> set[int]:
    if not re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?(,[0-9]{1,6}(-[0-9]{1,6})?)*", part):
        return set()
    ends = [piece.split("-") for piece in part.split(",")]
    return {number for piece in ends for number in range(int(piece[0]), int(piece[-1]) + 1)}
