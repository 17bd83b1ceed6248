"""The energy of using a model: a meter like that of a run, whose journal nobody keeps."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.emissions.forecast import INFERENCE_SECONDS
from finetune.emissions.opening import open_meter
from finetune.recipe.emissions_keys import Emissions
from finetune.runs import formats
from finetune.runs.record import as_number
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


def spent_words(emissions: Mapping[str, Any], rows: int, run: Run) -> str:
    """Return what answering rows took, in words.

    `emissions` is the meter's summary, whose phase evaluate is the answering. Below INFERENCE_SECONDS of it no figure
    per row is given, but that of the run's own evaluation.
    """
    kwh, grams = as_number(emissions.get("energy_kwh")), as_number(emissions.get("emissions_g"))
    if kwh is None:
        parts = emissions.get("components", {}).values()
        reasons = dict.fromkeys(str(part["detail"]) for part in parts if part["method"] is None)
        return f"energy {formats.NOT_MEASURED}{': ' if reasons else ''}{'; '.join(reasons)}"
    words = f"energy {formats.energy(kwh)}, {formats.grams(grams)} CO2e, loading included"
    answering = emissions.get("phases", {}).get("evaluate", {})
    spent, seconds = as_number(answering.get("energy_kwh")), as_number(answering.get("duration_s")) or 0.0
    if spent is not None and rows and seconds >= INFERENCE_SECONDS:
        return f"{words}; {formats.significant(spent * 1e6 / rows)} Wh per 1,000 rows"
    known = run.wh_per_1000_predictions()
    own = f"; the run's own evaluation took {formats.significant(known)}" if known is not None else ""
    return f"{words}; Wh per 1,000 rows: not measured, which takes {INFERENCE_SECONDS:g} s of answering{own}"
