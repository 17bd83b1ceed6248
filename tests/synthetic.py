"""A source of energy that measures nothing."""

import time
from collections.abc import Callable, Mapping

from finetune.emissions.components import COMPONENTS, Component, absent, known


class SyntheticSource:
    """Constant watts per component, exact to the microjoule."""

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
