"""What a run is started with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.recipe.schema import Recipe
from finetune.runs.record import Run

SMOKE_TAG = "smoke"


@dataclass(frozen=True)
class Trial:
    """What a run does otherwise as a member of a sweep: its test split stays unseen, so that nothing is chosen by it.

    `ask`, where the sweep prunes, is called in the first process after each evaluation but the last, with its point of
    the timeline, the first of them being number 1; it returns why the trial should end now, or None.
    """

    ask: Callable[[int, Mapping[str, Any]], str | None] | None = None


@dataclass(frozen=True)
class RunOptions:
    """A recipe and what the command line adds to it."""

    recipe: Recipe
    name: str
    smoke: bool = False
    country: str | None = None
    region: str | None = None
    idle_baseline_s: float | None = None
    group: str | None = None
    trial: Trial | None = None


@dataclass(frozen=True)
class Resumption:
    """An unfinished run that goes on in its own folder; without a checkpoint it starts over there."""

    run: Run
    directory: Path
    checkpoint: Path | None
    state: dict[str, Any]

    @property
    def energy_uj(self) -> dict[int, int]:
        """Return the energy, in microjoules, that each machine had used when the checkpoint was written."""
        written = self.state.get("energy_uj", {})
        if isinstance(written, int):  # the first checkpoints knew one machine
            return {0: written}
        return {int(node): int(energy) for node, energy in written.items()}
