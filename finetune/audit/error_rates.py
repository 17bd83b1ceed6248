"""Error rates by group: on templates that all groups share, or over the rows of a column."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from finetune.audit.counterfactual import LEAST_TESTED
from finetune.audit.results import LEVEL, Finding, Result
from finetune.audit.significance import difference_interval, exchange_test, fisher
from finetune.evaluation.intervals import bootstrap
from finetune.runs.statistics import holm
from finetune.text import join_words, plural

if TYPE_CHECKING:
    import numpy

MISSED, FALSE_ALARM, ERROR = "false negatives", "false positives", "errors"
MOST_GROUPS = 20
LEAST_SHARE = 0.5  # of the templates of the group that has most


@dataclass(frozen=True)
class Case:
    """A row to be judged: who it is about, whether it is what the model looks for (None: any label), its template."""

    group: str
    positive: bool | None
    template: str = ""


def judge_templates(
    cases: Sequence[Case], wrong: Sequence[bool | None], confidence: float, least_share: float = LEAST_SHARE
) -> Result:
    """Return the false negative and false positive rates of each group less those of the others.

    Over the templates that have a case of every group, which are the independent unit: intervals resample them, and
    the test exchanges the groups within them. A group with less than `least_share` of the templates of the one that has
    most is left out, as hardly any template would be left. wrong: whether the answer to each case is; None: there is
    none.
    """
    answered = [(case, error) for case, error in zip(cases, wrong, strict=True) if case.group and error is not None]
    tables: dict[str, _Shared] = {}
    for positive, measure in ((True, MISSED), (False, FALSE_ALARM)):
        chosen = [(case, bool(error)) for case, error in answered if case.positive is positive]
        tables[measure] = _shared(chosen, least_share)
    rare: Counter[str] = Counter()
    for table in tables.values():
        rare.update(table.rare)
    left_out = {"names no group": sum(not case.group for case in cases)}
    if rare:
        left_out[f"of groups with too few templates ({join_words(sorted(rare), 'and')})"] = rare.total()
    used = sum(sum(table.counts.values()) for table in tables.values())
    left_out["its template lacks a group, or has no answer"] = len(cases) - sum(left_out.values()) - used
    whole = {measure: table for measure, table in tables.items() if len(table.cells) and len(table.groups) > 1}
    if not whole:
        return Result(left_out=left_out, reason="no template has a case of every group")
    findings: list[Finding] = []
    for measure, table in whole.items():
        findings += _of_templates(measure, table, len(whole), confidence)
    return Result(tuple(findings), left_out)


@dataclass(frozen=True)
class _Shared:
    """The templates that have a case of every group: cells holds the mean error, templates × groups.

    counts: the cases of each group in them. rare: those of the groups that were left out.
    """

    groups: tuple[str, ...]
    cells: numpy.ndarray
    counts: Mapping[str, int]
    rare: Mapping[str, int]


def _shared(answered: Sequence[tuple[Case, bool]], least_share: float) -> _Shared:
    import numpy

    found: dict[str, dict[str, list[bool]]] = {}
    for case, error in answered:
        found.setdefault(case.template, {}).setdefault(case.group, []).append(error)
    templates = Counter(group for by_group in found.values() for group in by_group)
    least = least_share * max(templates.values(), default=0)
    groups = tuple(sorted(group for group, count in templates.items() if count >= least))
    cases = Counter(case.group for case, _ in answered)
    whole = [by_group for by_group in found.values() if set(groups) <= set(by_group)]
    cells = [[float(numpy.mean(by_group[group])) for group in groups] for by_group in whole]
    counts = {group: sum(len(by_group[group]) for by_group in whole) for group in groups}
    return _Shared(groups, numpy.array(cells), counts, {group: cases[group] for group in set(cases) - set(groups)})


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


def _untested(count: int) -> dict[int, Compared]:
    return {at: Compared(_without(range(count), at), None, None) for at in range(count)}


def _of_templates(measure: str, table: _Shared, families: int, confidence: float) -> list[Finding]:
    import numpy

    groups, cells, counts = table.groups, table.cells, table.counts

    def test(left: Sequence[int]) -> list[tuple[float, float]]:
        part = cells[:, list(left)]
        far = abs(part.mean(axis=0) - part.mean())
        return list(zip(exchange_test(part), far.tolist(), strict=True))

    count = len(groups)
    compared = step_down(count, test, families) if len(cells) >= LEAST_TESTED else _untested(count)
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
    findings = []
    for place, one in sorted(_compared_rows(counts, families).items()):
        own, others = counts[place], _together(counts, one.others)
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


def _compared_rows(counts: Sequence[tuple[int, int]], families: int) -> dict[int, Compared]:
    """Compare the groups, given as (errors, rows); those of a handful of rows are neither tested nor among the others.

    So they are themselves shown against all.
    """
    enough = [at for at, (_, rows) in enumerate(counts) if rows >= LEAST_TESTED]

    def test(left: Sequence[int]) -> list[tuple[float, float]]:
        places = [enough[at] for at in left]
        pairs = [(counts[at], _together(counts, _without(places, at))) for at in places]
        return [(fisher(*own, *others), abs(own[0] / own[1] - others[0] / others[1])) for own, others in pairs]

    found = _untested(len(counts))
    for at, one in step_down(len(enough), test, families).items():
        found[enough[at]] = replace(one, others=tuple(enough[other] for other in one.others))
    return found


def _together(counts: Sequence[tuple[int, int]], groups: Sequence[int]) -> tuple[int, int]:
    return sum(counts[at][0] for at in groups), sum(counts[at][1] for at in groups)


def _against(rate: float, others: float) -> str:
    return f"{rate:.1f} % against {others:.1f} % of the others"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
