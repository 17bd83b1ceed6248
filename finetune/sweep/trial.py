"""One trial: an ordinary run for each seed, in processes of their own, and what came of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Literal

from finetune.emissions.budget import Budget
from finetune.recipe.load import check_recipe
from finetune.runs.compare import reasons_not_ranked
from finetune.runs.energy_ratio import ranked_kwh
from finetune.runs.record import Run, as_number
from finetune.sweep.account import Amount, Entry
from finetune.sweep.asking import Question, as_option
from finetune.sweep.definition import Sweep
from finetune.sweep.members import newest_member
from finetune.sweep.space import overrides
from finetune.text import join_words
from finetune.training.interrupts import interruption
from finetune.training.recorded import changed_keys, recipe_as_recorded
from finetune.training.stopping import PRUNED
from finetune.training.words import Request, member_command, seed_settings

TRIAL_TAG = "trial"
_CUT_SHORT = ("energy budget", "carbon budget")

Launch = Callable[[list[str], Mapping[str, object], int | None, bool], tuple[int, int | None]]
"""What starts the processes of a run: finetune.training.launch.launch_until_told."""


@dataclass(frozen=True)
class Conditions:
    """Under which every trial of a worker is made; `request` holds the options of its command line."""

    request: Request
    allow_shared: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a trial ended. `interrupted`: a signal, told to whoever started the worker by `code`."""

    state: Literal["complete", "pruned", "failed", "interrupted"]
    values: tuple[float, ...] = ()
    reason: str | None = None
    code: int = 0
    trained: bool = True
    runs: Mapping[str, Run] = field(default_factory=dict)


def run_name(sweep: Sweep, entry: Entry, seed: int) -> str:
    """Return what the run of a seed of a trial is called."""
    return f"{sweep.name}-{entry.label:03d}" + (f"-s{seed}" if len(sweep.seeds) > 1 else "")


def run_trial(sweep: Sweep, entry: Entry, conditions: Conditions, question: Question | None, launch: Launch) -> Outcome:
    """Make the runs of a trial that are not finished yet, one after the other, and return what came of them all."""
    codes: list[int] = []
    before = _total(runs_of(sweep, entry))
    for seed in sweep.seeds:
        run = find_run_of(sweep, entry, seed)
        if run is not None and run.is_finished:
            continue
        limit = _limit(sweep, entry, run, before)
        words, options = _command(sweep, entry, seed, run, replace(conditions.request, budget=limit))
        options = {**options, "trial": as_option(question)}
        code, signum = launch(words, options, conditions.request.processes, False)
        codes.append(code)
        ended_by_signal = interruption(code, signum)
        if ended_by_signal is not None:
            found = runs_of(sweep, entry)
            if unfinished_seeds(sweep, found):
                return Outcome("interrupted", code=ended_by_signal, runs=found)
        if code:
            break
    return outcome(sweep, runs_of(sweep, entry), conditions.allow_shared, next((code for code in codes if code), 0))


def outcome(sweep: Sweep, runs: Mapping[str, Run], allow_shared: bool, code: int) -> Outcome:
    """Return how a trial ended by the records of its runs (by seed); `code` is the exit code of the one that failed."""
    failed = next((run for run in runs.values() if not run.is_finished), None)
    if code or len(runs) < len(sweep.seeds) or failed is not None:
        reason = failed.status_reason if failed is not None else None
        trained = any(run.has_trained for run in runs.values())
        return Outcome("failed", reason=reason or f"the run ended with exit code {code}", trained=trained, runs=runs)
    stopped = next((run.status_reason or "" for run in runs.values() if run.status == "stopped"), "")
    if stopped.startswith(PRUNED):
        return Outcome("pruned", reason=stopped, runs=runs)
    if stopped.startswith(_CUT_SHORT):
        return Outcome("failed", reason=f"cut short: {stopped}", runs=runs)
    values = []
    for objective in sweep.objectives:
        read = _energies(runs, allow_shared) if objective.is_energy else _scores(runs, objective.name)
        if isinstance(read, str):
            return Outcome("failed", reason=read, runs=runs)
        values.append(fmean(read))
    return Outcome("complete", tuple(values), runs=runs)


