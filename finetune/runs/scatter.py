"""Score against energy: what every plot of a comparison shows, whatever draws it."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.runs import formats
from finetune.runs.compare_columns import members_words
from finetune.runs.compare_report import line_labels, run_labels
from finetune.runs.comparison import Comparison, Group, Line, Row, RunSet
from finetune.runs.front import decided_front
from finetune.runs.tables import one_line

FRONT, UNDECIDED, DOMINATED, NOT_RANKED = "front", "undecided", "dominated", "not ranked"
_KIND_WORDS = {
    FRONT: "no {unit} is shown to score higher with less energy",
    UNDECIDED: "on the front as well, since another {unit} reads better in both only within the noise",
    DOMINATED: "another {unit} is shown to score higher with less energy",
    NOT_RANKED: "its energy is compared with no other",
}


@dataclass(frozen=True)
class Mark:
    """One run, or the mean of a group of runs, in a plot of score against energy.

    `kwh` is the energy that rankings count (train + evaluate + save), of a run on average, `kwh_high` None where it is
    a lower bound; `score_low` and `score_high` are None for a score without an interval. `mean_of` says what a mean is
    taken over, `dominated_by` who is shown to be better in both.
    """

    key: str
    label: str
    kind: str
    kwh: float
    kwh_low: float
    kwh_high: float | None
    score: float
    score_low: float | None
    score_high: float | None
    mean_of: str = ""
    dominated_by: str = ""

    @property
    def standing(self) -> str:
        """Return in words how it stands to the front."""
        return f"{self.kind} by {self.dominated_by}" if self.dominated_by else self.kind


@dataclass(frozen=True)
class Scatter:
    """The runs, or groups, of one set in one plot, cheapest first.

    `unit`: run or group. `outside` names those without a place in the plot, and why.
    """

    run_set: RunSet
    unit: str
    marks: tuple[Mark, ...]
    outside: tuple[tuple[str, str], ...]

    @property
    def kinds(self) -> dict[str, str]:
        """Return how its marks stand to the front, each kind with what it means."""
        found = {mark.kind for mark in self.marks}
        return {kind: words for kind, words in kind_words(self.unit).items() if kind in found}


def kind_words(unit: str) -> dict[str, str]:
    """Return what each way to stand to the front means; `unit` is run or group."""
    return {kind: words.format(unit=unit) for kind, words in _KIND_WORDS.items()}


def scatters(comparison: Comparison) -> tuple[Scatter, ...]:
    """Return a plot for each set in which at least one run, or group, has both a score and an energy."""
    found, labels = [], line_labels(comparison)
    for run_set in comparison.sets:
        lines = [line for line in comparison.lines if line.run_set == run_set]
        kinds = line_kinds(lines)
        marks = [
            mark for line in lines if (mark := _mark(line, labels, kinds[line.key], comparison.grouped_by)) is not None
        ]
        if marks:
            ordered = sorted(marks, key=lambda mark: (mark.kwh, mark.key))
            placed = {mark.key for mark in marks}
            outside = [
                (labels[line.key], "; ".join(line.not_ranked) or "energy not measured")
                for line in lines
                if line.key not in placed
            ]
            outside += _in_no_group(comparison, run_set)
            found.append(Scatter(run_set, comparison.unit, tuple(ordered), tuple(outside)))
    return tuple(found)


def line_kinds(lines: Sequence[Line]) -> dict[str, str]:
    """Return by its key how each run, or group, stands to the front of its set."""
    kinds = {line.key: DOMINATED if line.dominated_by else NOT_RANKED for line in lines}
    kinds |= {line.key: UNDECIDED for line in lines if line.on_front}
    by_set: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_set[line.run_set.name if line.run_set else ""].append(line)
    return kinds | {line.key: FRONT for members in by_set.values() for line in decided_front(members)}


def run_kinds(comparison: Comparison) -> dict[str, str]:
    """Return by run id how each run stands to the front; where runs are put together, how its group does."""
    kinds = line_kinds(comparison.lines)
    apart = {row.key: NOT_RANKED for row in comparison.rows}
    return apart | {row.key: kinds[line.key] for line in comparison.lines for row in line.rows}


def front_line(scatter: Scatter) -> tuple[Mark, ...]:
    """Return the marks that the front leads through, cheapest first."""
    return tuple(mark for mark in scatter.marks if mark.kind == FRONT)


def axis_words(scatter: Scatter) -> tuple[str, str]:
    """Return what the axes are called: energy (without unit), score."""
    better = "" if scatter.run_set.greater_is_better else " (lower is better)"
    mean = ", mean ± 95 %" if scatter.unit == "group" else ""
    return "energy of train + evaluate + save", f"{scatter.run_set.metric} on {scatter.run_set.split}{mean}{better}"


def mark_words(mark: Mark) -> str:
    """Return all that a plot knows about a run, or a group, as one sentence."""
    energy = formats.energy_with_band(mark.kwh, mark.kwh_low, mark.kwh_high)
    score = formats.score_value(mark.score)
    if mark.score_low is not None and mark.score_high is not None:
        score += f" [{formats.score_value(mark.score_low)} to {formats.score_value(mark.score_high)}]"
    if mark.mean_of:
        return f"{mark.label}: mean score of {mark.mean_of} {score}, {energy} a run, {mark.standing}"
    return f"{mark.label}: score {score}, {energy}, {mark.standing}"


def _mark(line: Line, labels: Mapping[str, str], kind: str, grouped_by: str | None) -> Mark | None:
    kwh, low, high, score = line.ranked_kwh, line.mean(_low_end), line.mean(_high_end), line.score
    if score is None or kwh is None or low is None or high is None:
        return None
    is_bound = any(not row.run.is_complete for row in line.rows) or not math.isfinite(high)
    return Mark(
        key=line.key,
        label=labels[line.key],
        kind=kind,
        kwh=kwh,
        # Of a lower bound even the low end of the band is too much said.
        kwh_low=low,
        kwh_high=None if is_bound else high,
        score=score.value,
        score_low=score.low,
        score_high=score.high,
        mean_of=members_words(line, grouped_by) if isinstance(line, Group) else "",
        # Runs are dominated by a run's id, groups by a group's name.
        dominated_by=labels.get(line.dominated_by, one_line(line.dominated_by)) if line.dominated_by else "",
    )


def _low_end(row: Row) -> float | None:
    return sum(part.kwh * part.factor_low for part in row.parts.values()) if row.parts else None


def _high_end(row: Row) -> float | None:
    return sum(part.kwh * part.factor_high for part in row.parts.values()) if row.parts else None


def _in_no_group(comparison: Comparison, run_set: RunSet) -> list[tuple[str, str]]:
    labels: Mapping[str, str] = run_labels(comparison)
    inside = {row.key for line in comparison.lines for row in line.rows}
    rows: list[Row] = [row for row in comparison.rows if row.run_set == run_set and row.key not in inside]
    return [(labels[row.key], "; ".join(row.not_ranked) or "in no group") for row in rows]
