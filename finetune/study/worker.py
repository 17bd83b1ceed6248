"""Make the runs of a study that are not there yet, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

from finetune.console import say
from finetune.errors import FinetuneError
from finetune.runs import formats
from finetune.runs.cleaning import removable_checkpoints, remove
from finetune.runs.record import Run
from finetune.study.definition import Study
from finetune.study.plan import (
    Member,
    State,
    number_of_cells,
    read_state,
    require_different_rows,
    require_same_settings,
    search_members,
)
from finetune.sweep.asking import as_option
from finetune.sweep.members import newest_member
from finetune.sweep.trial import Conditions, Launch
from finetune.sweep.turns import turn, wait_until_alone
from finetune.training.interrupts import interruption
from finetune.training.words import member_command


@dataclass(frozen=True)
class Ending:
    """Why the work ended: the exit code, what to say about it, and what came of the runs that failed, by name."""

    code: int
    reason: str | None
    failed: Mapping[str, str]


def work(study: Study, conditions: Conditions, launch: Launch, wait: Callable[[], None] = wait_until_alone) -> Ending:
    """Make the missing runs, searches first; one that fails leaves the others be.

    Runs take turns with those of other studies and sweeps on this machine, since two at once would each meter all of
    it. Raises FinetuneError when a run was made with other settings, when the data has too few rows to tell amounts
    apart, and when the first run fails before its training: all would.
    """
    failed: dict[str, str] = {}
    checked: set[str] = set()
    while True:
        with nullcontext() if conditions.allow_shared else turn():
            state = read_state(study, failed)
            require_same_settings(state, checked)
            require_different_rows(state)
            checked |= {each.run_id for _, each in state.members if each is not None}
            found = _next(state, failed)
            if found is None:
                return Ending(0, _elsewhere(state), failed)
            if not conditions.allow_shared:
                wait()
            member, before = found
            say(_title(member, state))
            code, signum = launch(*_command(member, before, conditions), conditions.request.processes, False)
            run = newest_member(study.output_dir, member.name, study.name)
            if run is not None and run.is_finished:
                say(f"{member.name}: {_outcome(run)}")
                _drop_checkpoints(run)
        if run is not None and run.is_finished and not code and signum is None:
            continue
        ended_by_signal = interruption(code, signum)
        if ended_by_signal is not None:
            return Ending(ended_by_signal, "interrupted; the same command goes on", failed)
        failed[member.name] = (run.status_reason if run is not None else None) or f"ended with exit code {code}"
        say(f"{member.name}: failed: {failed[member.name]}")
        if not any(each is not None and each.has_trained for _, each in (*state.members, (member, run))):
            raise FinetuneError(
                f"{member.name} failed before its training began, and the others would as well: {failed[member.name]}",
                f"Try it alone: finetune run {study.recipe} {' '.join(member.settings)}",
            )


def _next(state: State, failed: Mapping[str, str]) -> tuple[Member, Run | None] | None:
    """Return the next member to be made, or to go on; one that another process is at is left to it."""
    for member, run in state.members:
        is_done = run is not None and run.is_finished
        is_held = run is not None and run.is_alive
        is_over = member.is_search and member.strategy.name in state.closed
        if not is_done and not is_held and not is_over and member.name not in failed:
            return member, run
    return None


def _elsewhere(state: State) -> str | None:
    held = [run.run_id for _, run in state.members if run is not None and not run.is_finished and run.is_alive]
    return f"still made by another process: {', '.join(held)}" if held else None


def _command(member: Member, run: Run | None, conditions: Conditions) -> tuple[list[str], dict[str, object]]:
    study = member.study
    words, options = member_command(study.recipe, member.settings, member.seed, study.name, run, conditions.request)
    # The search must not see the test split: nothing is chosen by it.
    return words, {**options, "trial": as_option(None) if member.is_search else None}


def _title(member: Member, state: State) -> str:
    study, rows = member.study, "all rows" if member.rows is None else f"{member.rows:,} rows"
    rate = "" if member.learning_rate is None else f", learning rate {member.learning_rate:g}"
    if member.is_search:
        done = sum(run is not None and run.is_finished for _, run in state.searches)
        return f"search {done + 1} of {len(search_members(study))}: {member.strategy.name} on {rows}{rate}"
    done = sum(run is not None and run.is_finished for _, run in state.cells)
    return f"run {done + 1} of {number_of_cells(study)}: {member.strategy.name} on {rows}, seed {member.seed}{rate}"


def _outcome(run: Run) -> str:
    score = run.main_score()
    words = formats.score_value(score.value) if score is not None else "no score"
    return (
        f"{run.main_metric.get('name')} on {run.main_metric.get('split')} {words}, {formats.energy(run.energy_kwh())}"
    )


def _drop_checkpoints(run: Run) -> None:
    """Free the room of checkpoints that nobody will go on from: a study has many runs."""
    for each in removable_checkpoints([run])[0]:
        remove(each)