def spent_by(runs: Mapping[str, Run]) -> dict[str, Amount | None]:
    """Return what budgets count of each run, by its id; None where it was not measured."""
    found: dict[str, Amount | None] = {}
    for run in runs.values():
        kwh, grams = run.energy_kwh(), run.emissions_g()
        pue = as_number(run.emissions.get("pue")) or 1.0
        found[run.run_id] = None if kwh is None or grams is None else Amount(kwh * pue, grams)
    return found


def runs_of(sweep: Sweep, entry: Entry) -> dict[str, Run]:
    """Return the runs of a trial that this machine can see, by their seeds."""
    found = {str(seed): find_run_of(sweep, entry, seed) for seed in sweep.seeds}
    return {seed: run for seed, run in found.items() if run is not None}


def find_run_of(sweep: Sweep, entry: Entry, seed: int) -> Run | None:
    """Return the newest run of a seed of a trial in the sweep's output folder, None where there is none to be seen.

    One that the account does not name must have been made with the trial's values: a sweep of that name may have been
    here before.
    """
    folder, known = Path(sweep.loaded.recipe.output_dir), entry.runs.get(str(seed))

    def is_own(run: Run) -> bool:
        loaded = check_recipe(sweep.recipe, [*settings_of(sweep, entry), *seed_settings(seed)]).loaded
        if loaded is None or run.directory is None:
            return False
        return not changed_keys(run.recipe, recipe_as_recorded(loaded.recipe, run.directory))

    return newest_member(folder, run_name(sweep, entry, seed), sweep.name, known, is_own)


def settings_of(sweep: Sweep, entry: Entry) -> list[str]:
    """Return what a trial sets in the recipe, as a command line has it."""
    return overrides(sweep.space, entry.params)


def _command(
    sweep: Sweep, entry: Entry, seed: int, run: Run | None, request: Request
) -> tuple[list[str], dict[str, object]]:
    tags = [*sweep.loaded.recipe.tags, TRIAL_TAG]
    named = [f"name={run_name(sweep, entry, seed)}", f"tags=[{', '.join(tags)}]"]
    return member_command(sweep.recipe, [*settings_of(sweep, entry), *named], seed, sweep.name, run, request)


def _limit(sweep: Sweep, entry: Entry, run: Run | None, before: Amount) -> Budget:
    """Return what a run may spend in all its lives: what it has, and what is left of the trial's reservation."""
    if entry.reserved is None:
        return Budget()
    used = _total(runs_of(sweep, entry)).less(before)
    whole = entry.reserved.less(used) + (_total({"": run}) if run is not None else Amount())
    budget = sweep.budget
    return Budget(
        whole.kwh if budget.energy_kwh is not None else None, whole.g if budget.emissions_g is not None else None
    )


def _total(runs: Mapping[str, Run]) -> Amount:
    return sum((amount for amount in spent_by(runs).values() if amount is not None), Amount())


def _scores(runs: Mapping[str, Run], metric: str) -> list[float] | str:
    scores = [run.score(metric, "validation") for run in runs.values()]
    values = [score.value for score in scores if score is not None]
    return values if len(values) == len(runs) else f"no score of {metric} on validation"


def _energies(runs: Mapping[str, Run], allow_shared: bool) -> list[float] | str:
    values = []
    for run in runs.values():
        kwh = ranked_kwh(run)
        seen = replace(run, emissions={**run.emissions, "shared_with": []}) if allow_shared else run
        if reasons := reasons_not_ranked(seen, kwh is not None):
            return f"its energy is no objective: {join_words(reasons, 'and')}"
        values.append(kwh or 0.0)
    return values


def unfinished_seeds(sweep: Sweep, runs: Mapping[str, Run]) -> Sequence[int]:
    """Return the seeds whose run is not finished."""
    return [seed for seed in sweep.seeds if str(seed) not in runs or not runs[str(seed)].is_finished]
