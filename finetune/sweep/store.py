"""The account of a sweep in an Optuna storage, and who chooses the next values: the only module that knows Optuna."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from finetune.errors import FinetuneError
from finetune.sweep.account import CONTINUED, Amount, Entry, State
from finetune.sweep.definition import Sweep
from finetune.sweep.halving import falls_behind
from finetune.sweep.space import Params, grid, identity, suggest
from finetune.text import first_line

_STATES: Mapping[TrialState, State] = {
    TrialState.WAITING: "waiting", TrialState.RUNNING: "running", TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
}  # fmt: skip
_DEFINITION = "definition"
_OPENINGS = 3
_LOCKED_SECONDS = 60.0  # that a worker waits for another one's write into a file of SQLite


class TakenOver(Exception):
    """An entry has ended: another worker took the one that held it for dead, and goes on with its trial."""


@dataclass(frozen=True)
class Store:
    """The open study of a sweep; `place` is what another process opens it by."""

    sweep: Sweep
    study: optuna.Study
    storage: optuna.storages.BaseStorage
    place: str

    def entries(self) -> list[Entry]:
        """Return all entries as they stand now, by number."""
        return [_entry(trial) for trial in self.study.get_trials(deepcopy=False)]

    def entry(self, number: int) -> Entry:
        """Return an entry as it stands now."""
        return next(entry for entry in self.entries() if entry.number == number)

    def draw(self) -> Entry:
        """Take the next entry that waits, or draw a new one; nobody else gets it."""
        sweep, study = self.sweep, self.study
        study.sampler = _sampler(sweep, len(study.get_trials(deepcopy=False)))
        trial = study.ask()
        suggest(sweep.space, trial)
        return self.entry(trial.number)

    def note(self, number: int, **facts: Any) -> None:
        """Write facts about an entry: reserved, granted, overhead, needed, runs, spent, holder, reason, fate.

        Raises TakenOver when the entry has ended.
        """
        identifier = _identifier(self.storage, self.sweep.name, number)
        try:
            for name, value in facts.items():
                self.storage.set_trial_user_attr(identifier, name, _plain(value))
        except optuna.exceptions.UpdateFinishedTrialError as error:
            raise TakenOver from error

    def finish(self, number: int, state: State, values: Sequence[float] = ()) -> None:
        """Say how a trial ended; one that another worker took for dead stays as it is."""
        told = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}[state]
        given = list(values) if state == "complete" else None
        self.study.tell(number, given, told, skip_if_finished=True)

    def give_up(self, entry: Entry) -> bool:
        """End an entry whose worker is gone and let its trial wait to be gone on with; False: somebody was faster."""
        identifier = _identifier(self.storage, self.sweep.name, entry.number)
        try:
            self.note(entry.number, fate=CONTINUED)
            self.storage.set_trial_state_values(identifier, TrialState.FAIL)
        except (TakenOver, optuna.exceptions.UpdateFinishedTrialError):
            return False
        self._enqueue(entry.params, label=entry.label, runs=dict(entry.runs))
        return True

    def fill_grid(self) -> None:
        """Let the combinations of a grid wait that are not there yet, as many as there are to be trials."""
        for params in self._not_there(grid(self.sweep.space)[: self.sweep.trials]):
            self._enqueue(params)

    def enqueue_untried(self) -> bool:
        """Let the first combination of a finite space wait that no trial has: a sampler may never come to draw it.

        False: there is none.
        """
        untried = self._not_there(grid(self.sweep.space))
        for params in untried[:1]:
            self._enqueue(params)
        return bool(untried)

    def _not_there(self, combinations: Sequence[Params]) -> list[Params]:
        there = {identity(entry.params) for entry in self.entries() if entry.is_trial}
        return [params for params in combinations if identity(params) not in there]

    def _enqueue(self, params: Params, **facts: Any) -> None:
        self.study.enqueue_trial(dict(params), user_attrs=facts or None)


def open_store(sweep: Sweep, folder: Path) -> Store:
    """Open the sweep's study, or make it; raises FinetuneError when it belongs to another sweep or cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = sweep.storage or str(folder / "journal.log")
    try:
        storage = _storage(place)
        study = optuna.create_study(
            storage=storage, study_name=sweep.name, load_if_exists=True,
            directions=["maximize" if each.greater_is_better else "minimize" for each in sweep.objectives],
        )  # fmt: skip
    except Exception as error:  # drivers of databases raise what they like
        raise FinetuneError(
            f"storage {place} cannot be opened: {first_line(error)}",
            "storage names a file, or a database (sqlite:////home/me/sweeps.db); left out, it is a journal of its own.",
        ) from error
    known = study.user_attrs.get(_DEFINITION)
    if known is None:
        study.set_user_attr(_DEFINITION, sweep.fingerprint())
    elif known != sweep.fingerprint():
        raise FinetuneError(
            f"the sweep {sweep.name} was begun with another recipe, space, objective, sampler, pruning or seeds",
            "Give the new one its own name, or put back what was changed; trials, budgets and storage may change.",
        )
    store = Store(sweep, study, storage, place)
    if sweep.sampler == "grid":
        store.fill_grid()
    return store


