"""Conditions on a run, for pipelines: accuracy>=0.9, emissions_g<=50."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.differences import flatten
from finetune.runs.formats import NOT_MEASURED
from finetune.runs.record import Run, as_number
from finetune.runs.scoring import SPLITS, metric_names
from finetune.runs.tables import one_line
from finetune.text import did_you_mean

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, ">": operator.gt, "<": operator.lt,
}  # fmt: skip
EMISSIONS_NAMES = (
    "energy_kwh", "emissions_g", "duration_s", "energy_kwh_low", "energy_kwh_high", "emissions_g_low",
    "emissions_g_high", "repeated_work_kwh", "repeated_ranked_kwh", "tracking_overhead_s", "tracking_overhead_percent",
    "wh_per_1000_predictions", "water_l", "embodied_g", "sci_g_per_run",
)  # fmt: skip
# A run with unread hardware knows these only from below.
_LOWER_BOUNDS = ("energy_kwh", "emissions_g", "wh_per_1000_predictions", "water_l", "sci_g_per_run")
_CONDITION = re.compile(r"\s*([A-Za-z_][\w.-]*?)\s*(>=|<=|==|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Condition:
    """A name from the run record, an operator, and the number to hold it against."""

    name: str
    operator: str
    limit: float
    text: str


@dataclass(frozen=True)
class Outcome:
    """A condition, what was found (None: not measured), whether it holds, and why not when that is not plain."""

    condition: str
    value: float | None
    holds: bool
    reason: str | None = None


def parse_condition(text: str) -> Condition:
    """Read one condition. Raises ValueError when it is none."""
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise ValueError(
            f"{text!r} is no condition; write a name, one of {' '.join(OPERATORS)} and a number: 'accuracy>=0.9'"
        )
    return Condition(found[1], found[2], float(found[3]), f"{found[1]} {found[2]} {found[3]}")


def check_run(run: Run, conditions: list[Condition]) -> tuple[Outcome, ...]:
    """Hold a run against conditions; a run that did not finish fails whatever they are.

    Raises FinetuneError for a name that the record does not have.
    """
    unfinished = () if run.is_finished else (Outcome("finished", None, False, _status_words(run)),)
    return (*unfinished, *(_outcome(run, condition) for condition in conditions))


def outcome_line(outcome: Outcome) -> str:
    """Return one line for people: ok or FAILED, the condition, what was found."""
    found = NOT_MEASURED if outcome.value is None else f"{outcome.value:.6g}"
    words = outcome.reason if outcome.value is None and outcome.reason else found
    if outcome.value is not None and outcome.reason:
        words = f"{found}: {outcome.reason}"
    return one_line(f"{'ok' if outcome.holds else 'FAILED':<7} {outcome.condition:<28} {words}")


def value_of(run: Run, name: str) -> float | None:
    """Return what a name stands for in a run, None when it was not measured.

    A metric is looked up in the test split, else in validation; split.metric, phases.<phase>.<field> and every other
    number of `emissions` and `training` have their names too; score is the main metric. Raises FinetuneError
    for a name that the record does not have.
    """
    if name == "score":
        score = run.main_score()
        return score.value if score else None
    split, _, metric = name.rpartition(".")
    for candidate in (split,) if split else SPLITS:
        score = run.score(metric, candidate)
        if score is not None:
            return score.value
    numbers = _numbers(run)
    if name in numbers:
        return numbers[name]
    # A metric may stand in the record without a value, as an undefined correlation does.
    if name in EMISSIONS_NAMES or metric in (*_known_metrics(run), *metric_names([run])):
        return None
    names = ("score", *metric_names([run]), *numbers, *EMISSIONS_NAMES)
    near = did_you_mean(name, names)
    shown = ", ".join(dict.fromkeys((*metric_names([run]), *EMISSIONS_NAMES[:3])))
    raise FinetuneError(
        f"{name}: {run.run_id} has no such value" + (f"; did you mean {near}?" if near else ""),
        f"For example: {shown}, validation.<metric>, phases.train.energy_kwh.",
    )


def _outcome(run: Run, condition: Condition) -> Outcome:
    value = value_of(run, condition.name)
    if value is None:
        return Outcome(condition.text, None, False, NOT_MEASURED)
    holds = OPERATORS[condition.operator](value, condition.limit)
    is_bound = condition.name.rpartition(".")[2] in _LOWER_BOUNDS and not run.is_complete
    if holds and is_bound and condition.operator in ("<=", "<", "=="):
        return Outcome(condition.text, value, False, "only a lower bound, part of the hardware gave no reading")
    return Outcome(condition.text, value, holds)


def _status_words(run: Run) -> str:
    return f"the run is {run.status}" + (f" ({run.status_reason})" if run.status_reason else "")


def _numbers(run: Run) -> dict[str, float | None]:
    """Return every number of the emissions and training sections by its dotted name, null ones as None."""
    flat: dict[str, Any] = {**flatten(run.training), **flatten(run.emissions)}
    return {
        name: as_number(value)
        for name, value in flat.items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    }


def _known_metrics(run: Run) -> tuple[str, ...]:
    """Return the metrics that a run of this task would have had, had it come so far."""
    from finetune.tasks import all_tasks

    task = all_tasks().get(str(run.recipe.get("task")))
    stated = run.main_metric.get("name")
    return (*(task.all_metrics() if task else ()), *([stated] if isinstance(stated, str) else []))
