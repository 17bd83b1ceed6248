"""The seam between the meter and what measures: the protocol, and a source of constant watts."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from finetune.emissions.components import COMPONENTS, Component, absent, known


class PowerSource(Protocol):
    """Where the meter's readings come from. None of these methods may raise or print."""

    def start(self) -> tuple[Component, ...]:
        """Begin to measure, take a warm-up measurement, and say how each component's energy is known."""

    def read(self) -> dict[str, int | None]:
        """Measure now; return cumulative microjoules per component that is there, None for a failed reading."""

    def stop(self) -> None:
        """End the measurement."""

    def problem(self, component: str) -> str:
        """Say why a component's reading failed."""

    def tool(self) -> dict[str, str]:
        """Return name and version of what measures."""

    def notes(self) -> tuple[str, ...]:
        """Return what the reader of the record should know."""


class SyntheticSource:
    """Constant watts per component, for tests and demonstrations; exact to the microjoule."""

    def __init__(self, watts: Mapping[str, float], clock: Callable[[], float] = time.monotonic) -> None:
        self._watts = dict(watts)
        self._clock = clock
        self._started = 0.0

    def start(self) -> tuple[Component, ...]:
        """Begin at zero."""
        self._started = self._clock()
        return tuple(
            known(name, "assumed", f"synthetic, {self._watts[name]:g} W", "exact")
            if name in self._watts
            else absent(name, "not simulated")
            for name in COMPONENTS
        )

    def read(self) -> dict[str, int | None]:
        """Return watts × seconds since start."""
        elapsed = self._clock() - self._started
        return {name: round(watts * elapsed * 1e6) for name, watts in self._watts.items()}

    def stop(self) -> None:
        """Do nothing."""

    def problem(self, component: str) -> str:
        """Return a sentence that is never needed."""
        return f"{component} failed"

    def tool(self) -> dict[str, str]:
        """Return the name of the simulation."""
        return {"name": "synthetic", "version": "1"}

    def notes(self) -> tuple[str, ...]:
        """Say that no number is real."""
        return ("the energy is simulated",)
