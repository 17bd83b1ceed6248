"""The common account of a sweep's workers: which trials there are, what they spent and hold back. Pure.

Nobody locks it. A worker writes its reservation first and reads the account afterwards, so that of two who reserve at
one moment the later reader sees both; it begins only if everything that it sees fits into the budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from finetune.emissions.budget import Budget
from finetune.sweep.space import identity

State = Literal["waiting", "running", "complete", "pruned", "failed"]
_ROUNDED = 1 + 1e-9  # what is spent and a share of all that is left may add up to a little more than all
_FORECAST_SHARE = 0.1  # of a trial's share of the budget: held to be enough for a forecast until one is known
WITHDRAWN, CONTINUED = "withdrawn", "continued"
"""Fates of entries that are no trial of their own: never begun, or gone on with in a later entry."""


@dataclass(frozen=True)
class Amount:
    """Energy × PUE in kWh and grams of CO2e: what budgets count."""

    kwh: float = 0.0
    g: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.kwh + other.kwh, self.g + other.g)

    def times(self, factor: float) -> Amount:
        """Return so many times the amount."""
        return Amount(self.kwh * factor, self.g * factor)

    def less(self, other: Amount) -> Amount:
        """Return what is left of this amount, nothing at least."""
        return Amount(max(0.0, self.kwh - other.kwh), max(0.0, self.g - other.g))

    def at_least(self, other: Amount) -> Amount:
        """Return the larger of the two, in each unit."""
        return Amount(max(self.kwh, other.kwh), max(self.g, other.g))

    def fits(self, budget: Budget) -> bool:
        """Tell whether the budget allows so much."""
        return (budget.energy_kwh is None or self.kwh <= budget.energy_kwh * _ROUNDED) and (
            budget.emissions_g is None or self.g <= budget.emissions_g * _ROUNDED
        )


@dataclass(frozen=True)
class Entry:
    """One entry of the account.

    `label` is the number that people see, the same through all lives of a trial. `runs` are the ids of its runs by
    seed; `spent` is what each run has used, None where it is not known. `reserved` is what the trial may still need;
    `granted` says that it has begun. `overhead` is what its forecast took, or while it is made, and where it failed,
    what is held to be enough for it. `needed` is what a trial lacked that the budget had no room for. `holder` is the
    worker's sign of life, `age_s` the time since it was drawn.
    """

    number: int
    label: int
    state: State
    params: Mapping[str, Any] = field(default_factory=dict)
    values: tuple[float, ...] = ()
    fate: str | None = None
    reason: str | None = None
    runs: Mapping[str, str] = field(default_factory=dict)
    spent: Mapping[str, Amount | None] = field(default_factory=dict)
    reserved: Amount | None = None
    granted: bool = False
    overhead: Amount = Amount()
    needed: Amount | None = None
    holder: Mapping[str, Any] | None = None
    age_s: float = 0.0

    @property
    def is_trial(self) -> bool:
        """Tell whether the entry counts as one of the trials."""
        return self.fate is None

    @property
    def is_open(self) -> bool:
        """Tell whether the trial is still to be made, or being made."""
        return self.state in ("waiting", "running")


def trials(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that count, by their labels."""
    return sorted((entry for entry in entries if entry.is_trial), key=lambda entry: (entry.label, entry.number))


def spent(entries: Sequence[Entry]) -> Amount:
    """Return what all runs, failed and given up ones too, have used, and the forecasts; each run once.

    A run goes on in its own folder, so its later reading contains the earlier one. A run that ended without a known
    reading counts as what was held back for it.
    """
    runs: dict[str, Amount] = {}
    unknown = Amount()
    for entry in sorted(entries, key=lambda entry: entry.number):
        for run_id, amount in entry.spent.items():
            if amount is not None:
                runs[run_id] = amount
        if not entry.is_open and entry.reserved is not None and (None in entry.spent.values()):
            unknown += entry.reserved
    return sum([*runs.values(), unknown, *(entry.overhead for entry in entries)], Amount())


