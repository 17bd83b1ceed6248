"""Error rates by group: on templates that all groups share, or over the rows of a column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.audit.counterfactual import LEAST_TESTED
from finetune.audit.results import Finding, Result, corrected
from finetune.audit.significance import difference_interval, exchange_test, fisher
from finetune.evaluation.intervals import bootstrap
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
    the test exchanges the groups within them. Flagged is a group that is served worse: one that is makes all others
    look better, which is no finding about them. wrong: whether the answer to each case is; None: there is none.
    """
    groups = sorted({case.group for case in cases} - {""})
    findings: list[Finding] = []
    shared = 0
    for positive, measure in ((True, MISSED), (False, FALSE_ALARM)):
        chosen = [
            (case, error)
            for case, error in zip(cases, wrong, strict=True)
            if case.positive is positive and case.group and error is not None
        ]
        cells, counts = _cells([case for case, _ in chosen], [bool(error) for _, error in chosen], groups)
        shared += sum(counts.values())
        if len(cells):
            findings += _of_templates(groups, measure, cells, counts, confidence)
    left_out = {
        "names no group": sum(not case.group for case in cases),
        "its template lacks a group, or has no answer": sum(bool(case.group) for case in cases) - shared,
    }
    if not findings:
        return Result(left_out=left_out, reason="no template has a case of every group")
    return Result(corrected(findings), left_out)


def _cells(cases: Sequence[Case], wrong: Sequence[bool], groups: Sequence[str]) -> tuple[numpy.ndarray, dict[str, int]]:
    """Return the mean error by template and group, of whole templates, and the cases of each group in them."""
    import numpy

    found: dict[str, dict[str, list[bool]]] = {}
    for case, error in zip(cases, wrong, strict=True):
        found.setdefault(case.template, {}).setdefault(case.group, []).append(error)
    whole = [by_group for by_group in found.values() if len(by_group) == len(groups)]
    cells = [[float(numpy.mean(by_group[group])) for group in groups] for by_group in whole]
    return numpy.array(cells), {group: sum(len(by_group[group]) for by_group in whole) for group in groups}


def _of_templates(
    groups: Sequence[str], measure: str, cells: numpy.ndarray, counts: Mapping[str, int], confidence: float
) -> list[Finding]:
    import numpy

    findings = []
    tests = exchange_test(cells) if len(cells) >= LEAST_TESTED else [None] * len(groups)
    for place, group in enumerate(groups):
        own = cells[:, place]
        others = numpy.delete(cells, place, axis=1).mean(axis=1)
        sums = numpy.column_stack([own - others, numpy.ones(len(cells))])
        interval = bootstrap(sums, lambda part: part[..., 0] / part[..., 1], confidence)
        low, high = interval or (None, None)
        rates = 100 * float(own.mean()), 100 * float(others.mean())
        findings.append(
            Finding(
                group,
                measure,
                rates[0] - rates[1],
                _percent(low),
                _percent(high),
                counts[group],
                0.0,
                "points",
                tests[place],
                made_of=_against(*rates, f", {plural(len(cells), 'template')}"),
                detail={"rate": rates[0], "rate_of_others": rates[1], "templates": len(cells)},
                only_above=True,
            )
        )
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
    findings: list[Finding] = []
    for positive, measure in ((True, MISSED), (False, FALSE_ALARM), (None, ERROR)):
        part = [(case.group, error) for case, error in chosen if case.positive is positive]
        for group in groups:
            own = [error for name, error in part if name == group]
            others = [error for name, error in part if name != group]
            if own and others:
                findings.append(_of_rows(group, measure, own, others, confidence))
    if not findings:
        return Result(left_out=left_out, reason="there are no two groups to compare")
    return Result(corrected(findings), left_out)


def _of_rows(group: str, measure: str, own: list[bool], others: list[bool], confidence: float) -> Finding:
    rates = 100 * sum(own) / len(own), 100 * sum(others) / len(others)
    low, high = difference_interval((sum(own), len(own)), (sum(others), len(others)), confidence)
    p = fisher(sum(own), len(own), sum(others), len(others)) if len(own) >= LEAST_TESTED else None
    return Finding(
        group, measure, rates[0] - rates[1], 100 * low, 100 * high, len(own), 0.0, "points", p,
        made_of=_against(*rates, ""),
        detail={"rate": rates[0], "rate_of_others": rates[1], "rows_of_others": len(others)}, only_above=True,
    )  # fmt: skip


def _against(rate: float, others: float, more: str) -> str:
    return f"{rate:.1f} % against {others:.1f} % of the others{more}"


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share
