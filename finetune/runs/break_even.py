"""After how many predictions the energy of fine-tuning is earned back against a model that is only asked in words.

N* = (S_tuned − S_asked) / (e_asked − e_tuned): S is what making the model ready took, e what a prediction takes. The
range is the smallest and the largest N* over the corners of the box of the components' factors (energy_ratio.py); the
cost of a prediction is taken to vary by 5 % between repetitions besides. Both are measured on one machine: what a
prediction takes on another says nothing of what it would save here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from finetune.emissions.components import JOULES_PER_KWH
from finetune.runs import formats
from finetune.runs.energy_ratio import (
    ASSUMED_SPREAD,
    Part,
    answer_part,
    phase_parts,
    ranked_parts,
    shares_factor,
)
from finetune.runs.record import Run, Score, as_mapping, as_number

ASKED_NAMES = {"zero_shot": "zero-shot", "few_shot": "few-shot"}

_MOST = 10

Parts = Mapping[str, Part]


@dataclass(frozen=True)
class Costs:
    """What a model took to make ready, and what one prediction of it takes, in kWh by component.

    `unknown` says why these are not to be counted with.
    """

    name: str
    ready: Parts
    prediction: Parts
    score: Score | None = None
    unknown: str | None = None


@dataclass(frozen=True)
class BreakEven:
    """Against what a tuned model earns its energy back: after so many predictions, never, or not known and why."""

    tuned: str
    against: str
    verdict: str  # after | never | undecided | not measured
    predictions: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    score_tuned: float | None = None
    score_asked: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as `compare --json` prints it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @property
    def words(self) -> str:
        """Return it in words, with both scores, which stand beside it."""
        ours, theirs = (
            "not known" if score is None else formats.score_value(score)
            for score in (self.score_tuned, self.score_asked)
        )
        return f"the energy of training is {self._verdict_words()}; score tuned {ours}, asked {theirs}"

    def _verdict_words(self) -> str:
        if self.verdict == "after" and self.predictions is not None:
            span = ""
            if self.low is not None and self.high is not None:
                span = f" (between {_count(self.low)} and {_count(self.high)})"
            return f"earned back after {_count(self.predictions)} predictions{span}"
        if self.verdict == "never":
            return "never earned back: a prediction of the tuned model does not take less"
        return f"{'not known to be earned back' if self.verdict == 'undecided' else 'not measured'}: {self.reason}"


def _count(value: float) -> str:
    if value < 1e3:
        return f"{math.ceil(value):,}"
    digits = 10 ** (math.floor(math.log10(value)) - 1)
    return f"{round(value / digits) * digits:,.0f}"


def break_even(tuned: Costs, asked: Costs) -> BreakEven:
    """Tell when a tuned model has earned its energy back against one that is only asked."""
    scores = (costs.score.value if costs.score else None for costs in (tuned, asked))
    found = BreakEven(tuned.name, asked.name, "not measured", None, None, None, None, *scores)
    if unknown := tuned.unknown or asked.unknown:
        return replace(found, reason=unknown)
    sides = (asked.prediction, tuned.prediction, tuned.ready, asked.ready)
    if not (asked.prediction and tuned.prediction and tuned.ready):
        return replace(found, reason="the energy of training or of a prediction is not known")
    if not all(math.isfinite(part.factor_high) for side in sides for part in side.values()):
        return replace(found, reason="the band of a component is not known")
    extra, less = [], []
    for factors in _corners(sides):
        asking, answering, making, loading = (
            sum(part.kwh * factors[number][name] for name, part in side.items()) for number, side in enumerate(sides)
        )
        for spread in (1 / ASSUMED_SPREAD, ASSUMED_SPREAD):
            extra.append(making - loading)
            less.append(asking * spread - answering)
    if max(less) <= 0:
        return replace(found, verdict="never")
    if min(less) <= 0:
        reason = "which of the two takes less for a prediction is inside what the measurements can tell"
        return replace(found, verdict="undecided", reason=reason)
    asking, answering, making, loading = (sum(part.kwh for part in side.values()) for side in sides)
    middle = max(0.0, (making - loading) / (asking - answering))
    each = [max(0.0, above / below) for above, below in zip(extra, less, strict=True)]
    return replace(found, verdict="after", predictions=middle, low=min(each), high=max(each))


def _corners(sides: Sequence[Parts]) -> Iterator[list[dict[str, float]]]:
    """Yield the factor of each part, side by side: those that err alike have one, at its lowest or its highest."""
    groups: list[list[tuple[int, str, Part]]] = []
    for number, side in enumerate(sides):
        for name, part in side.items():
            own = [group for group in groups if group[0][1] == name and shares_factor(group[0][2], part)]
            if own:
                own[0].append((number, name, part))
            else:
                groups.append([(number, name, part)])
    for ends in product((False, True), repeat=len(groups)):
        factors: list[dict[str, float]] = [{} for _ in sides]
        for is_high, group in zip(ends, groups, strict=True):
            for number, name, part in group:
                factors[number][name] = part.factor_high if is_high else part.factor_low
        yield factors


def is_asked(run: Run) -> bool:
    """Tell whether a run only asked a checkpoint in words and trained nothing."""
    return run.prompted.get("scored") in ASKED_NAMES


def run_costs(run: Run, with_loading: bool) -> Costs:
    """Return the costs of a run's model: what was trained counts train, evaluate and save, less repeated work.

    `with_loading` adds the phase load, where the other model was loaded in a run of its own.
    """
    ready = {} if is_asked(run) else ranked_parts(run)
    if with_loading:
        ready = _added(ready, phase_parts(run, "load"))
    return Costs(run.name, ready, _prediction(run, run.emissions), run.main_score(), _unknown(run))


def own_costs(run: Run, baseline: str) -> Costs | None:
    """Return the costs of a run's own checkpoint, asked in words before the training; None where it was not asked."""
    facts, scores = run.prompted.get(baseline), run.baselines.get(baseline)
    if not isinstance(facts, Mapping) or not isinstance(scores, Mapping):
        return None
    score = Score.from_json(scores.get(str(run.main_metric.get("name"))))
    return Costs(f"its own {ASKED_NAMES[baseline]}", {}, _prediction(run, facts), score, _unknown(run))


