"""One worker of a sweep: takes trials from the common account, one after the other, until there is none left."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from finetune.console import say
from finetune.errors import FinetuneError
from finetune.recipe.load import load_recipe
from finetune.runs import formats
from finetune.runs.liveness import sign_of_life
from finetune.sweep.account import WITHDRAWN, Entry, is_exhausted, is_superfluous, trials
from finetune.sweep.asking import Question
from finetune.sweep.definition import Sweep
from finetune.sweep.life import release, signs_of_life, take_up_the_dead, wait_for_earlier_draws
from finetune.sweep.reserving import Forecast, NothingMeasured, reserve
from finetune.sweep.space import size
from finetune.sweep.store import Store, TakenOver
from finetune.sweep.trial import Conditions, Launch, Outcome, run_trial, runs_of, settings_of, spent_by
from finetune.sweep.turns import turn, wait_until_alone
from finetune.text import plural

_USED_UP = "the space is used up: all its values were tried"
_NO_ROOM = "the budget leaves no room for another trial"
_MOST_REPEATS = 100  # draws in a row that were tried before
_ALL_REPEATS = f"{_MOST_REPEATS} draws in a row were tried before: another sampler, or a larger space, may find others"
_HOPELESS = 3  # trials in a row that fail alike before their training, when none ever trained


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

    Raises FinetuneError when no energy is measured that a budget needs, and when the first trials all fail before their
    training for one reason: the others would as well.
    """
    in_vain: list[str] = []
    while True:
        try:
            with nullcontext() if worker.conditions.allow_shared else turn():
                take_up_the_dead(worker.store)
                entry, ending = _next_entry(worker)
                if entry is None:
                    return ending
                outcome = _make(worker, entry)
        except TakenOver:
            say("another worker took this one for dead and goes on with its trial")
            continue
        if outcome is None:
            return Ending(0, _NO_ROOM)
        if outcome.state == "interrupted":
            return Ending(outcome.code, "interrupted; the same command goes on")
        in_vain = [*in_vain, outcome.reason or ""] if outcome.state == "failed" and not outcome.trained else []
        if len(in_vain) == _HOPELESS and len(set(in_vain)) == 1 and not _ever_trained(worker):
            settings = " ".join(settings_of(worker.sweep, entry))
            raise FinetuneError(
                f"{_HOPELESS} trials failed before their training began, and the others would as well: {in_vain[0]}",
                f"Try the last one alone: finetune run {worker.sweep.recipe} {settings}. "
                "The same command then goes on with the others.",
            )
        in_vain = in_vain[1 - _HOPELESS :]


def _next_entry(worker: Worker) -> tuple[Entry | None, Ending]:
    """Return an entry of one's own that counts and that the recipe's rules allow, or why there is none."""
    store, sweep = worker.store, worker.sweep
    whole, repeats = size(sweep.space), 0
    enough = sweep.trials if whole is None else min(whole, sweep.trials)
    while True:
        entries = store.entries()
        there = trials(entries)
        if len(there) >= enough and not any(entry.state == "waiting" for entry in there):
            return None, _done(there, _USED_UP if enough < sweep.trials else None)
        if is_exhausted(entries, sweep.budget):
            return None, Ending(0, _NO_ROOM)
        if repeats == _MOST_REPEATS and whole is None:
            return None, Ending(0, _ALL_REPEATS)
        if repeats == _MOST_REPEATS:
            if not store.enqueue_untried():
                return None, _done(there, _USED_UP)
            repeats = 0
        entry = store.draw()
        store.note(entry.number, holder=sign_of_life())
        wait_for_earlier_draws(store, entry)
        if reason := is_superfluous(store.entries(), entry, sweep.trials):
            _withdraw(store, entry, reason)
            repeats += 1
        elif fault := _recipe_fault(sweep, entry):
            _write_down(worker, entry, Outcome("failed", reason=fault, trained=False, runs=runs_of(sweep, entry)))
        else:
            return entry, Ending()


def _done(there: Sequence[Entry], reason: str | None) -> Ending:
    running = sum(entry.state == "running" for entry in there)
    if running:
        return Ending(0, f"{plural(running, 'trial is', 'trials are')} still made by other workers")
    if all(entry.state == "failed" for entry in there):
        return Ending(1, f"no trial was finished: {plural(len(there), 'trial')} failed")
    return Ending(0, reason)


def _step_back(store: Store, entry: Entry) -> None:
    """Leave a trial that the budget has no room for: one that has runs waits for more, others would be drawn again."""
    if entry.runs:
        release(store, entry)
    else:
        _withdraw(store, entry, "the budget is over")


def _withdraw(store: Store, entry: Entry, reason: str) -> None:
    store.note(entry.number, fate=WITHDRAWN, reason=reason)
    store.finish(entry.number, "failed")


def _recipe_fault(sweep: Sweep, entry: Entry) -> str | None:
    """Return what the rules of a recipe have against the values of a trial."""
    try:
        load_recipe(sweep.recipe, settings_of(sweep, entry))
    except FinetuneError as error:
        return _in_one_line(error)
    return None


def _make(worker: Worker, entry: Entry) -> Outcome | None:
    """Reserve what a trial needs, make its runs and write down how it ended; None when the budget has no room for it.

    A forecast that fails fails its trial alone. Raises NothingMeasured.
    """
    store, sweep = worker.store, worker.sweep
    with signs_of_life(store, entry):
        try:
            has_room = reserve(store, entry, worker.forecast)
        except NothingMeasured:
            release(store, entry)
            raise
        except FinetuneError as error:
            outcome = Outcome("failed", reason=_in_one_line(error), trained=False, runs=runs_of(sweep, entry))
        else:
            if not has_room:
                _step_back(store, entry)
                return None
            outcome = _run(worker, store.entry(entry.number))
    _write_down(worker, entry, outcome)
    return outcome


def _run(worker: Worker, entry: Entry) -> Outcome:
    """Make the runs of a trial whose reservation is granted."""
    sweep, store = worker.sweep, worker.store
    done = sum(not each.is_open for each in trials(store.entries()))
    say(f"trial {entry.label} ({done + 1} of {sweep.trials}): {' '.join(settings_of(sweep, entry))}")
    question = Question(store.place, sweep.name, entry.number, sweep.objectives[0].name) if sweep.pruning else None
    if sweep.wants_energy and not worker.conditions.allow_shared:
        wait_until_alone()
    return run_trial(sweep, entry, worker.conditions, question, worker.launch)


def _write_down(worker: Worker, entry: Entry, outcome: Outcome) -> None:
    sweep, store = worker.sweep, worker.store
    spent = spent_by(outcome.runs)
    if len(spent) < len(sweep.seeds) and outcome.trained and outcome.state == "failed":
        spent |= {f"trial-{entry.number}-lost": None}
    store.note(
        entry.number, spent=spent, reason=outcome.reason, runs={seed: run.run_id for seed, run in outcome.runs.items()}
    )
    if outcome.state == "interrupted":
        release(store, entry)
    else:
        store.finish(entry.number, outcome.state, outcome.values)
        say(f"trial {entry.label}: {_words(sweep, outcome)}")


def _in_one_line(error: FinetuneError) -> str:
    return "; ".join(line.strip() for line in error.message.splitlines())


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
