"""The seam between the meter and what measures."""

from typing import Protocol

from finetune.emissions.components import Component


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
