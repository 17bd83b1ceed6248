"""The Pareto front of score against energy: who is beaten in both, beyond doubt."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from finetune.runs.comparison import Delta, Grid, Row
from finetune.runs.deltas import alone, delta, shown_together
from finetune.runs.energy_ratio import ASSUMED_SPREAD, Part, energy_ratio
from finetune.runs.record import Score
from finetune.runs.score_pairs import Judged, run_difference


@dataclass(frozen=True)
class _Contender:
    """What the front asks of a run, worked out once: with a thousand runs there are a million pairs."""

    run_id: str
    height: float  # the score, higher is better
    judged: Judged
    kwh: float
    kwh_low: float
    kwh_high: float
    parts: Mapping[str, Part]
    sources: frozenset[tuple[Any, ...]]


def with_front(rows: Sequence[Row], grid: Grid | None) -> list[Row]:
    """Mark, in each set, the runs that no other run is shown to beat in score and in energy, and price their steps.

    Dominated needs both differences distinguished; runs whose energy is not ranked take no part. A step is from the
    next cheaper run of the front: what it has more, and the grams for each point of score.
    """
    by_set: dict[str, list[_Contender]] = defaultdict(list)
    for row in rows:
        if row.run_set is not None and row.score is not None and not row.not_ranked:
            by_set[row.run_set.name].append(_contender(row, row.score, 1 if row.run_set.greater_is_better else -1))
    contenders = {contender.run_id for members in by_set.values() for contender in members}
    dominated = {run_id: rival for members in by_set.values() for run_id, rival in _dominated(members)}
    by_id = {row.run.run_id: row for row in rows}
    steps: dict[str, tuple[str, Delta]] = {}
    for members in by_set.values():
        front = sorted((each.kwh, each.run_id) for each in members if each.run_id not in dominated)
        names = [(ours, cheaper) for (_, cheaper), (_, ours) in pairwise(front)]
        found = [delta(alone(by_id[ours]), alone(by_id[cheaper]), grid) for ours, cheaper in names]
        steps |= {ours: (cheaper, step) for (ours, cheaper), step in zip(names, shown_together(found), strict=True)}
    return [
        replace(
            row,
            on_front=row.run.run_id in contenders and row.run.run_id not in dominated,
            dominated_by=dominated.get(row.run.run_id),
            next_cheaper=steps[row.run.run_id][0] if row.run.run_id in steps else None,
            step=steps[row.run.run_id][1] if row.run.run_id in steps else None,
        )
        for row in rows
    ]


def _contender(row: Row, score: Score, sign: int) -> _Contender:
    parts = row.parts
    return _Contender(
        row.run.run_id,
        sign * score.value,
        Judged(score, row.row_scores),
        sum(part.kwh for part in parts.values()),
        sum(part.kwh * part.factor_low for part in parts.values()),
        sum(part.kwh * part.factor_high for part in parts.values()),
        parts,
        frozenset(part.source for part in parts.values() if part.source is not None),
    )


def _dominated(members: Sequence[_Contender]) -> Iterable[tuple[str, str]]:
    cheapest_first = sorted(members, key=lambda contender: (contender.kwh, contender.run_id))
    for place, loser in enumerate(cheapest_first):
        for rival in cheapest_first[:place]:
            better = rival.height > loser.height
            if better and _is_cheaper(rival, loser) and run_difference(rival.judged, loser.judged).is_distinguished:
                yield loser.run_id, rival.run_id
                break


def _is_cheaper(ours: _Contender, theirs: _Contender) -> bool:
    if ours.kwh_high * ASSUMED_SPREAD < theirs.kwh_low:
        return True
    if ours.kwh * ASSUMED_SPREAD >= theirs.kwh or ours.sources.isdisjoint(theirs.sources):
        return False  # without a factor in common the sums above are the corners
    ratio = energy_ratio(ours.parts, theirs.parts)
    return ratio is not None and ratio.verdict == "cheaper"
