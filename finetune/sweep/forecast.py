"""What a trial is held to need before it begins, by finetune estimate: from past runs, else from a probe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from finetune.emissions.budget import ENDING_MARGIN
from finetune.estimate.estimate import Request as EstimateRequest
from finetune.estimate.estimate import estimate
from finetune.runs.record import Run, as_mapping, as_number
from finetune.sweep.account import Amount, Entry
from finetune.sweep.definition import Sweep
from finetune.sweep.reserving import Forecast
from finetune.sweep.space import overrides
from finetune.training.words import Request

_ASSUMED = "assumed"


def forecaster(request: Request, ask: Callable[[EstimateRequest], Mapping[str, Any]] = estimate) -> Forecast:
    """Return what gives the high end of a trial's forecast, with the margin that its own budget needs, and its cost.

    It raises FinetuneError when the probe fails.
    """

    def forecast(sweep: Sweep, entry: Entry) -> tuple[Amount | None, Amount]:
        folder, settings = Path(sweep.loaded.recipe.output_dir), tuple(overrides(sweep.space, entry.params))
        reports = []
        for probe in (False, True):
            wanted = EstimateRequest(sweep.recipe, settings, probe, request.country, request.region, folder)
            reports.append(ask(wanted))
            if reports[-1]["basis"] != _ASSUMED:
                break
        high, cost = _high(reports[-1]), sum(map(_cost, reports), Amount())
        return None if high is None else high.times(ENDING_MARGIN * len(sweep.seeds)), cost

    return forecast


def saved_by_pruning_kwh(run: Run) -> float | None:
    """Return what a pruned run would still have used by its last forecast, None where it has made none."""
    forecasts, spent = run.emissions.get("forecasts"), run.energy_kwh()
    last = forecasts[-1] if isinstance(forecasts, list) and forecasts else None
    whole = as_number(as_mapping(last).get("energy_kwh"))
    return None if whole is None or spent is None else max(0.0, whole - spent)


def _high(report: Mapping[str, Any]) -> Amount | None:
    kwh, grams = report["forecast"]["energy_kwh_high"], report["forecast"]["emissions_g_high"]
    return None if kwh is None or grams is None else Amount(kwh * report["pue"], grams)


def _cost(report: Mapping[str, Any]) -> Amount:
    kwh = (report["probe"]["energy_kwh"] or 0.0) * report["pue"]
    return Amount(kwh, kwh * report["carbon_intensity"]["g_per_kwh"])
