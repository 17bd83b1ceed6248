"""One worker of a sweep: takes trials from the common account, one after the other, until there is none left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace

from finetune.console import say
from finetune.errors import FinetuneError
from finetune.runs import formats
from finetune.runs.liveness import is_holder_alive, sign_of_life
from finetune.sweep.account import WITHDRAWN, Amount, Entry, fair_share, is_superfluous, trials, verdict
from finetune.sweep.asking import Question
from finetune.sweep.definition import Sweep
from finetune.sweep.space import overrides, size
from finetune.sweep.store import Store
from finetune.sweep.trial import Conditions, Launch, Outcome, run_trial, runs_of, spent_by
from finetune.sweep.turns import turn, wait_until_alone
from finetune.text import plural

_POLL_SECONDS = 1.0
_SIGN_SECONDS = 60.0
_USED_UP = "the space is used up: all its values were tried"
_LEAST_REST = 0.2
_MOST_REPEATS = 100  # draws in a row that were tried before: the space is used up

Forecast = Callable[[Sweep, Entry], tuple[Amount, Amount]]
"""What gives a trial's forecast, its high end, and what making that forecast took."""


@dataclass(frozen=True)
class Worker:
    """What a worker works with; `launch` and `forecast` start processes."""

    store: Store
    conditions: Conditions
    launch: Launch
    forecast: Forecast

    @property
    def sweep(self) -> Sweep:
        """Return the sweep that is worked on."""
        return self.store.sweep


@dataclass(frozen=True)
class Ending:
    """Why a worker ended: the exit code, and what to say about it."""

    code: int = 0
    reason: str | None = None


def work(worker: Worker) -> Ending:
    """Make trials until there are enough, the budget is over or a signal comes; failed trials leave the others be.

    Raises FinetuneError when the first trial fails before its training: all would.
    """
    while True:
        with nullcontext() if worker.conditions.allow_shared else turn():
            take_up_the_dead(worker)
            entry, ending = _next_entry(worker)
            if entry is None:
                return ending
            outcome = _make(worker, entry)
        if outcome.state == "interrupted":
            return Ending(outcome.code, "interrupted; the same command goes on")
        if outcome.state == "failed" and not outcome.trained and not _ever_trained(worker):
            settings = " ".join(overrides(worker.sweep.space, entry.params))
            raise FinetuneError(
                f"trial {entry.label} failed before its training began, and the others would as well: {outcome.reason}",
                f"Try it alone: finetune run {worker.sweep.recipe} {settings}",
            )


def take_up_the_dead(worker: Worker) -> None:
    """Give up the trials whose worker is gone, so that somebody goes on with them; what they used is written down."""
    for entry in worker.store.entries():
        if entry.state != "running" or _is_held(entry):
            continue
        runs = runs_of(worker.sweep, entry)
        if any(run.is_alive for run in runs.values()):
            continue  # it is saving its state still
        if _release(worker, entry):
            say(f"trial {entry.label}: its worker is gone; it goes on")


def _is_held(entry: Entry) -> bool:
    """Tell whether a worker is at a running trial; one that was drawn just now has not signed yet."""
    return entry.age_s < _SIGN_SECONDS if entry.holder is None else is_holder_alive(entry.holder)


def _release(worker: Worker, entry: Entry) -> bool:
    """Let a trial wait to be gone on with; False when another worker has seen to it."""
    runs = runs_of(worker.sweep, entry)
    spent = spent_by(runs)
    if not runs and entry.granted:
        spent = {f"trial-{entry.number}-elsewhere": None}
    try:
        worker.store.note(entry.number, spent=spent, runs={seed: run.run_id for seed, run in runs.items()})
    except RuntimeError:  # Optuna's word for a trial that is finished meanwhile
        return False
    known = next(each for each in worker.store.entries() if each.number == entry.number)
    return worker.store.give_up(known)


def _next_entry(worker: Worker) -> tuple[Entry | None, Ending]:
    """Return an entry of one's own whose reservation is granted, or why there is none."""
    store, sweep = worker.store, worker.sweep
    whole = size(sweep.space)
    for _ in range(_MOST_REPEATS):
        there = trials(store.entries())
        if whole is not None and len(there) >= whole and not any(entry.state == "waiting" for entry in there):
            return None, _done(there, None if whole == sweep.trials else _USED_UP)
        if len(there) >= sweep.trials and not any(entry.state == "waiting" for entry in there):
            return None, _done(there, None)
        entry = store.draw()
        store.note(entry.number, holder=sign_of_life())
        reason = is_superfluous(store.entries(), entry, sweep.trials)
        if reason is not None:
            _withdraw(store, entry, reason)
            continue
        if _is_within_budget(worker, entry):
            return next(each for each in store.entries() if each.number == entry.number), Ending()
        _withdraw(store, entry, "the budget is over")
        return None, Ending(0, "the budget leaves no room for another trial")
    return None, Ending(0, _USED_UP)


