"""What a comparison is made of, and its form in JSON."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.runs.bias import flag_counts
from finetune.runs.break_even import break_evens
from finetune.runs.energy_ratio import EnergyRatio, Part
from finetune.runs.predictions import RowScores
from finetune.runs.record import Run, Score, as_number, as_sections
from finetune.runs.statistics import Mean, mean_of_all
from finetune.runs.target import Reached, Target


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
    """One score less another, with its interval (None when a score has none).

    `p` is that of a difference so large by chance, `p_holm` counts in how many differences are shown, or were tried,
    together. `paired`: taken row by row on the same rows. `seeds`: how many seeds stand behind each side; with one on
    both their noise is unknown. `inside_seed_noise`: the seeds alone could make it.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None = None
    paired: bool = False
    seeds: int = 1
    inside_seed_noise: bool = False
    p_holm: float | None = None

    @property
    def is_distinguished(self) -> bool:
        """Tell whether the interval excludes 0, and still would for as many differences as are shown together."""
        excludes_0 = self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)
        return excludes_0 and (self.p_holm is None or self.p_holm < 0.05)


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

    `not_ranked` says why its energy takes no part in rankings; `run_set` is None when it has no score. `parts` is the
    energy that rankings count, by component. `next_cheaper` is the run before it on the front and `step` what it has
    more than that one. `row_scores` are there when the predictions were read.
    """

    run: Run
    differences: Mapping[str, Any]
    score: Score | None
    run_set: RunSet | None
    parts: Mapping[str, Part]
    emissions_g_on_grid: float | None
    not_ranked: tuple[str, ...]
    on_front: bool = False
    dominated_by: str | None = None
    delta: Delta | None = None
    next_cheaper: str | None = None
    step: Delta | None = None
    reached: Reached | None = None
    row_scores: RowScores | None = field(default=None, compare=False, repr=False)

    @property
    def key(self) -> str:
        """Return what tells it from the other runs."""
        return self.run.run_id

    @property
    def members(self) -> "Members":
        """Return it as a group of one."""
        return {"": (self,)}

    @property
    def rows(self) -> tuple["Row", ...]:
        """Return the runs behind it: itself."""
        return (self,)

    def mean(self, value: Callable[["Row"], float | None]) -> float | None:
        """Return something of the run."""
        return value(self)

    @property
    def ranked_kwh(self) -> float | None:
        """Return the energy that rankings count, None when it is not known."""
        return sum(part.kwh for part in self.parts.values()) if self.parts else None


Members = Mapping[str, Sequence[Row]]
"""Runs by what pairs them with others, their seed or all their other settings."""


def mean_of_members(members: Members, value: Callable[[Row], float | None]) -> float | None:
    """Return the mean of something over runs, of which those of one unit count once; None unless every run has it."""
    return mean_of_all([mean_of_all([value(row) for row in rows]) for rows in members.values()])


@dataclass(frozen=True)
class Group:
    """Runs that differ in nothing but the seed, or that have one value of a recipe key in common.

    `members`: the runs by what pairs them with those of another group, their seed or all their other settings; a run
    that was made twice counts once, with its mean. `differences`: settings in which the groups differ; of those that
    vary inside a group the value is VARIES.
    """

    name: str
    run_set: RunSet | None
    members: Mapping[str, tuple[Row, ...]]
    differences: Mapping[str, Any]
    score: Mean | None
    not_ranked: tuple[str, ...]
    on_front: bool = False
    dominated_by: str | None = None
    next_cheaper: str | None = None
    step: Delta | None = None

    @property
    def key(self) -> str:
        """Return what tells it from the other groups, and from every run: an id of a run has no space."""
        return f"group {self.name}"

    @property
    def ranked_kwh(self) -> float | None:
        """Return the energy of a run on average that rankings count, None when it is not known of each."""
        return self.mean(lambda row: row.ranked_kwh)

    @property
    def rows(self) -> tuple[Row, ...]:
        """Return the runs of the group."""
        return tuple(row for rows in self.members.values() for row in rows)

    def mean(self, value: Callable[[Row], float | None]) -> float | None:
        """Return the mean of something over the runs, a seed that was run twice once; None unless every run has it."""
        return mean_of_members(self.members, value)


VARIES = "varies"

Line = Row | Group
"""What a line of the table and a point of the plot stand for."""


@dataclass(frozen=True)
class Pair:
    """One group held against another."""

    name: str
    against: str
    delta: Delta


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side, best first; with `groups` these are what is compared, and `grouped_by` says how."""

    rows: tuple[Row, ...]
    sets: tuple[RunSet, ...]
    keys: tuple[str, ...]
    baseline: Run | None
    grid: Grid | None
    notes: tuple[str, ...] = field(default=())
    grouped_by: str | None = None
    groups: tuple[Group, ...] = ()
    pairs: tuple[Pair, ...] = ()
    target: Target | None = None

    @property
    def lines(self) -> Sequence[Line]:
        """Return what is compared: the groups where runs are put together, else the runs."""
        return self.groups or self.rows

    @property
    def unit(self) -> str:
        """Return what a line is called."""
        return "group" if self.groups else "run"


