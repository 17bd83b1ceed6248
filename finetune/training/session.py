"""One life of a run: its directory, its record, its meter and its signals, opened and closed in one place."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetune import ranks
from finetune.console import say
from finetune.emissions.allocation import this_process
from finetune.emissions.host import node_rank
from finetune.emissions.intensity import resolve_intensity
from finetune.emissions.meter import EnergyMeter, NullMeter, Reading
from finetune.emissions.opening import Segment, next_segment, open_meter
from finetune.errors import FinetuneError
from finetune.recipe.load import dump_recipe
from finetune.runs.card import model_card
from finetune.runs.files import write_atomically
from finetune.runs.liveness import claim_run, heartbeat, release
from finetune.runs.record import Run, new_run_directory, utc_now, write_run
from finetune.training.endings import agreed_ending
from finetune.training.hardware import open_device, wait_for_device
from finetune.training.interrupts import Interrupted, Interrupts
from finetune.training.machines import Machines, meet
from finetune.training.memory import explain_shortage
from finetune.training.options import Resumption, RunOptions
from finetune.training.recorded import recipe_as_recorded
from finetune.training.recovery import clear_leftovers

LOG_NAME = "log.jsonl"
_HEARTBEAT_SECONDS = 30.0


@dataclass
class Session:
    """What lives as long as the process works on a run; only rank 0 writes into its directory."""

    directory: Path
    run: Run
    meter: EnergyMeter | NullMeter
    interrupts: Interrupts
    machines: Machines
    # What the meter cannot know of the `emissions` section.
    inference: dict[str, Any] = field(default_factory=dict)
    forecasts: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    failed_in: str = ""  # the phase that an error came from
    _beat: float = 0.0
    _said: set[str] = field(default_factory=set)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book energy and time inside to a phase, and remember it when an error comes out of it."""
        try:
            with self.meter.phase(name):
                yield
        except BaseException:
            self.failed_in = self.failed_in or name
            raise

    def mark(self) -> Reading:
        """Measure now, on all machines; all ranks call it at the same place, and rank 0 gets the sum."""
        self.machines.share_energy(self.meter)
        return self.meter.mark()

    def write(self, **changes: Any) -> None:
        """Change fields of the run record and write it, with the energy so far.

        A record that cannot be written on the way is said once and no reason to stop: the one before it stays readable.
        """
        self.run = replace(self.run, **changes, emissions=self.emissions())
        if ranks.is_main():
            with self._going_on("run.json"):
                write_run(self.run, self.directory)

    def emissions(self) -> dict[str, Any]:
        """Return the `emissions` section of the record as it stands."""
        section = self.meter.summary()
        return section | self.inference | {"forecasts": self.forecasts, "notes": [*section["notes"], *self.notes]}

    def will_end(self, **results: Any) -> None:
        """Take the results and the final status, which the record will say once everything else is on the disk."""
        self.run = replace(self.run, **results)

    def log(self, **entry: Any) -> None:
        """Append a line to log.jsonl."""
        if not ranks.is_main():
            return
        with (self.directory / LOG_NAME).open("a", encoding="utf-8") as log:
            log.write(json.dumps(entry) + "\n")

    def flush_log(self) -> None:
        """Force the log onto the disk, so that no line before a checkpoint is missing after a power cut."""
        if (self.directory / LOG_NAME).exists():
            with (self.directory / LOG_NAME).open("a", encoding="utf-8") as log:
                os.fsync(log.fileno())

    def check(self) -> None:
        """Give a sign of life and raise Interrupted when a signal is waiting; called at every safe place.

        All ranks come here equally often: a signal to one of them stops all at the same place.
        """
        now = time.monotonic()
        if ranks.is_main() and now - self._beat > _HEARTBEAT_SECONDS:
            self._beat = now
            with self._going_on("alive.json"):
                heartbeat(self.directory)
        self.interrupts.check(ranks.largest)

    @contextmanager
    def _going_on(self, name: str) -> Iterator[None]:
        """Say once when a file cannot be written that tells others about the run, and go on."""
        try:
            yield
        except OSError as error:
            if name not in self._said:
                say(f"note: {name} could not be written: {error.strerror or error}; the run goes on")
            self._said.add(name)


