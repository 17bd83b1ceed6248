"""One score less another, and whether the difference is more than the noise of rows and of seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from finetune.runs.comparison import ScoreDifference, score_difference
from finetune.runs.predictions import RowScores
from finetune.runs.record import Run, Score
from finetune.runs.scoring import recorded_confidence
from finetune.runs.statistics import CONFIDENCE, Spread, holm, stdev, t_quantile, two_sided_p, unpaired_spread

LEAST_ROWS = 6
"""Rows that must differ: with fewer, no split of them between two runs is rarer than 1 in 20 (2 · 0.5⁵ > 0.05)."""

_Z = t_quantile(math.inf)


@dataclass(frozen=True)
class Judged:
    """A score, its interval one of 95 %, and, where the predictions are there, what each row contributes to it."""

    score: Score
    rows: RowScores | None = None


def judged_run(run: Run, score: Score, rows: RowScores | None) -> Judged:
    """Return a score of a run as comparisons take it: an interval of another confidence is stretched to 95 %.

    Its ends move in proportion to the normal quantile, as those of a normal interval do.
    """
    confidence = recorded_confidence(run)
    if confidence == CONFIDENCE or score.low is None or score.high is None:
        return Judged(score, rows)
    stretch = _Z / t_quantile(math.inf, confidence)
    low, high = (score.value + stretch * (end - score.value) for end in (score.low, score.high))
    return Judged(replace(score, low=low, high=high), rows)


Side = Mapping[str, Sequence[Judged]]
"""The runs of a group by what pairs them with the runs of another: their seed, or all their other settings."""


def run_difference(ours: Judged, theirs: Judged) -> ScoreDifference:
    """Return one run's score less another's with an interval over the rows.

    On the same rows: for a share of right answers Bonett and Price's adjusted Wald interval for paired data (J. Educ.
    Behav. Stat. 37, 2012), else d ± z·√v. Where rows are not the same, not saved, or hardly differ: Newcombe's
    interval, which takes the scores as independent.
    """
    changed = _differences([ours], [theirs])
    if changed is None:
        return _with_p(score_difference(ours.score, theirs.score))
    value, n = ours.score.value - theirs.score.value, len(changed)
    if set(changed) <= {-1.0, 0.0, 1.0}:
        gained, lost = ((sum(change == sign for change in changed) + 1) / (n + 2) for sign in (1.0, -1.0))
        centre, error = gained - lost, math.sqrt((gained + lost - (gained - lost) ** 2) / (n + 2))
    else:
        centre, error = value, math.sqrt(_variance(changed))
    low, high = centre - _Z * error, centre + _Z * error
    return ScoreDifference(value, low, high, _p(centre, error, math.inf), paired=True)


def group_difference(ours: Side, theirs: Side) -> ScoreDifference:
    """Return one group's mean score less another's: d ± t·√(s²/n + v).

    s² is the variance of the differences between runs of the same seed, v that of the mean difference over the rows.
    Without two seeds in common: s₁²/n₁ + s₂²/n₂, and the degrees of freedom of the smaller group. One seed against
    several is taken to scatter as these do: s²·(1/n + 1), n - 1. Of one seed against one the noise of seeds is unknown,
    and v alone is left.
    """
    shared = sorted(set(ours) & set(theirs))
    if len(shared) < 2 and min(len(ours), len(theirs)) == 1 == max(len(ours), len(theirs)):
        [one], [other] = ours.values(), theirs.values()
        if len(one) == len(other) == 1:
            return run_difference(one[0], other[0])
    means = [{unit: fmean(run.score.value for run in side[unit]) for unit in side} for side in (ours, theirs)]
    spread: Spread | None
    if len(shared) >= 2:
        each = [means[0][unit] - means[1][unit] for unit in shared]
        value, seeds, spread = fmean(each), len(each), Spread(stdev(each) ** 2 / len(each), len(each) - 1)
        judged = [[run for unit in shared for run in side[unit]] for side in (ours, theirs)]
    else:
        value, seeds = fmean(means[0].values()) - fmean(means[1].values()), min(map(len, means))
        spread = unpaired_spread(*(list(side.values()) for side in means))
        judged = [[run for runs in side.values() for run in runs] for side in (ours, theirs)]
    between, degrees = (spread.variance, spread.degrees) if spread is not None else (0.0, math.inf)
    changed = _differences(*judged)
    over_rows = _variance(changed) if changed is not None else _independent_variance(*judged)
    if over_rows is None and spread is None:
        return ScoreDifference(value, None, None, seeds=seeds)
    error = math.sqrt(between + (over_rows or 0.0))
    half = t_quantile(degrees) * error
    inside_seeds = spread is not None and abs(value) <= t_quantile(degrees) * math.sqrt(between)
    p = _p(value, error, degrees)
    return ScoreDifference(value, value - half, value + half, p, changed is not None, seeds, inside_seeds)


def counted(difference: ScoreDifference, tries: int) -> ScoreDifference:
    """Return a difference whose p value counts that it is one of so many that were tried (Bonferroni)."""
    return difference if difference.p is None else replace(difference, p_holm=min(1.0, tries * difference.p))


def with_holm(differences: Sequence[ScoreDifference | None]) -> list[ScoreDifference | None]:
    """Return the differences with p values that count how many are shown together (Holm)."""
    adjusted = holm([difference.p if difference else None for difference in differences])
    return [
        replace(difference, p_holm=p) if difference is not None else None
        for difference, p in zip(differences, adjusted, strict=True)
    ]


def _differences(ours: Sequence[Judged], theirs: Sequence[Judged]) -> list[float] | None:
    """Return by row our mean contribution less theirs; None unless all answered the same rows and enough differ."""
    rows = [run.rows for run in (*ours, *theirs)]
    if any(row is None or row.questions != rows[0].questions for row in rows if rows[0] is not None) or rows[0] is None:
        return None
    sides = [[run.rows.values for run in side if run.rows is not None] for side in (ours, theirs)]
    means = [side[0] if len(side) == 1 else [fmean(values) for values in zip(*side, strict=True)] for side in sides]
    changed = [our - their for our, their in zip(*means, strict=True)]
    return changed if sum(abs(change) > 1e-12 for change in changed) >= LEAST_ROWS else None


def _variance(changed: Sequence[float]) -> float:
    """Return the variance that a bootstrap over the rows would find for the mean."""
    mean = fmean(changed)
    return math.fsum((change - mean) ** 2 for change in changed) / len(changed) ** 2


def _independent_variance(ours: Sequence[Judged], theirs: Sequence[Judged]) -> float | None:
    """Return the variance from the scores' own intervals, as if the sides had answered different rows."""
    widths = [
        [run.score.high - run.score.low for run in side if run.score.low is not None and run.score.high is not None]
        for side in (ours, theirs)
    ]
    return math.fsum((fmean(side) / 2 / _Z) ** 2 for side in widths) if all(widths) else None


def _with_p(difference: ScoreDifference) -> ScoreDifference:
    value, low, high = difference.value, difference.low, difference.high
    if low is None or high is None:
        return difference
    error = (value - low if value > 0 else high - value) / _Z
    return replace(difference, p=_p(value, error, math.inf))


def _p(value: float, error: float, degrees: float) -> float:
    return two_sided_p(value / error, degrees) if error > 0 else float(value == 0)
