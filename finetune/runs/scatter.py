"""Score against energy: what every plot of a comparison shows, whatever draws it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune.runs import formats
from finetune.runs.compare_report import run_labels
from finetune.runs.comparison import Comparison, Row, RunSet
from finetune.runs.energy_ratio import ranked_parts

FRONT, UNDECIDED, DOMINATED, NOT_RANKED = "front", "undecided", "dominated", "not ranked"
KIND_WORDS = {
    FRONT: "no run is shown to score higher with less energy",
    UNDECIDED: "on the front as well, since another run reads better in both only within the noise",
    DOMINATED: "another run is shown to score higher with less energy",
    NOT_RANKED: "its energy is compared with no other",
}


@dataclass(frozen=True)
class Mark:
    """One run in a plot of score against energy.

    `kwh` is the energy that rankings count (train + evaluate + save), `kwh_high` None where it is a lower bound;
    `score_low` and `score_high` are None for a score without an interval.
    """

    run_id: str
    label: str
    kind: str
    kwh: float
    kwh_low: float
    kwh_high: float | None
    score: float
    score_low: float | None
    score_high: float | None


@dataclass(frozen=True)
class Scatter:
    """The runs of one set in one plot, cheapest first; `outside` names the runs without a place in it, and why."""

    run_set: RunSet
    marks: tuple[Mark, ...]
    outside: tuple[tuple[str, str], ...]


def scatters(comparison: Comparison) -> tuple[Scatter, ...]:
    """Return a plot for each set in which at least one run has both a score and an energy."""
    found, labels = [], run_labels(comparison)
    for run_set in comparison.sets:
        rows = [row for row in comparison.rows if row.run_set == run_set]
        kinds = row_kinds(rows)
        marks = [
            mark for row in rows if (mark := _mark(row, labels[row.run.run_id], kinds[row.run.run_id])) is not None
        ]
        placed = {mark.run_id for mark in marks}
        outside = tuple(
            (labels[row.run.run_id], "; ".join(row.not_ranked) or "energy not measured")
            for row in rows
            if row.run.run_id not in placed
        )
        if marks:
            ordered = sorted(marks, key=lambda mark: (mark.kwh, mark.run_id))
            found.append(Scatter(run_set, tuple(ordered), outside))
    return tuple(found)


def row_kinds(rows: Sequence[Row]) -> dict[str, str]:
    """Return by run id how each run stands to the front of its set: front, undecided, dominated or not ranked."""
    kinds = {row.run.run_id: DOMINATED if row.dominated_by else NOT_RANKED for row in rows}
    kinds |= {row.run.run_id: FRONT for row in rows if row.on_front}
    best: dict[str, float] = {}
    for row in sorted((row for row in rows if row.on_front), key=_cheapest_first):
        name, height = row.run_set.name if row.run_set else "", _height(row)
        if height <= best.get(name, -math.inf):
            kinds[row.run.run_id] = UNDECIDED
        best[name] = max(height, best.get(name, -math.inf))
    return kinds


def front_line(scatter: Scatter) -> tuple[Mark, ...]:
    """Return the runs that the front leads through, cheapest first."""
    return tuple(mark for mark in scatter.marks if mark.kind == FRONT)


def axis_words(scatter: Scatter) -> tuple[str, str]:
    """Return what the axes are called: energy (without unit), score."""
    better = "" if scatter.run_set.greater_is_better else " (lower is better)"
    return "energy of train + evaluate + save", f"{scatter.run_set.metric} on {scatter.run_set.split}{better}"


def mark_words(mark: Mark) -> str:
    """Return all that a plot knows about a run, as one sentence."""
    energy = formats.energy_with_band(mark.kwh, mark.kwh_low, mark.kwh_high)
    score = formats.score_value(mark.score)
    if mark.score_low is not None and mark.score_high is not None:
        score += f" [{formats.score_value(mark.score_low)} to {formats.score_value(mark.score_high)}]"
    return f"{mark.label}: score {score}, {energy}, {mark.kind}"


def _mark(row: Row, label: str, kind: str) -> Mark | None:
    score, parts = row.score, ranked_parts(row.run)
    if score is None or not parts:
        return None
    high = sum(part.kwh * part.factor_high for part in parts.values())
    is_bound = row.run.emissions.get("complete") is not True or not math.isfinite(high)
    kwh = sum(part.kwh for part in parts.values())
    return Mark(
        run_id=row.run.run_id,
        label=label,
        kind=kind,
        kwh=kwh,
        # Of a lower bound even the low end of the band is too much said.
        kwh_low=sum(part.kwh * part.factor_low for part in parts.values()),
        kwh_high=None if is_bound else high,
        score=score.value,
        score_low=score.low,
        score_high=score.high,
    )


def _cheapest_first(row: Row) -> tuple[float, float]:
    return (row.ranked_kwh or 0.0, -_height(row))


def _height(row: Row) -> float:
    value = row.score.value if row.score else -math.inf
    return -value if row.run_set is not None and not row.run_set.greater_is_better else value