def should_prune(place: str, study_name: str, number: int, step: int, value: float) -> bool:
    """Report a trial's score at its evaluation number `step` and return whether it has fallen behind."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = _storage(place)
    study_id, identifier = storage.get_study_id_from_name(study_name), _identifier(storage, study_name, number)
    try:
        storage.set_trial_intermediate_value(identifier, step, value)
    except optuna.exceptions.UpdateFinishedTrialError:
        return False  # another worker goes on with the trial: this life has nobody to fall behind
    reports: dict[int, dict[int, float]] = {}
    for trial in storage.get_all_trials(study_id, deepcopy=False):  # by number: later lives of a trial come later
        reports.setdefault(_label(trial), {}).update(trial.intermediate_values)
    own = _label(storage.get_trial(identifier))
    [direction] = storage.get_study_directions(study_id)
    return falls_behind(reports, own, step, direction == optuna.study.StudyDirection.MAXIMIZE)


def _identifier(storage: optuna.storages.BaseStorage, study_name: str, number: int) -> int:
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(study_name), number)


def _storage(place: str) -> optuna.storages.BaseStorage:
    if "://" in place:
        return _database(place)
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    return optuna.storages.JournalStorage(JournalFileBackend(place))


def _database(url: str) -> optuna.storages.BaseStorage:
    from sqlalchemy.exc import SQLAlchemyError

    options = {"connect_args": {"timeout": _LOCKED_SECONDS}} if url.startswith("sqlite") else None
    for _ in range(_OPENINGS - 1):
        try:
            return optuna.storages.RDBStorage(url, options)
        except SQLAlchemyError:  # of two that make the tables at one moment, one fails, and finds them the next time
            time.sleep(1.0)
    return optuna.storages.RDBStorage(url, options)


def _sampler(sweep: Sweep, drawn: int) -> optuna.samplers.BaseSampler:
    """Return the sampler of the next draw: what it draws depends on the trials so far, not on who draws."""
    seed = (sweep.sampler_seed + 1_000_003 * drawn) % 2**32
    if sweep.sampler == "tpe":
        return optuna.samplers.TPESampler(seed=seed)
    if sweep.sampler == "nsga2":
        # A generation the size of half the sweep: the usual 50 would leave no trial to learn from.
        return optuna.samplers.NSGAIISampler(population_size=max(4, sweep.trials // 2), seed=seed)
    return optuna.samplers.RandomSampler(seed=seed)


def _entry(trial: FrozenTrial) -> Entry:
    facts = trial.user_attrs
    waiting = trial.system_attrs.get("fixed_params", {}) if trial.state == TrialState.WAITING else {}
    return Entry(
        number=trial.number,
        label=_label(trial),
        state=_STATES[trial.state],
        params=trial.params or waiting,
        values=tuple(trial.values or ()) if trial.state == TrialState.COMPLETE else (),
        fate=facts.get("fate") if trial.state == TrialState.FAIL else None,
        reason=facts.get("reason"),
        runs=facts.get("runs", {}),
        spent={run: _amount(amount) for run, amount in facts.get("spent", {}).items()},
        reserved=_amount(facts.get("reserved")),
        granted=bool(facts.get("granted")),
        overhead=_amount(facts.get("overhead")) or Amount(),
        needed=_amount(facts.get("needed")),
        holder=facts.get("holder"),
        age_s=(datetime.now() - trial.datetime_start).total_seconds() if trial.datetime_start else 0.0,
    )


def _label(trial: FrozenTrial) -> int:
    return int(trial.user_attrs.get("label", trial.number))


def _amount(pair: Sequence[float] | None) -> Amount | None:
    return None if pair is None else Amount(*pair)


def _plain(value: Any) -> Any:
    if isinstance(value, Amount):
        return [value.kwh, value.g]
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return value
