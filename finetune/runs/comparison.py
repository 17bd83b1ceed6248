"""What a comparison is made of, and its form in JSON."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune.runs.energy_ratio import EnergyRatio
from finetune.runs.record import Run, Score, as_number


@dataclass(frozen=True)
class Grid:
    """A grid on which the energy of every run is priced alike."""

    code: str
    g_per_kwh: float
    source: str


@dataclass(frozen=True)
class RunSet:
    """Runs that may be ranked together: one data set, one split, one metric, the same number of rows."""

    name: str
    metric: str
    split: str
    greater_is_better: bool
    fingerprint: str
    n: int | None


@dataclass(frozen=True)
class ScoreDifference:
    """One score less another, with its interval (None when a score has none)."""

    value: float
    low: float | None
    high: float | None

    @property
    def is_distinguished(self) -> bool:
        """Tell whether the interval excludes 0."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def score_difference(ours: Score, theirs: Score) -> ScoreDifference:
    """Return our score less theirs with Newcombe's interval from the two intervals.

    It takes the scores as independent, which is wide for two models scored on the same rows: Newcombe, Statistics
    in Medicine 17 (1998), method 10.
    """
    value = ours.value - theirs.value
    if ours.low is None or ours.high is None or theirs.low is None or theirs.high is None:
        return ScoreDifference(value, None, None)
    return ScoreDifference(
        value,
        value - math.hypot(ours.value - ours.low, theirs.high - theirs.value),
        value + math.hypot(ours.high - ours.value, theirs.value - theirs.low),
    )


@dataclass(frozen=True)
class Delta:
    """One run against the baseline run.

    `emissions_g` is of the whole runs; `marginal_g_per_point`, the grams per point (0.01) of score gained, counts the
    ranked energy only.
    """

    score: ScoreDifference | None
    energy: EnergyRatio | None
    emissions_g: float | None
    marginal_g_per_point: float | None


@dataclass(frozen=True)
class Row:
    """One run in a comparison.

    `not_ranked` says why its energy takes no part in rankings; `run_set` is None when it has no score.
    """

    run: Run
    differences: Mapping[str, Any]
    score: Score | None
    run_set: RunSet | None
    ranked_kwh: float | None
    emissions_g_on_grid: float | None
    not_ranked: tuple[str, ...]
    on_front: bool = False
    dominated_by: str | None = None
    delta: Delta | None = None


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side, best first."""

    rows: tuple[Row, ...]
    sets: tuple[RunSet, ...]
    keys: tuple[str, ...]
    baseline: Run | None
    grid: Grid | None
    notes: tuple[str, ...] = field(default=())


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return {runs, pareto, notes, …}, what `compare --json` prints."""
    grid = comparison.grid
    return {
        "runs": [row_to_json(row) for row in comparison.rows],
        "pareto": [row.run.run_id for row in comparison.rows if row.on_front],
        "notes": list(comparison.notes),
        "baseline": comparison.baseline.run_id if comparison.baseline else None,
        "grid": {"code": grid.code, "g_per_kwh": grid.g_per_kwh, "source": grid.source} if grid else None,
    }


def row_to_json(row: Row) -> dict[str, Any]:
    """Return one run of a comparison; null is what was not measured or cannot be told."""
    run, emissions = row.run, row.run.emissions
    return {
        "run_id": run.run_id,
        "name": run.name,
        "status": run.status,
        "created_at": run.created_at,
        "set": row.run_set.name if row.run_set else None,
        "differences": dict(row.differences),
        "metric": row.run_set.metric if row.run_set else None,
        "split": row.run_set.split if row.run_set else None,
        "score": row.score.to_json() if row.score else None,
        "energy_kwh": run.energy_kwh(),
        "energy_kwh_low": as_number(emissions.get("energy_kwh_low")),
        "energy_kwh_high": as_number(emissions.get("energy_kwh_high")),
        "ranked_energy_kwh": row.ranked_kwh,
        "emissions_g": run.emissions_g(),
        "emissions_g_on_grid": row.emissions_g_on_grid,
        "duration_s": run.duration_s(),
        "trainable_parameters": as_number(run.model.get("trainable_parameters")),
        "wh_per_1000_predictions": as_number(emissions.get("wh_per_1000_predictions")),
        "methods": component_methods(run),
        "not_ranked": list(row.not_ranked),
        "on_front": row.on_front,
        "dominated_by": row.dominated_by,
        "delta": _delta_to_json(row.delta) if row.delta else None,
    }


def component_methods(run: Run) -> dict[str, str]:
    """Return how each component's energy is known, leaving out hardware that the machine does not have."""
    components = run.emissions.get("components")
    if not isinstance(components, Mapping):
        return {}
    methods = {name: part.get("method") for name, part in components.items() if isinstance(part, Mapping)}
    return {name: str(method or "not measured") for name, method in methods.items() if method != "absent"}


def _delta_to_json(delta: Delta) -> dict[str, Any]:
    score, energy = delta.score, delta.energy
    return {
        "score": score.value if score else None,
        "score_low": score.low if score else None,
        "score_high": score.high if score else None,
        "energy_ratio": energy.value if energy else None,
        "energy_ratio_low": energy.low if energy else None,
        "energy_ratio_high": energy.high if energy else None,
        "energy_verdict": energy.verdict if energy else None,
        "emissions_g": delta.emissions_g,
        "marginal_g_per_point": delta.marginal_g_per_point,
    }
