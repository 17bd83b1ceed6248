"""The energy that a run took to reach a score, from its timeline."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs import formats
from finetune.runs.record import Run, as_mapping, as_number
from finetune.tasks import greater_is_better
from finetune.text import did_you_mean, join_some, join_words, plural

_TARGET = re.compile(r"\s*([A-Za-z_][\w.-]*?)\s*=\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


@dataclass(frozen=True)
class Target:
    """A validation metric and the value that is to be reached: at least that, for a loss at most that."""

    metric: str
    value: float

    def is_reached(self, score: float | None) -> bool:
        """Tell whether a score is at the target or beyond; a missing one is not."""
        if score is None:
            return False
        return score >= self.value if greater_is_better(self.metric) else score <= self.value


@dataclass(frozen=True)
class Reached:
    """Where a run reached a target: after one evaluation, by the next at the latest.

    Each pair is (cumulative at the evaluation before, cumulative at the one that reached it]; before the first
    evaluation stands 0. None is what was not measured. `is_confirmed`: the following evaluation was there too; without
    it a lucky score cannot be told from a reached one. `is_complete`: all hardware was read; else the energies are
    lower bounds, and nothing is known of how much it took at most. `shared_with`: the runs whose energy is in these
    numbers too, None when nobody could look.
    """

    score: float
    step: int | None
    epoch: float | None
    energy_kwh: tuple[float, float] | None
    emissions_g: tuple[float, float] | None
    elapsed_s: tuple[float, float] | None
    is_confirmed: bool
    is_complete: bool
    shared_with: tuple[str, ...] | None

    @property
    def energy_words(self) -> str:
        """Return the energy until then as far as it is known, and of whom it is."""
        if self.energy_kwh is None:
            return formats.NOT_MEASURED
        unit, factor = formats.energy_unit(self.energy_kwh)
        low, high = (formats.significant(value * factor) for value in self.energy_kwh)
        words = f"more than {low} and at most {high} {unit}"
        if not self.is_complete:
            words = f"more than {low} {unit}; how much at most is not known, part of the hardware gave no reading"
        if self.shared_with is None:
            return f"{words}; nobody could look whether other runs used the machine at the same time"
        if self.shared_with:
            return f"{words}, of this run and {join_some(self.shared_with)}, which used the machine at the same time"
        return words


def parse_target(text: str) -> Target:
    """Read METRIC=VALUE. Raises ValueError when it is something else."""
    found = _TARGET.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no target; write a metric of the evaluations and a number: accuracy=0.8")
    return Target(found[1], float(found[2]))


def energy_to_target(run: Run, target: Target) -> Reached | None:
    """Return where a run reached a target, None when it did not.

    That is the first evaluation at the target that the next one confirms; where none is, the last one if it is there,
    unconfirmed. Raises FinetuneError for a metric that the evaluations do not have.
    """
    scores = _scores(run, target.metric)
    there = [target.is_reached(score) for score in scores]
    last = len(there) - 1
    confirmed = next((place for place in range(last) if there[place] and there[place + 1]), None)
    place = confirmed if confirmed is not None else last if there[last] else None
    if place is None:
        return None
    entry, score = run.timeline[place], scores[place]
    assert score is not None
    before: Mapping[str, Any] = run.timeline[place - 1] if place else {}
    shared_with = run.emissions.get("shared_with")
    step = as_number(entry.get("step"))

    def pair(name: str) -> tuple[float, float] | None:
        start, end = as_number(before.get(name)) if place else 0.0, as_number(entry.get(name))
        return None if start is None or end is None else (start, end)

    return Reached(
        score=score,
        step=None if step is None else int(step),
        epoch=as_number(entry.get("epoch")),
        energy_kwh=pair("energy_kwh"),
        emissions_g=pair("emissions_g"),
        elapsed_s=pair("elapsed_s"),
        is_confirmed=confirmed is not None,
        is_complete=run.is_complete,
        shared_with=tuple(map(str, shared_with)) if isinstance(shared_with, list) else None,
    )


def timeline_metrics(run: Run) -> tuple[str, ...]:
    """Return the metrics that the evaluations of a run have."""
    named = (entry.get("metrics") for entry in run.timeline)
    return tuple(dict.fromkeys(name for metrics in named if isinstance(metrics, Mapping) for name in metrics))


def target_json(run: Run, target: Target) -> dict[str, Any]:
    """Return the target and where it was reached (null: it was not) for programs."""
    reached = energy_to_target(run, target)
    return {"metric": target.metric, "value": target.value, "reached": None if reached is None else asdict(reached)}


def target_text(run: Run, target: Target) -> str:
    """Return in words what reaching a target took."""
    reached = energy_to_target(run, target)
    name = f"{target.metric} {target.value:g}"
    if reached is None:
        scores = [score for score in _scores(run, target.metric) if score is not None]
        best = (max if greater_is_better(target.metric) else min)(scores, default=None)
        said = f"; the best was {formats.score_value(best)}" if best is not None else ""
        return f"{name} was not reached in {plural(len(run.timeline), 'evaluation')}{said}."
    where = f"step {reached.step}, {target.metric} {formats.score_value(reached.score)}"
    sure = "the next evaluation confirms it" if reached.is_confirmed else "no later evaluation confirms it"
    grams = ""
    if reached.emissions_g is not None and reached.is_complete:
        grams = f"; {formats.span(*reached.emissions_g)} g CO2e (the evaluation before, and this one)"
    return f"{name} was reached at {where}; {sure}.\nEnergy until then: {reached.energy_words}{grams}."


def _scores(run: Run, metric: str) -> Sequence[float | None]:
    if not run.timeline:
        raise FinetuneError(
            f"{run.run_id} has no timeline: it was not evaluated while it trained",
            "training.eval_strategy: epoch, or steps, evaluates on the way.",
        )
    known = timeline_metrics(run)
    if metric not in known:
        near = did_you_mean(metric, known)
        raise FinetuneError(
            f"{metric}: the evaluations of {run.run_id} do not have it" + (f"; did you mean {near}?" if near else ""),
            f"They have {join_words(known, 'and')}." if known else "They hold no score.",
        )
    values = [as_mapping(entry.get("metrics")).get(metric) for entry in run.timeline]
    return [as_number(value.get("value") if isinstance(value, Mapping) else value) for value in values]
