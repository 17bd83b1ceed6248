"""What a sweep says at its end: the trials, the best or the front, what all of them used, what pruning saved."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.runs import formats
from finetune.runs.record import Run
from finetune.runs.report import output_dir_option
from finetune.runs.tables import Column, one_line, plain, text_table
from finetune.runs.total import total_energy
from finetune.sweep.account import Amount, Entry, front, spent, trials
from finetune.sweep.definition import Sweep
from finetune.sweep.forecast import saved_by_pruning_kwh
from finetune.sweep.space import overrides
from finetune.sweep.trial import runs_of, spent_by
from finetune.text import join_words, plural

_STATES = ("complete", "pruned", "failed", "running", "waiting")


@dataclass(frozen=True)
class Report:
    """A sweep as it stands: its entries, and the runs of its trials that this machine can see, by entry number."""

    sweep: Sweep
    entries: tuple[Entry, ...]
    runs: Mapping[int, Mapping[str, Run]]

    @property
    def trials(self) -> list[Entry]:
        """Return the trials by their labels."""
        return trials(self.entries)

    @property
    def best(self) -> list[Entry]:
        """Return the best trial, or with two objectives the front, the best in the first one first."""
        found = front(self.entries, [each.greater_is_better for each in self.sweep.objectives])
        return found if len(self.sweep.objectives) > 1 else found[:1]


def make_report(sweep: Sweep, entries: Sequence[Entry]) -> Report:
    """Read the runs of all trials, those that were given up included."""
    return Report(
        sweep, tuple(entries), {entry.number: runs_of(sweep, entry) for entry in entries if _has_begun(entry)}
    )


def totals(report: Report) -> dict[str, Any]:
    """Return what all runs used, each second of a machine once, with what other machines' runs and forecasts took.

    `energy_kwh` is IT energy like that of a run; `budget_kwh` is what budgets count: × PUE, in all entries.
    """
    runs = {run.run_id: run for runs in report.runs.values() for run in runs.values()}
    seen = total_energy(list(runs.values()))
    known = set().union(*(spent_by({run_id: run}) for run_id, run in runs.items()), ())
    elsewhere: dict[str, Amount | None] = {}
    for entry in report.entries:
        elsewhere |= {run_id: amount for run_id, amount in entry.spent.items() if run_id not in known}
    there = sum(filter(None, elsewhere.values()), Amount())
    overhead = sum((entry.overhead for entry in report.entries), Amount())
    pruned = [run for entry in report.trials if entry.state == "pruned" for run in report.runs[entry.number].values()]
    saved = [saved_by_pruning_kwh(run) for run in pruned]
    counted = spent(report.entries)
    unread = seen["without_reading"] + seen["incomplete"] + sum(amount is None for amount in elsewhere.values())
    return {
        "runs": len(runs) + len(elsewhere),
        "energy_kwh": None if seen["energy_kwh"] is None and not elsewhere else (seen["energy_kwh"] or 0.0) + there.kwh,
        "emissions_g": None
        if seen["emissions_g"] is None and not elsewhere
        else (seen["emissions_g"] or 0.0) + there.g,
        "is_lower_bound": bool(unread),
        "metered_twice_kwh": seen["metered_twice_kwh"],
        "forecasts_kwh": overhead.kwh,
        "budget_kwh": counted.kwh,
        "budget_g": counted.g,
        "saved_by_pruning_kwh": None if None in saved or not saved else sum(value or 0.0 for value in saved),
    }


def to_json(report: Report, reason: str | None = None) -> dict[str, Any]:
    """Return the sweep for programs."""
    sweep = report.sweep
    return {
        "sweep": sweep.name,
        "group": sweep.name,
        "output_dir": str(sweep.loaded.recipe.output_dir),
        "objectives": [
            {"name": each.name, "greater_is_better": each.greater_is_better, "split": None if each.is_energy
             else "validation"} for each in sweep.objectives
        ],
        "trials": [
            {"trial": entry.label, "state": entry.state, "values": list(entry.values) or None,
             "settings": dict(entry.params), "reason": entry.reason, "runs": dict(entry.runs)}
            for entry in report.trials
        ],
        "best": [entry.label for entry in report.best],
        "max_energy_kwh": sweep.budget.energy_kwh,
        "max_emissions_g": sweep.budget.emissions_g,
        "stopped_because": reason,
        **totals(report),
    }  # fmt: skip


def to_text(report: Report, reason: str | None = None) -> str:
    """Return the closing lines for people."""
    sweep, total = report.sweep, totals(report)
    found = report.trials
    counts = [(state, sum(entry.state == state for entry in found)) for state in _STATES]
    title = one_line(f"{sweep.name}: {len(found)} of {plural(sweep.trials, 'trial')}")
    states = join_words([f"{number} {state}" for state, number in counts if number], "and")
    lines = [title + (f" ({states})" if states else ""), "", _table(report), ""]
    lines += [f"failed   trial {entry.label}: {entry.reason}" for entry in found if entry.state == "failed"]
    if reason:
        lines.append(f"ended    {reason}")
    lines += _best_lines(report)
    bound = "at least " if total["is_lower_bound"] and total["energy_kwh"] is not None else ""
    lines.append(
        f"energy   {bound}{formats.energy(total['energy_kwh'])}, {bound}{formats.grams(total['emissions_g'])} CO2e in "
        f"{plural(total['runs'], 'run')}, failed and pruned ones included"
    )
    lines += _budget_lines(sweep, total)
    pruned = sum(entry.state == "pruned" for entry in found)
    if pruned:
        saved = total["saved_by_pruning_kwh"]
        words = "not known: a run made no forecast" if saved is None else f"about {formats.energy(saved)} saved"
        lines.append(f"pruning  {words}, by the forecasts of {plural(pruned, 'pruned trial')}")
    lines += _next_lines(report)
    return plain("\n".join(lines))


def print_report(report: Report, reason: str | None, as_json: bool) -> None:
    """Print the sweep on stdout."""
    print(json.dumps(to_json(report, reason), indent=2) if as_json else "\n" + to_text(report, reason))


def _has_begun(entry: Entry) -> bool:
    return entry.state != "waiting" or bool(entry.runs)


def _table(report: Report) -> str:
    sweep, found = report.sweep, report.trials
    marks = {entry.number for entry in report.best}
    columns = [
        Column("trial", [f"{entry.label}{' *' if entry.number in marks else ''}" for entry in found]),
        Column("state", [entry.state for entry in found]),
    ]
    for place, objective in enumerate(sweep.objectives):
        words = formats.energy if objective.is_energy else formats.score_value
        heading = "energy" if objective.is_energy else objective.name
        cells = [words(entry.values[place]) if entry.values else "–" for entry in found]
        columns.append(Column(heading, cells, right=True))
    for parameter in (each for each in sweep.space if each.varies):
        cells = [_cell(entry.params.get(parameter.key, "–")) for entry in found]
        columns.append(Column(parameter.key.rpartition(".")[2], cells, right=True))
    return text_table(columns)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return formats.significant(value)
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _best_lines(report: Report) -> list[str]:
    if not report.best:
        return ["best     none: no trial was finished"]
    labels = join_words([str(entry.label) for entry in report.best], "and")
    if len(report.sweep.objectives) > 1:
        return [f"front    trials {labels} (*): none is better in both; finetune compare says which differences hold"]
    entry, objective = report.best[0], report.sweep.objectives[0]
    value = formats.energy(entry.values[0]) if objective.is_energy else formats.score_value(entry.values[0])
    return [f"best     trial {labels} (*): {objective.name}{'' if objective.is_energy else ' on validation'} {value}"]


def _budget_lines(sweep: Sweep, total: Mapping[str, Any]) -> list[str]:
    lines = []
    if sweep.budget.energy_kwh is not None:
        used, allowed = formats.energy(total["budget_kwh"]), formats.energy(sweep.budget.energy_kwh)
        lines.append(f"budget   {used} of {allowed}, PUE and forecasts included")
    if sweep.budget.emissions_g is not None:
        used, allowed = formats.grams(total["budget_g"]), formats.grams(sweep.budget.emissions_g)
        lines.append(f"budget   {used} of {allowed}, forecasts included")
    return lines


def _next_lines(report: Report) -> list[str]:
    sweep, folder = report.sweep, Path(report.sweep.loaded.recipe.output_dir)
    where = output_dir_option(folder)
    lines = [f"next     finetune compare {sweep.name}{where}"]
    for entry in report.best[:1]:
        settings = shlex.join(overrides(sweep.space, entry.params))
        lines.append(
            f"         finetune run {sweep.recipe} {settings} trains the best again, and scores its test split"
        )
    return lines
