"""Error rates by group: on templates that all groups share, or over the rows of a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.audit.counterfactual import LEAST_TESTED
from finetune.audit.results import LEVEL, Finding, Result
from finetune.audit.significance import difference_interval, exchange_test, fisher
from finetune.evaluation.intervals import bootstrap
from finetune.runs.statistics import holm
from finetune.text import plural

if TYPE_CHECKING:
    import numpy

MISSED, FALSE_ALARM, ERROR = "false negatives", "false positives", "errors"
MOST_GROUPS = 20


@dataclass(frozen=True)
class Case:
    """A row to be judged: who it is about, whether it is what the model looks for (None: any label), its template."""

    group: str
    positive: bool | None
    template: str = ""


def judge_templates(cases: Sequence[Case], wrong: Sequence[bool | None], confidence: float) -> Result:
    """Return the false negative and false positive rates of each group less those of the others.

    Over the templates that have a case of every group, which are the independent unit: intervals resample them, and
    the test exchanges the groups within them. wrong: whether the answer to each case is; None: there is none.
    """
    groups = sorted({case.group for case in cases} - {""})
    answered = [(case, error) for case, error in zip(cases, wrong, strict=True) if case.group and error is not None]
    tables = {}
    for positive, measure in ((True, MISSED), (False, FALSE_ALARM)):
        chosen = [(case, bool(error)) for case, error in answered if case.positive is positive]
        tables[measure] = _cells(chosen, groups)
    left_out = {
        "names no group": sum(not case.group for case in cases),
        "its template lacks a group, or has no answer": sum(bool(case.group) for case in cases)
        - sum(sum(counts.values()) for _, counts in tables.values()),
    }
    whole = {measure: table for measure, table in tables.items() if len(table[0])}
    if not whole or len(groups) < 2:
        return Result(left_out=left_out, reason="no template has a case of every group")
    findings: list[Finding] = []
    for measure, (cells, counts) in whole.items():
        findings += _of_templates(groups, measure, cells, counts, len(whole), confidence)
    return Result(tuple(findings), left_out)


def _cells(answered: Sequence[tuple[Case, bool]], groups: Sequence[str]) -> tuple[numpy.ndarray, dict[str, int]]:
    """Return the mean error by template and group, of whole templates, and the cases of each group in them."""
    import numpy

    found: dict[str, dict[str, list[bool]]] = {}
    for case, error in answered:
        found.setdefault(case.template, {}).setdefault(case.group, []).append(error)
    whole = [by_group for by_group in found.values() if len(by_group) == len(groups)]
    cells = [[float(numpy.mean(by_group[group])) for group in groups] for by_group in whole]
    return numpy.array(cells), {group: sum(len(by_group[group]) for by_group in whole) for group in groups}


@dataclass(frozen=True)
class Compared:
    """A group against others: which ones, the p value, and that adjusted for all tests of the probe."""

    others: tuple[int, ...]
    p: float | None
    p_adjusted: float | None


def step_down(
    count: int, test: Callable[[Sequence[int]], Sequence[tuple[float, float]]], families: int
) -> dict[int, Compared]:
    """Compare each of `count` groups with the others, those that differ taken out of `the others` one by one.

    Else one group that is served worse would make all that are alike look better, and differ too. `test` returns for
    each of some groups its p value against the rest of them, and how far it is from them. The steps are Holm's, over
    the groups that are left in each of so many families: the chance that any group is flagged while all are alike stays
    below the level.
    """
    left, found, floor = list(range(count)), {}, 0.0
    while len(left) > 1:
        tested = test(left)
        ps = [p for p, _ in tested]
        first = min(range(len(left)), key=lambda at: (tested[at][0], -tested[at][1]))
        adjusted = max(floor, min(1.0, ps[first] * len(left) * families))
        if adjusted > LEVEL or len(left) == 2:
            by_holm = [min(1.0, max(floor, (p or 0.0) * families)) for p in holm(ps)]
            for at, group in enumerate(left):
                found[group] = Compared(_without(left, group), ps[at], by_holm[at])
            return found
        floor = adjusted
        found[left[first]] = Compared(_without(left, left[first]), ps[first], adjusted)
        del left[first]
    return found


def _without(groups: Sequence[int], one: int) -> tuple[int, ...]:
    return tuple(group for group in groups if group != one)


def _of_templates(
    groups: Sequence[str],
    measure: str,
    cells: numpy.ndarray,
    counts: Mapping[str, int],
    families: int,
    confidence: float,
) -> list[Finding]:
    import numpy

    def test(left: Sequence[int]) -> list[tuple[float, float]]:
        part = cells[:, list(left)]
        far = abs(part.mean(axis=0) - part.mean())
        return list(zip(exchange_test(part), far.tolist(), strict=True))

    if len(cells) >= LEAST_TESTED:
        compared = step_down(len(groups), test, families)
    else:
        compared = {at: Compared(_without(range(len(groups)), at), None, None) for at in range(len(groups))}
    findings = []
    for place, group in enumerate(groups):
        one = compared[place]
        own, others = cells[:, place], cells[:, list(one.others)].mean(axis=1)
        sums = numpy.column_stack([own - others, numpy.ones(len(cells))])
        low, high = bootstrap(sums, lambda part: part[..., 0] / part[..., 1], confidence) or (None, None)
        rates = 100 * float(own.mean()), 100 * float(others.mean())
        findings.append(
            Finding(
                group, measure, rates[0] - rates[1], _percent(low), _percent(high), counts[group], 0.0, "points",
                one.p, one.p_adjusted, f"{_against(*rates)}, {plural(len(cells), 'template')}",
                {"rate": rates[0], "rate_of_others": rates[1], "templates": len(cells),
                 "others": [groups[at] for at in one.others]},
            )
        )  # fmt: skip
    return findings


def judge_column(cases: Sequence[Case], wrong: Sequence[bool | None], confidence: float) -> Result:
    """Return the error rates of each group less those of all other rows; the row is the independent unit.

    Where cases are positive or not, false negatives and false positives; else all errors. The test is Fisher's.
    """
    counts: dict[str, int] = {}
    for case in cases:
        counts[case.group] = counts.get(case.group, 0) + 1
    named = sorted(set(counts) - {""}, key=lambda group: (-counts[group], group))
    groups = sorted(named[:MOST_GROUPS])
    chosen = [
        (case, bool(error))
        for case, error in zip(cases, wrong, strict=True)
        if case.group in groups and error is not None
    ]
    left_out = {
        "names no group": counts.get("", 0),
        f"beyond the {MOST_GROUPS} largest groups": sum(counts[group] for group in named[MOST_GROUPS:]),
        "has no answer": sum(case.group in groups for case in cases) - len(chosen),
    }
    parts = {}
    for positive, measure in ((True, MISSED), (False, FALSE_ALARM), (None, ERROR)):
        part = {group: [error for case, error in chosen if (case.group, case.positive) == (group, positive)]
                for group in groups}  # fmt: skip
        parts[measure] = {group: errors for group, errors in part.items() if errors}
    whole = {measure: part for measure, part in parts.items() if len(part) > 1}
    if not whole:
        return Result(left_out=left_out, reason="there are no two groups to compare")
    findings = [
        finding for measure, part in whole.items() for finding in _of_rows(measure, part, len(whole), confidence)
    ]
    return Result(tuple(findings), left_out)


def _of_rows(measure: str, errors: Mapping[str, list[bool]], families: int, confidence: float) -> list[Finding]:
    groups = list(errors)
    counts = [(sum(part), len(part)) for part in errors.values()]

    def rest(left: Sequence[int], one: int) -> tuple[int, int]:
        others = [counts[at] for at in left if at != one]
        return sum(hits for hits, _ in others), sum(n for _, n in others)

    def test(left: Sequence[int]) -> list[tuple[float, float]]:
        pairs = [(counts[at], rest(left, at)) for at in left]
        return [(fisher(*own, *others), abs(own[0] / own[1] - others[0] / others[1])) for own, others in pairs]

    findings = []
    for place, one in sorted(step_down(len(groups), test, families).items()):
        own, others = counts[place], rest(one.others, -1)
        low, high = difference_interval(own, others, confidence)
        rates = 100 * own[0] / own[1], 100 * others[0] / others[1]
        findings.append(
            Finding(
                groups[place], measure, rates[0] - rates[1], 100 * low, 100 * high, own[1], 0.0, "points", one.p,
                one.p_adjusted, _against(*rates),
                {"rate": rates[0], "rate_of_others": rates[1], "rows_of_others": others[1],
                 "others": [groups[at] for at in one.others]},
            )
        )  # fmt: skip
    return findings


def _against(rate: float, others: float) -> str:
    return f"{rate:.1f} % against {others:.1f} % of the others"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