def comparison_to_json(comparison: Comparison) -> dict[str, Any]:
    """Return {runs, pareto, notes, …}, what `compare --json` prints."""
    grid = comparison.grid
    return {
        "runs": [row_to_json(row) for row in comparison.rows],
        "pareto": [row.run.run_id for row in comparison.rows if row.on_front],
        "notes": list(comparison.notes),
        "baseline": comparison.baseline.run_id if comparison.baseline else None,
        "grid": {"code": grid.code, "g_per_kwh": grid.g_per_kwh, "source": grid.source} if grid else None,
        "grouped_by": comparison.grouped_by,
        "groups": [group_to_json(group) for group in comparison.groups],
        "pairs": [
            {"group": pair.name, "against": pair.against, **_delta_to_json(pair.delta)} for pair in comparison.pairs
        ],
        "target": {"metric": comparison.target.metric, "value": comparison.target.value} if comparison.target else None,
        "break_even": [found.to_json() for found in break_evens([row.run for row in comparison.rows])],
    }


def group_to_json(group: Group) -> dict[str, Any]:
    """Return one group of a comparison; energies and times are means of one run."""
    score = group.score
    return {
        "name": group.name,
        "runs": [row.run.run_id for row in group.rows],
        "set": group.run_set.name if group.run_set else None,
        "differences": dict(group.differences),
        "metric": group.run_set.metric if group.run_set else None,
        "split": group.run_set.split if group.run_set else None,
        "score": {"value": score.value, "low": score.low, "high": score.high, "n": score.n} if score else None,
        "energy_kwh": group.mean(lambda row: row.run.energy_kwh()),
        "energy_kwh_low": group.mean(lambda row: as_number(row.run.emissions.get("energy_kwh_low"))),
        "energy_kwh_high": group.mean(lambda row: as_number(row.run.emissions.get("energy_kwh_high"))),
        "ranked_energy_kwh": group.ranked_kwh,
        "emissions_g": group.mean(lambda row: row.run.emissions_g()),
        "emissions_g_on_grid": group.mean(lambda row: row.emissions_g_on_grid),
        "duration_s": group.mean(lambda row: row.run.duration_s()),
        "not_ranked": list(group.not_ranked),
        "on_front": group.on_front,
        "dominated_by": group.dominated_by,
        **_step_to_json(group.next_cheaper, group.step),
    }


def _step_to_json(next_cheaper: str | None, step: Delta | None) -> dict[str, Any]:
    return {
        "next_cheaper_on_front": next_cheaper,
        "marginal_g_per_point_on_front": step.marginal_g_per_point if step else None,
    }


def row_to_json(row: Row) -> dict[str, Any]:
    """Return one run of a comparison; null is what was not measured or cannot be told."""
    run, emissions, flagged = row.run, row.run.emissions, flag_counts(row.run)
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
        "trainable_parameters": run.trained_parameters(),
        "wh_per_1000_predictions": run.wh_per_1000_predictions(),
        "methods": component_methods(run),
        "not_ranked": list(row.not_ranked),
        "on_front": row.on_front,
        "dominated_by": row.dominated_by,
        "delta": _delta_to_json(row.delta) if row.delta else None,
        **_step_to_json(row.next_cheaper, row.step),
        "group": run.group,
        "target": _reached_to_json(row.reached) if row.reached else None,
        "bias_flagged": flagged[0] if flagged else None,
        "bias_tests": flagged[1] if flagged else None,
    }


def _reached_to_json(reached: Reached) -> dict[str, Any]:
    above, at_most = reached.energy_kwh or (None, None)
    return {
        "score": reached.score,
        "step": reached.step,
        "is_confirmed": reached.is_confirmed,
        "energy_kwh_above": above,
        "energy_kwh_at_most": at_most if reached.is_complete else None,
        "shared_with": list(reached.shared_with) if reached.shared_with is not None else None,
    }


def component_methods(run: Run) -> dict[str, str]:
    """Return how each component's energy is known, leaving out hardware that the machine does not have."""
    methods = {name: part.get("method") for name, part in as_sections(run.emissions.get("components")).items()}
    return {name: str(method or "not measured") for name, method in methods.items() if method != "absent"}


def _delta_to_json(delta: Delta) -> dict[str, Any]:
    score, energy = delta.score, delta.energy
    return {
        "score": score.value if score else None,
        "score_low": score.low if score else None,
        "score_high": score.high if score else None,
        "score_p_holm": score.p_holm if score else None,
        "score_is_distinguished": score.is_distinguished if score else None,
        "seeds": score.seeds if score else None,
        "energy_ratio": energy.value if energy else None,
        "energy_ratio_low": energy.low if energy else None,
        "energy_ratio_high": energy.high if energy else None,
        "energy_verdict": energy.verdict if energy else None,
        "emissions_g": delta.emissions_g,
        "marginal_g_per_point": delta.marginal_g_per_point,
    }