def _done(there: Sequence[Entry], reason: str | None) -> Ending:
    running = sum(entry.state == "running" for entry in there)
    still = f"{plural(running, 'trial is', 'trials are')} still made by other workers" if running else None
    return Ending(0, still or reason)


def _withdraw(store: Store, entry: Entry, reason: str) -> None:
    store.note(entry.number, fate=WITHDRAWN, reason=reason)
    store.finish(entry.number, "failed")


def _is_within_budget(worker: Worker, entry: Entry) -> bool:
    """Reserve the forecast of a trial and wait until it is granted; False when the budget does not hold so much."""
    store, budget = worker.store, worker.sweep.budget
    if not budget:
        store.note(entry.number, granted=True)
        return True
    forecast, overhead = worker.forecast(worker.sweep, entry)
    already = sum(filter(None, spent_by(runs_of(worker.sweep, entry)).values()), Amount())
    # A trial that goes on needs the rest, and does some work again.
    forecast = forecast.less(already).at_least(forecast.times(_LEAST_REST))
    store.note(entry.number, overhead=overhead)
    said = False
    while True:
        reserved = forecast.at_least(fair_share(store.entries(), entry, budget, worker.sweep.trials))
        store.note(entry.number, reserved=reserved, holder=sign_of_life())
        own = replace(entry, reserved=reserved)
        found = verdict(store.entries(), own, budget)
        if found == "begin":
            store.note(entry.number, granted=True)
            say(
                f"trial {entry.label}: {formats.energy(reserved.kwh)} reserved, {formats.energy(forecast.kwh)} forecast"
            )
            return True
        if found == "over":
            store.note(entry.number, reserved=None)
            return False
        if found == "step back":
            store.note(entry.number, reserved=None)
        if not said:
            say(f"trial {entry.label}: waiting for the reservations of other workers")
        said = True
        time.sleep(_POLL_SECONDS)
        take_up_the_dead(worker)


def _make(worker: Worker, entry: Entry) -> Outcome:
    """Make the runs of a trial and write down how it ended."""
    sweep, store = worker.sweep, worker.store
    settings = " ".join(overrides(sweep.space, entry.params))
    done = sum(not each.is_open for each in trials(store.entries()))
    say(f"trial {entry.label} ({done + 1} of {sweep.trials}): {settings}")
    question = Question(store.place, sweep.name, entry.number, sweep.objectives[0].name) if sweep.pruning else None
    with _signs_of_life(store, entry.number):
        if sweep.wants_energy and not worker.conditions.allow_shared:
            wait_until_alone()
        outcome = run_trial(sweep, entry, worker.conditions, question, worker.launch)
    spent = spent_by(outcome.runs)
    if len(spent) < len(sweep.seeds) and outcome.trained and outcome.state == "failed":
        spent |= {f"trial-{entry.number}-lost": None}
    store.note(
        entry.number, spent=spent, reason=outcome.reason, runs={seed: run.run_id for seed, run in outcome.runs.items()}
    )
    if outcome.state == "interrupted":
        _release(worker, entry)
    else:
        store.finish(entry.number, outcome.state, outcome.values)
        say(f"trial {entry.label}: {_words(sweep, outcome)}")
    return outcome


def _words(sweep: Sweep, outcome: Outcome) -> str:
    if outcome.state != "complete":
        return outcome.reason if outcome.state == "pruned" and outcome.reason else f"failed: {outcome.reason}"
    return ", ".join(
        formats.energy(value) if objective.is_energy else f"{objective.name} {formats.score_value(value)}"
        for objective, value in zip(sweep.objectives, outcome.values, strict=True)
    )


def _ever_trained(worker: Worker) -> bool:
    """Tell whether any trial of the sweep has come as far as its training."""
    return any(
        entry.state in ("complete", "pruned") or any(run.has_trained for run in runs_of(worker.sweep, entry).values())
        for entry in trials(worker.store.entries())
    )


@contextmanager
def _signs_of_life(store: Store, number: int) -> Iterator[None]:
    """Tell workers on other machines, which cannot ask for the process, that this one lives."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(_SIGN_SECONDS):
            store.note(number, holder=sign_of_life())

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
