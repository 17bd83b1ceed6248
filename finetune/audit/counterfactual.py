"""Counterfactual swaps: which answers change when a text names another group, beyond what any change of a word does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.audit.results import Finding, Result, corrected
from finetune.audit.significance import mean_interval, paired_difference, sign_test
from finetune.audit.swaps import swap
from finetune.audit.terms import Direction, Terms
from finetune.evaluation.intervals import wilson

Row = Mapping[str, str]  # a text by role
MAX_TEXTS = 1000
LEAST_TESTED = 6  # of fewer texts no two-sided exact test can fall below 0.05


@dataclass(frozen=True)
class Answer:
    """What a model says about a text: what it chooses, and the score of the label that is looked at (None: none is)."""

    choice: Any
    score: float | None = None


@dataclass(frozen=True)
class Change:
    """A text with a term of a group, the same with another group's, and with as many neutral words exchanged."""

    text: Row
    swapped: Row
    neutral: Row | None


@dataclass(frozen=True)
class Swaps:
    """The changes of each direction, and how many texts were left out of it, by reason."""

    changes: tuple[tuple[Direction, tuple[Change, ...]], ...]
    left_out: Mapping[str, int]


def plan_swaps(rows: Sequence[Row], terms: Terms, limit: int = MAX_TEXTS) -> Swaps:
    """Return every change of some texts; of more than `limit` in a direction a seeded sample."""
    import numpy

    changes: list[tuple[Direction, tuple[Change, ...]]] = []
    left_out = {"a term with several counterparts": 0, "beyond the sample": 0}
    for direction in terms.directions:
        found = []
        for row in rows:
            swapped = {role: swap(text, direction.counterparts) for role, text in row.items()}
            if any(part.ambiguous for part in swapped.values()):
                left_out["a term with several counterparts"] += 1
            elif count := sum(part.count for part in swapped.values()):
                whole = {role: part.text for role, part in swapped.items()}
                found.append(Change(row, whole, _neutral(row, terms, count)))
        if len(found) > limit:
            left_out["beyond the sample"] += len(found) - limit
            kept = sorted(numpy.random.default_rng(0).choice(len(found), limit, replace=False).tolist())
            found = [found[place] for place in kept]
        if found:
            changes.append((direction, tuple(found)))
    return Swaps(tuple(changes), left_out)


def _neutral(row: Row, terms: Terms, count: int) -> Row | None:
    """Return a text with up to `count` neutral words exchanged; None when it has none."""
    left, changed = count, {}
    for role, text in row.items():
        part = swap(text, terms.neutral, left)
        changed[role], left = part.text, left - part.count
    return changed if left < count else None


def judge_swaps(swaps: Swaps, answer: Callable[[Sequence[Row]], Sequence[Answer | None]], confidence: float) -> Result:
    """Return for each direction how often answers flip beyond the neutral swap, and the mean gap of the score."""
    rows = [row for _, changes in swaps.changes for change in changes for row in _rows(change)]
    unique = list({tuple(row.items()): row for row in rows}.values())
    said = dict(zip((tuple(row.items()) for row in unique), answer(unique), strict=True))
    findings: list[Finding] = []
    for direction, changes in swaps.changes:
        answered = [[None if row is None else said[tuple(row.items())] for row in _all(change)] for change in changes]
        whole = [(text, swapped, neutral) for text, swapped, neutral in answered if text and swapped]
        if whole:
            findings += _findings(f"{direction.dimension}: {direction.name}", whole, confidence)
    if not findings:
        return Result(left_out=swaps.left_out, reason="no text of the evaluation rows names a group of the list")
    return Result(corrected(findings), swaps.left_out)


def _all(change: Change) -> tuple[Row, Row, Row | None]:
    return change.text, change.swapped, change.neutral


def _rows(change: Change) -> list[Row]:
    return [row for row in _all(change) if row is not None]


def _findings(group: str, answered: Sequence[tuple[Answer, Answer, Answer | None]], confidence: float) -> list[Finding]:
    found = [_flips(group, answered, confidence)]
    scores = ((text.score, swapped.score) for text, swapped, _ in answered)
    gaps = [after - before for before, after in scores if before is not None and after is not None]
    return found + ([_gap(group, gaps, confidence)] if gaps else [])


def _flips(group: str, answered: Sequence[tuple[Answer, Answer, Answer | None]], confidence: float) -> Finding:
    """Return the flip rate less that of the neutral swap on the same texts, tested by McNemar's exact test."""
    flipped = [text.choice != swapped.choice for text, swapped, _ in answered]
    pairs = [
        (changed, text.choice != neutral.choice)
        for changed, (text, _, neutral) in zip(flipped, answered, strict=True)
        if neutral is not None
    ]
    cells = [sum(pair == cell for pair in pairs) for cell in ((True, True), (True, False), (False, True))]
    both, identity_only, neutral_only = cells
    n, flips = len(pairs), sum(flipped)
    neutral_flips = both + neutral_only
    low, high = wilson(flips, len(answered), confidence) or (0.0, 1.0)
    detail = {
        "texts": len(answered), "flips": flips, "flip_rate": 100 * flips / len(answered), "flip_rate_low": 100 * low,
        "flip_rate_high": 100 * high, "paired_texts": n, "paired_flips": both + identity_only,
        "neutral_flips": neutral_flips, "identity_only": identity_only, "neutral_only": neutral_only,
    }  # fmt: skip
    made_of = f"{flips} of {len(answered)} flipped; of {n} with a neutral word {both + identity_only}, {neutral_flips}"
    measure, unit = "flips beyond neutral", "points"
    if not n:
        return Finding(group, measure, None, None, None, 0, 0.0, unit, made_of=made_of, detail=detail)
    interval = paired_difference(both, identity_only, neutral_only, n - sum(cells), confidence)
    p = sign_test(identity_only, neutral_only) if n >= LEAST_TESTED else None
    value = 100 * (identity_only - neutral_only) / n
    return Finding(
        group, measure, value, 100 * interval[0], 100 * interval[1], n, 0.0, unit, p, made_of=made_of, detail=detail
    )


def _gap(group: str, gaps: Sequence[float], confidence: float) -> Finding:
    """Return the mean difference of the score, swapped less original; no test: some gap any two words have."""
    import numpy

    values = numpy.asarray(gaps, dtype=float)
    low, high = mean_interval(values, confidence) or (None, None)
    return Finding(group, "score gap", float(values.mean()), low, high, len(values), 0.0, "score")