@contextmanager
def open_session(options: RunOptions, resumption: Resumption | None = None) -> Iterator[Session]:
    """Open a run directory (or that of the run to resume) and see it through to a finished record.

    However the body ends, the meter is closed, the record says why, and the directory is given back: an error
    makes the run failed, a signal interrupted. A body that ends by itself sets the status.
    """
    # An unknown place is refused before anything is written.
    resolve_intensity(options.recipe.emissions, options.country, options.region)
    with Interrupts() as interrupts:
        directory = ranks.on_main(lambda: _claimed_directory(options, resumption))
        try:
            run = ranks.on_main(lambda: _taken_up(resumption) if resumption else _first_record(options, directory))
            machines = meet(directory)
            meter = _open_meter(options, directory, run, resumption.energy_uj if resumption else None)
            session = Session(directory, run, meter, interrupts, machines)
            try:
                if ranks.is_main():
                    write_run(replace(run, emissions=meter.summary()), directory)
                if options.idle_baseline_s:
                    _take_idle_baseline(session, options.idle_baseline_s)
                yield session
                with interrupts.deferred():  # all is done but for writing it down: a signal now is too late
                    _close(session, session.run.status, session.run.status_reason)
            except BaseException as error:
                meant = interrupts.meant(error)
                interrupts.settle()
                explained = agreed_ending(explain_shortage(meant, options.recipe.training, session.failed_in))
                if isinstance(explained, Interrupted):
                    explained.directory = directory
                _close_after_error(session, *_ending(explained))
                if explained is error:
                    raise
                raise explained from error
        finally:
            release(directory)


def _claimed_directory(options: RunOptions, resumption: Resumption | None) -> Path:
    directory = resumption.directory if resumption else new_run_directory(Path(options.recipe.output_dir), options.name)
    claim_run(directory)
    return directory


def _open_meter(
    options: RunOptions, directory: Path, run: Run, resumed_from_uj: dict[int, int] | None
) -> EnergyMeter | NullMeter:
    """Open one meter a machine: in its first process."""
    number = ranks.on_main(lambda: next_segment(directory))
    here = node_rank(os.environ)
    processes = tuple(process for node, process in ranks.everywhere((here, this_process())) if node == here)
    if not ranks.is_local_main():
        return NullMeter()
    return open_meter(
        options.recipe.emissions,
        directory,
        options.country,
        options.region,
        run.run_id,
        segment=Segment(number, resumed_from_uj, processes),
        synchronize=wait_for_device,
    )


def _take_idle_baseline(session: Session, seconds: float) -> None:
    """Let every machine of the run rest, with its device open, while the meter keeps what it draws apart."""
    say(f"note: idle baseline, {seconds:g} s")
    open_device()
    ranks.everywhere(None)
    with session.meter.idle():
        for second in range(math.ceil(seconds)):
            time.sleep(min(1.0, seconds - second))
            session.check()


_ALIVE: dict[str, Any] = {"status": "running", "status_reason": None, "finished_at": None}


def _taken_up(resumption: Resumption) -> Run:
    """Clear away what the lives before left behind, and return the record of a run that goes on."""
    clear_leftovers(resumption.directory, resumption.checkpoint)
    return replace(resumption.run, **_ALIVE)


def _first_record(options: RunOptions, directory: Path) -> Run:
    recipe = options.recipe
    write_atomically(directory / "recipe.yaml", dump_recipe(recipe, relative_to=directory))
    return Run(
        run_id=directory.name,
        name=options.name,
        group=options.group,
        tags=tuple(recipe.tags),
        created_at=utc_now(),
        command=" ".join(["finetune", *sys.argv[1:]]),
        recipe=recipe_as_recorded(recipe, directory),
        versions=_versions(),
        directory=directory,
    )


def _versions() -> dict[str, str]:
    import platform
    from importlib.metadata import version

    names = ("finetune", "torch", "transformers", "datasets", "accelerate", "peft", "codecarbon", "evaluate")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _ending(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Interrupted):
        return "interrupted", f"{error} received"
    if isinstance(error, FinetuneError):
        return "failed", error.message
    return "failed", f"{type(error).__name__}: {error}"


def _close_after_error(session: Session, status: str, reason: str) -> None:
    """Close a session that an error ended; a record that cannot be written must not hide that error."""
    try:
        session.meter.close(f"{status}: {reason}")
        session.machines.read_what_they_left(session.meter)  # they may be gone: nobody is waited for
        _take_ending(session, status, reason)
        if ranks.is_main():
            write_run(session.run, session.directory)
    except OSError as error:
        say(f"the record of {session.run.run_id} could not be finished: {error}")


def _close(session: Session, status: str, reason: str | None) -> None:
    """End the life of a run in which all ranks are still in step; the status says that everything else is there."""
    session.meter.close(status if reason is None else f"{status}: {reason}")
    session.machines.share_energy(session.meter)
    _take_ending(session, status, reason)
    if ranks.is_main():
        if session.run.is_finished and (session.directory / "model").is_dir():
            write_atomically(session.directory / "model" / "README.md", model_card(session.run))
        write_run(session.run, session.directory)


def _take_ending(session: Session, status: str, reason: str | None) -> None:
    emissions = session.emissions()
    if status == "completed" and emissions["energy_kwh"] is not None:  # it went to its end, as the forecasts assume
        emissions["forecasts"] = [
            {**known, "error": emissions["energy_kwh"] / known["energy_kwh"] - 1} for known in session.forecasts
        ]
    session.run = replace(session.run, status=status, status_reason=reason, finished_at=utc_now(), emissions=emissions)
