"""What a trial holds back of the budget before it begins: first for its forecast, then for itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from finetune.console import say
from finetune.errors import FinetuneError
from finetune.runs import formats
from finetune.sweep.account import Amount, Entry, fair_share, forecast_cost, verdict
from finetune.sweep.definition import Sweep
from finetune.sweep.life import take_up_the_dead
from finetune.sweep.store import Store
from finetune.sweep.trial import runs_of, spent_by

_POLL_SECONDS = 1.0
_LEAST_REST = 0.2

Forecast = Callable[[Sweep, Entry], tuple[Amount | None, Amount]]
"""What gives a trial's forecast, its high end (None where no energy is measured), and what making it took."""


class NothingMeasured(FinetuneError):
    """There is a budget, and no energy that could be held against it: no fault of a trial."""


def reserve(store: Store, entry: Entry, forecast: Forecast) -> bool:
    """Reserve the forecast of a trial and wait until it is granted; False when the budget does not hold so much.

    Raises NothingMeasured, and FinetuneError when the forecast fails, which is a fault of the trial.
    """
    budget, wanted = store.sweep.budget, store.sweep.trials
    if not budget:
        store.note(entry.number, granted=True)
        return True
    asking = forecast_cost(store.entries(), entry, budget, wanted)
    if not _hold(store, entry, asking, lambda entries: asking):
        return False
    # Counted as spent from here on: so it stays, should the forecast fail or this worker be killed.
    store.note(entry.number, overhead=asking, reserved=None)
    high, overhead = forecast(store.sweep, entry)
    store.note(entry.number, overhead=overhead)
    if high is None:
        raise NothingMeasured(
            "a budget for the sweep needs a measured energy, and nothing is measured on this machine",
            "finetune doctor says why; without max_energy_kwh and max_emissions_g the sweep runs all the same.",
        )
    already = sum(filter(None, spent_by(runs_of(store.sweep, entry)).values()), Amount())
    # A trial that goes on needs the rest, and does some work again.
    needed = high.less(already).at_least(high.times(_LEAST_REST))
    if not _hold(store, entry, needed, lambda entries: needed.at_least(fair_share(entries, entry, budget, wanted))):
        return False
    store.note(entry.number, granted=True)
    reserved = store.entry(entry.number).reserved or needed
    say(f"trial {entry.label}: {formats.energy(reserved.kwh)} reserved, {formats.energy(needed.kwh)} forecast")
    return True


def _hold(store: Store, entry: Entry, needed: Amount, amount: Callable[[Sequence[Entry]], Amount]) -> bool:
    """Hold an amount back once it fits beside what others hold; False, with `needed` on record, when it never will."""
    said = False
    while True:
        reserved = amount(store.entries())
        store.note(entry.number, reserved=reserved)
        found = verdict(store.entries(), replace(entry, reserved=reserved), store.sweep.budget)
        if found == "begin":
            return True
        if found == "over":
            store.note(entry.number, reserved=None, needed=needed)
            return False
        if found == "step back":
            store.note(entry.number, reserved=None)
        if not said:
            say(f"trial {entry.label}: waiting for the reservations of other workers")
        said = True
        time.sleep(_POLL_SECONDS)
        take_up_the_dead(store)
