"""The Pareto front of score against energy: who is beaten in both, beyond doubt, and what a step along it costs."""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from finetune.runs.comparison import Delta, Grid, Line, Row
from finetune.runs.deltas import delta, shown_together
from finetune.runs.energy_ratio import ASSUMED_SPREAD, Part, energy_ratio
from finetune.runs.record import Score
from finetune.runs.score_pairs import Judged, counted, judged_run, run_difference


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

    Dominated needs both differences distinguished; runs whose energy is not ranked take no part.
    """
    by_set: dict[str, list[_Contender]] = defaultdict(list)
    for row in rows:
        if row.run_set is not None and row.score is not None and not row.not_ranked:
            by_set[row.run_set.name].append(_contender(row, row.score, 1 if row.run_set.greater_is_better else -1))
    contenders = {contender.run_id for members in by_set.values() for contender in members}
    dominated = {run_id: rival for members in by_set.values() for run_id, rival in _dominated(members)}
    marked = [
        replace(row, on_front=row.key in contenders and row.key not in dominated, dominated_by=dominated.get(row.key))
        for row in rows
    ]
    steps = front_steps(marked, grid)
    return [
        replace(row, next_cheaper=steps[row.key][0], step=steps[row.key][1]) if row.key in steps else row
        for row in marked
    ]


def decided_front(lines: Iterable[Line]) -> list[Line]:
    """Return what the drawn front of one set leads through, cheapest first: each scores higher than all cheaper ones.

    What else is on the front is so only because nothing is decided.
    """
    found: list[Line] = []
    for line in sorted((line for line in lines if line.on_front), key=_cheapest_first):
        if not found or _height(line) > _height(found[-1]):
            found.append(line)
    return found


def front_steps(lines: Sequence[Line], grid: Grid | None) -> dict[str, tuple[str, Delta]]:
    """Return, by its key, the key of the next cheaper one on the decided front, and what it has more than that."""
    by_set: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if line.run_set is not None:
            by_set[line.run_set.name].append(line)
    steps: dict[str, tuple[str, Delta]] = {}
    for members in by_set.values():
        front = decided_front(members)
        found = shown_together([delta(ours.members, cheaper.members, grid) for cheaper, ours in pairwise(front)])
        steps |= {ours.key: (front[place].key, found[place]) for place, ours in enumerate(front[1:])}
    return steps


def tries(members: int) -> int:
    """Return how many pairs the front of so many runs or groups is decided by: each against every cheaper one.

    That nobody is called dominated by mistake is to hold for the front as a whole, so each pair counts them all.
    """
    return members * (members - 1) // 2


def _cheapest_first(line: Line) -> tuple[float, float, str]:
    return (line.ranked_kwh or 0.0, -_height(line), line.key)


def _height(line: Line) -> float:
    value = line.score.value if line.score else -math.inf
    return -value if line.run_set is not None and not line.run_set.greater_is_better else value


def _contender(row: Row, score: Score, sign: int) -> _Contender:
    parts = row.parts
    return _Contender(
        row.run.run_id,
        sign * score.value,
        judged_run(row.run, score, row.row_scores),
        sum(part.kwh for part in parts.values()),
        sum(part.kwh * part.factor_low for part in parts.values()),
        sum(part.kwh * part.factor_high for part in parts.values()),
        parts,
        frozenset(part.source for part in parts.values() if part.source is not None),
    )


def _dominated(members: Sequence[_Contender]) -> Iterable[tuple[str, str]]:
    cheapest_first = sorted(members, key=lambda contender: (contender.kwh, contender.run_id))
    count = tries(len(members))
    for place, loser in enumerate(cheapest_first):
        for rival in cheapest_first[:place]:
            # The quickest to tell comes first.
            if rival.height <= loser.height or rival.kwh * ASSUMED_SPREAD >= loser.kwh:
                continue
            difference = counted(run_difference(rival.judged, loser.judged), count)
            if difference.is_distinguished and _is_cheaper(rival, loser):
                yield loser.run_id, rival.run_id
                break


def _is_cheaper(ours: _Contender, theirs: _Contender) -> bool:
    if ours.kwh_high * ASSUMED_SPREAD < theirs.kwh_low:
        return True
    if ours.sources.isdisjoint(theirs.sources):
        return False  # without a factor in common the sums above are the corners
    ratio = energy_ratio(ours.parts, theirs.parts)
    return ratio is not None and ratio.verdict == "cheaper"