def held_back(entries: Iterable[Entry]) -> Amount:
    """Return what is reserved for trials that are being made or about to begin."""
    return sum((entry.reserved for entry in entries if entry.is_open and entry.reserved is not None), Amount())


def is_superfluous(entries: Sequence[Entry], own: Entry, wanted: int) -> str | None:
    """Return why an entry that was just drawn must not be made: too many, or the same values once more; or None.

    Of several workers that draw at one moment, all see the same entries, and those of the lowest numbers stay.
    """
    before = [entry for entry in entries if entry.is_trial and entry.number < own.number]
    if len(before) >= wanted:
        return "there are enough trials"
    if any(identity(entry.params) == identity(own.params) for entry in before):
        return "these values were tried before"
    return None


def fair_share(entries: Sequence[Entry], own: Entry, budget: Budget, wanted: int) -> Amount:
    """Return a trial's part of what is neither spent nor held back by others, if all trials to come had as much.

    A forecast may be too low: where the budget is ample, a trial that holds back its share is not cut short by that.
    """
    others = [entry for entry in entries if entry.number != own.number]
    gone = spent(entries) + held_back(others)
    to_come = max(1, wanted - sum(entry.granted or not entry.is_open for entry in trials(others)))
    limits = (budget.energy_kwh or 0.0), (budget.emissions_g or 0.0)
    return Amount(*limits).less(gone).times(1 / to_come)


def forecast_cost(entries: Sequence[Entry], own: Entry, budget: Budget, wanted: int) -> Amount:
    """Return what to hold back for a forecast: as much as the dearest so far, of the first a part of a fair share."""
    known = [entry.overhead for entry in entries if entry.granted and entry.overhead != Amount()]
    if not known:
        return fair_share(entries, own, budget, wanted).times(_FORECAST_SHARE)
    return Amount(max(amount.kwh for amount in known), max(amount.g for amount in known))


def is_exhausted(entries: Sequence[Entry], budget: Budget) -> bool:
    """Tell whether the last trial that found no room would find none now: nothing is drawn, or tried, until it does."""
    lacking = [entry.needed for entry in entries if entry.needed is not None]
    return bool(budget and lacking) and not (spent(entries) + lacking[-1]).fits(budget)


Verdict = Literal["begin", "step back", "wait", "over"]


def verdict(entries: Sequence[Entry], own: Entry, budget: Budget) -> Verdict:
    """Return what a worker does with the reservation that it has written.

    It begins if all that is spent and held back fits. If not, the one with the lowest number among those that have not
    begun waits for others to end with less than they held back, and the others step back for it. Where nobody else
    holds anything, the budget is over.
    """
    others = [entry for entry in entries if entry.number != own.number]
    assert own.reserved is not None
    if (spent(entries) + held_back(others) + own.reserved).fits(budget):
        return "begin"
    holding = [entry for entry in others if entry.is_open and entry.reserved is not None]
    if not holding:
        return "over"
    return "step back" if any(not entry.granted and entry.number < own.number for entry in holding) else "wait"


def front(entries: Iterable[Entry], greater_is_better: Sequence[bool]) -> list[Entry]:
    """Return the finished trials that no other one beats: at least as good in everything, better in something."""
    finished = [entry for entry in entries if entry.state == "complete" and entry.is_trial and entry.values]
    worth = {
        entry.number: [value if up else -value for value, up in zip(entry.values, greater_is_better, strict=True)]
        for entry in finished
    }

    def beats(rival: Entry, entry: Entry) -> bool:
        ours, theirs = worth[rival.number], worth[entry.number]
        return ours != theirs and all(ours[place] >= theirs[place] for place in range(len(ours)))

    unbeaten = [entry for entry in finished if not any(beats(rival, entry) for rival in finished)]
    return sorted(unbeaten, key=lambda entry: (worth[entry.number], -entry.label), reverse=True)