def break_evens(runs: Sequence[Run]) -> list[BreakEven]:
    """Hold each trained run against what its own checkpoint answered, and against each run that only asked."""
    trained = [run for run in runs if not is_asked(run) and run.is_finished]
    asking = [run for run in runs if is_asked(run) and run.is_finished]
    found = [
        break_even(run_costs(run, with_loading=False), own)
        for run in trained
        for baseline in ASKED_NAMES
        if (own := own_costs(run, baseline)) is not None
    ]
    return found + [_of_two_runs(run, other) for run in trained for other in asking if _may_be_compared(run, other)]


def _of_two_runs(run: Run, other: Run) -> BreakEven:
    found = break_even(run_costs(run, with_loading=True), run_costs(other, with_loading=True))
    if found.verdict == "not measured" or _on_one_machine(run, other):
        return found
    reason = "the two ran on different machines, or on one that was started again in between"
    return replace(found, verdict="undecided", predictions=None, low=None, high=None, reason=reason)


def _on_one_machine(run: Run, other: Run) -> bool:
    """Tell whether two runs were measured on the same machines: by their boots, by hostname where a system has none."""
    nodes = [each.emissions.get("nodes") or [{}] for each in (run, other)]
    for key in ("boot_id", "hostname"):
        names = [[node.get(key) for node in of_run] for of_run in nodes]
        if None not in (*names[0], *names[1]):
            return sorted(names[0]) == sorted(names[1])
    return False


def break_even_lines(runs: Sequence[Run]) -> list[str]:
    """Return a sentence for each pair, at most ten; what was not measured at all is left to the JSON."""
    told = [found for found in break_evens(runs) if found.verdict != "not measured"]
    lines = [f"{found.tuned} against {found.against}: {found.words}" for found in told[:_MOST]]
    return lines + ([f"and {len(told) - _MOST} more of these in --json"] if len(told) > _MOST else [])


def _may_be_compared(run: Run, other: Run) -> bool:
    split = run.main_metric.get("split")
    known = [as_mapping(each.dataset.get("fingerprints")).get(str(split)) for each in (run, other)]
    same = all(run.main_metric.get(key) == other.main_metric.get(key) for key in ("name", "split"))
    return same and known[0] is not None and known[0] == known[1]


def _unknown(run: Run) -> str | None:
    if not run.is_complete:
        return f"{run.name}: part of the energy is not known"
    shared_with = run.emissions.get("shared_with")
    if shared_with:
        return f"{run.name}: another run used the machine at the same time"
    if shared_with is None and run.energy_kwh() is not None:
        return f"{run.name}: nobody could look whether another run used the machine at the same time"
    return None


def _prediction(run: Run, measured: Mapping[str, Any]) -> dict[str, Part]:
    """Return what one prediction took, by component; empty where it was not measured."""
    passes = as_mapping(measured.get("inference"))
    parts = as_mapping(passes.get("components_wh_per_1000"))
    answered, duration_s = as_number(passes.get("rows")), as_number(passes.get("duration_s"))
    if not answered or not duration_s:
        return {}
    found = {name: kwh / 1e6 for name, value in parts.items() if (kwh := as_number(value))}
    watts = {name: kwh * answered * JOULES_PER_KWH / duration_s for name, kwh in found.items()}
    return {name: answer_part(run, name, kwh, watts[name]) for name, kwh in found.items()}


def _added(ours: Parts, more: Parts) -> dict[str, Part]:
    return {
        name: replace(part, kwh=part.kwh + (more[name].kwh if name in more else 0.0)) for name, part in ours.items()
    } | {name: part for name, part in more.items() if name not in ours}


def prompted_lines(run: Run) -> dict[str, str]:
    """Return what a run's record says of asking in words, by name: prompt, cost of an answer, when training pays."""
    found: dict[str, str] = {}
    for baseline, name in ASKED_NAMES.items():
        facts = run.prompted.get(baseline)
        if not isinstance(facts, Mapping):
            continue
        if facts.get("reason"):
            found[name] = f"none: {facts['reason']}"
            continue
        wh, shots = as_number(facts.get("wh_per_1000_predictions")), as_number(facts.get("shots"))
        cost = f"{formats.significant(wh)} Wh for 1,000 predictions" if wh is not None else "cost not measured"
        shown = f", {shots:.0f} examples of the training rows" if shots else ""
        found[name] = f"{cost}, asked {str(facts.get('template'))!r}{shown}"
        own = own_costs(run, baseline)
        if own is not None and run.is_finished and not is_asked(run):
            found[f"against {name}"] = break_even(run_costs(run, with_loading=False), own).words
    return found
