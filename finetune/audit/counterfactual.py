"""Counterfactual swaps: which answers change when a text names another group, beyond what any change of a word does."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.audit.results import Finding, Result, corrected
from finetune.audit.significance import mean_interval, paired_difference, sign_test
from finetune.audit.swaps import swap
from finetune.audit.terms import Direction, Terms
from finetune.evaluation.intervals import wilson

Row = Mapping[str, str]  # a text by role
MAX_TEXTS = 1000
LEAST_TESTED = 6  # of fewer texts no two-sided exact test can fall below 0.05
AMBIGUOUS, BOTH_GROUPS, BEYOND = "a term with several counterparts", "names both groups", "beyond the sample"
UNREAD, TOO_LONG = "the model reads the same: cut off, or unknown words", "too long for the model after the swap"
_NO_FLIPS = "not counted: of a number any change is a flip; read the score gap"


@dataclass(frozen=True)
class Answer:
    """What a model says about a text: what it chooses (None: it gives a number), and the score that is looked at.

    The score is None where no label is looked at.
    """

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


def plan_swaps(rows: Iterable[Row], terms: Terms, limit: int = MAX_TEXTS) -> Swaps:
    """Return every change of some texts; of more than `limit` in a direction a seeded sample.

    A text that names both groups is left out: with one of them exchanged it would name the other twice.
    """
    samples = [_Sample(limit) for _ in terms.directions]
    left_out = dict.fromkeys((AMBIGUOUS, BOTH_GROUPS), 0)
    for row in rows:
        for direction, sample in zip(terms.directions, samples, strict=True):
            parts = {
                role: swap(text, direction.counterparts, target_terms=direction.target_terms)
                for role, text in row.items()
            }
            count, is_ambiguous = sum(part.count for part in parts.values()), any(p.ambiguous for p in parts.values())
            if not count and not is_ambiguous:
                continue
            if any(part.names_target for part in parts.values()):
                left_out[BOTH_GROUPS] += 1
            elif is_ambiguous:
                left_out[AMBIGUOUS] += 1
            else:
                sample.offer((row, {role: part.text for role, part in parts.items()}, count))
    left_out[BEYOND] = sum(sample.offered - len(sample.kept) for sample in samples)
    changes = [
        (direction, tuple(Change(row, whole, _neutral(row, terms, count)) for row, whole, count in sample.in_order()))
        for direction, sample in zip(terms.directions, samples, strict=True)
        if sample.kept
    ]
    return Swaps(tuple(changes), left_out)


@dataclass
class _Sample:
    """A seeded sample of at most `limit` of what is offered, without keeping the rest: Vitter's algorithm R, 1985."""

    limit: int
    offered: int = 0
    kept: list[tuple[int, Any]] = field(default_factory=list)
    _draw: random.Random = field(default_factory=lambda: random.Random(0))

    def offer(self, item: Any) -> None:
        """Take an item, perhaps in the place of another."""
        if self.offered < self.limit:
            self.kept.append((self.offered, item))
        elif (place := self._draw.randrange(self.offered + 1)) < self.limit:
            self.kept[place] = (self.offered, item)
        self.offered += 1

    def in_order(self) -> list[Any]:
        """Return what was kept as it came."""
        return [item for _, item in sorted(self.kept, key=lambda entry: entry[0])]


def _neutral(row: Row, terms: Terms, count: int) -> Row | None:
    """Return a text with `count` neutral words exchanged, the first ones; None when it has not so many."""
    left, changed = count, {}
    for role, text in row.items():
        part = swap(text, terms.neutral, left)
        changed[role], left = part.text, left - part.count
    return None if left else changed


def leave_out_unread(swaps: Swaps, encoded: Callable[[Sequence[Row]], Sequence[bytes | None]]) -> Swaps:
    """Leave out the changes that a model cannot see, which would count as answers that do not flip, and count them.

    encoded: gives for each row what tells what the model reads from it; None: it is too long to be read.
    """
    unique = texts_of(swaps)
    read = dict(zip((_key(row) for row in unique), encoded(unique), strict=True))
    left_out = {**swaps.left_out, UNREAD: 0, TOO_LONG: 0}
    kept = []
    for direction, changes in swaps.changes:
        seen = []
        for change in changes:
            text, swapped = read[_key(change.text)], read[_key(change.swapped)]
            if swapped is None:
                left_out[TOO_LONG] += 1
            elif swapped == text:
                left_out[UNREAD] += 1
            else:
                neutral = None if change.neutral is None else read[_key(change.neutral)]
                seen.append(replace(change, neutral=change.neutral if neutral not in (None, text) else None))
        if seen:
            kept.append((direction, tuple(seen)))
    return Swaps(tuple(kept), left_out)


def _key(row: Row) -> tuple[tuple[str, str], ...]:
    return tuple(row.items())


def texts_of(swaps: Swaps) -> list[Row]:
    """Return every text that a model is asked about, once."""
    rows = [row for _, changes in swaps.changes for change in changes for row in _rows(change)]
    return list({_key(row): row for row in rows}.values())


def judge_swaps(swaps: Swaps, answer: Callable[[Sequence[Row]], Sequence[Answer | None]], confidence: float) -> Result:
    """Return for each direction how often answers flip beyond the neutral swap, and the mean gap of the score."""
    unique = texts_of(swaps)
    said = dict(zip((_key(row) for row in unique), answer(unique), strict=True))
    findings: list[Finding] = []
    for direction, changes in swaps.changes:
        answered = [[None if row is None else said[_key(row)] for row in _all(change)] for change in changes]
        whole = [(text, swapped, neutral) for text, swapped, neutral in answered if text and swapped]
        if whole:
            findings += _findings(f"{direction.dimension}: {direction.name}", whole, confidence)
    if not findings:
        counts = ", ".join(f"{why}: {count}" for why, count in swaps.left_out.items() if count)
        reason = "no text names a group of the list" + (f", besides those left out ({counts})" if counts else "")
        return Result(left_out=swaps.left_out, reason=reason)
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
    measure, unit = "flips beyond neutral", "points"
    if all(text.choice is None for text, _, _ in answered):
        return Finding(group, measure, None, None, None, 0, 0.0, unit, made_of=_NO_FLIPS)
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
    made_of = (
        f"{flips} of {len(answered)} flipped; of {n} with as many neutral words {both + identity_only}, {neutral_flips}"
    )
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
