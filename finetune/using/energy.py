"""The energy of using a model: a meter like that of a run, whose journal nobody keeps."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.emissions.opening import open_meter
from finetune.recipe.emissions_keys import Emissions
from finetune.training.hardware import wait_for_device

if TYPE_CHECKING:
    from finetune.emissions.meter import EnergyMeter
    from finetune.runs.record import Run


@contextmanager
def metered(run: Run, country: str | None = None, region: str | None = None) -> Iterator[EnergyMeter]:
    """Measure what happens inside, on the grid of the run's recipe unless the command line names another.

    Other runs on this machine learn of it as of a run. Raises FinetuneError for a place that is not known.
    """
    stated = run.recipe.get("emissions") or {}
    known = {name: value for name, value in stated.items() if name in Emissions.model_fields}
    settings = Emissions.model_validate(known)
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        meter = open_meter(
            settings, Path(folder), country, region, f"{run.name}-{os.getpid()}", synchronize=wait_for_device
        )
        try:
            yield meter
        finally:
            meter.close("used")
