"""EnergyMeter: what a run spends, phase by phase, from one sampler thread and the thread that trains.

A reading is a cumulative count of microjoules per component; the meter books each difference to the phase that was
open, so phases have no gaps and no overlaps and add up to the total by construction.
"""

import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.emissions.components import COMPONENTS, MICROJOULES_PER_KWH, Component, unread
from finetune.emissions.journal import Journal, timestamp
from finetune.emissions.ledger import (
    IDLE,
    PHASES,
    Life,
    emissions_g,
    facility_kwh,
    in_phases,
    is_measured,
    merge,
    microjoules_by_component,
    microjoules_by_node,
    summarize,
    total_microjoules,
    without_idle,
)
from finetune.emissions.neighbours import Neighbours
from finetune.emissions.source import PowerSource

LONGEST_START_S = 60.0
SILENT_AFTER_S = 10.0


@dataclass(frozen=True)
class Reading:
    """What a run has spent so far, over all its segments; None where nothing is measured.

    `nodes_uj` are the microjoules of each node known here: store them in a checkpoint and give them back to
    `open_meter` as `resumed_from_uj`, and the work that has to be repeated is shown on its own line. `phases` maps each
    phase to its microjoules, on all nodes, and its microseconds on this one; `components_uj` maps each component that
    was read to its microjoules. `facility_kwh` is the energy × PUE; `pue` and `g_per_kwh` (of the grid) are those of
    this segment.
    """

    energy_kwh: float | None
    emissions_g: float | None
    elapsed_s: float
    nodes_uj: Mapping[int, int] = field(default_factory=dict)
    facility_kwh: float | None = None
    phases: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    components_uj: Mapping[str, int] = field(default_factory=dict)
    pue: float = 1.0
    g_per_kwh: float = 0.0

    @property
    def microjoules(self) -> int:
        """Return the energy of all nodes."""
        return sum(self.nodes_uj.values())


class EnergyMeter:
    """Measure a run on this node from `start` to `close`.

    `life` says which segment and node this is; `earlier` are the run's segments before it. `synchronize` waits for
    the accelerator's queued work and is called before every border. `clock` is in seconds. phase, mark, close and
    summary belong to one thread; the sampler is the other.
    """

    def __init__(
        self,
        source: PowerSource,
        journal: Journal,
        life: Life,
        *,
        earlier: tuple[Life, ...] = (),
        interval_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        synchronize: Callable[[], None] | None = None,
    ) -> None:
        self._source, self._journal, self._earlier = source, journal, earlier
        self._interval_s, self._clock, self._synchronize = interval_s, clock, synchronize
        self._life = life
        self._microjoules: dict[tuple[str, str], int] = {}
        self._microseconds: dict[str, int] = {}
        self._changed: set[str] = set()
        self._last: dict[str, int] = {}
        self._missing: dict[str, str] = {}
        self._components: tuple[Component, ...] = ()
        self._phases: list[str] = []
        self._opened_s = clock()
        self._measured_s: float | None = None
        self._overhead_s = 0.0
        self._longest_gap_s = 0.0
        self._patience_s = LONGEST_START_S
        self._trouble: list[str] = []
        self._lock = threading.RLock()
        self._ready = threading.Event()
        self._stopping = threading.Event()
        self._closed = False
        self._neighbours: Neighbours | None = None
        self._thread = threading.Thread(target=self._sample, name="finetune-energy", daemon=True)

    def start(self, *, background: bool = False, neighbours: Neighbours | None = None) -> "EnergyMeter":
        """Start the source and the sampler; `neighbours` are looked for from the first reading to the last.

        In the background the first call of `phase` returns at once, so that the source starts while data and model
        load; any later border waits for it. What the run spends before the source is ready is not counted.
        """
        self._neighbours = neighbours
        if not background:
            self._begin()
        self._thread.start()
        return self

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Book energy and time inside to the phase `name`; an inner phase takes its part from the outer one.

        Raises ValueError for a name that the record does not have.
        """
        if name not in PHASES:
            raise ValueError(f"{name}: a phase is one of {', '.join(PHASES)}")
        self._border(lambda: self._phases.append(name), wait=bool(self._phases))
        try:
            yield
        finally:
            self._border(self._phases.pop)

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Keep what is drawn inside apart, as the idle baseline of this life: it is in no sum of energy or time."""
        self._border(lambda: self._phases.append(IDLE))
        try:
            yield
        finally:
            self._border(self._phases.pop)

    def mark(self) -> Reading:
        """Measure now and return energy, emissions and time since the first segment began."""
        self._border()
        return self._reading()

    def glance(self) -> Reading:
        """Measure now and return what `mark` does, in a fraction of a millisecond, for looks between the borders.

        It waits for nothing (neither queued work nor a source that has yet to start) and writes nothing.
        """
        began = time.perf_counter()
        with self._lock:
            self._measure()
            self._overhead_s += time.perf_counter() - began
        return self._reading()

    def _reading(self) -> Reading:
        lives = self._lives()
        known = is_measured(lives)
        own = [life for life in lives if life.node == self._life.node]
        return Reading(
            total_microjoules(lives) / MICROJOULES_PER_KWH if known else None,
            emissions_g(lives) if known else None,
            sum(sum(life.microseconds.values()) for life in own) / 1e6,
            microjoules_by_node(lives),
            facility_kwh(lives) if known else None,
            {
                phase: (in_phases(lives, [phase]), sum(life.microseconds.get(phase, 0) for life in own))
                for phase in PHASES
            },
            microjoules_by_component(lives),
            self._life.pue,
            self._life.carbon_intensity.g_per_kwh,
        )

    def lives(self) -> tuple[Life, ...]:
        """Measure now and return this node's segments: what another node's meter is told."""
        if not self._closed:
            self._border(wait=False)
        return tuple(life for life in self._lives() if life.node == self._life.node)

    def hear(self, lives: Iterable[Life]) -> None:
        """Take over what other nodes tell of their segments; older accounts, and any of this node, change nothing."""
        told = (life for life in lives if life.node != self._life.node)
        self._earlier = merge(self._earlier, told)

    def close(self, reason: str) -> None:
        """Measure a last time, stop the source, and write why the segment ended (completed, interrupted …)."""
        if self._closed:
            return
        self._stopping.set()
        self._border()
        self._closed = True
        self._thread.join(max(self._patience_s, 1.0))
        self._flag_silence()
        if self._neighbours is not None:
            self._neighbours.leave()
        try:
            self._source.stop()
        except Exception as error:  # nothing that measures may fail a run
            self._trouble.append(f"the source could not be stopped: {error}")
        with self._lock:
            self._life = replace(self._snapshot(), reason_ended=reason, notes=self._notes())
        self._journal.end(self._life, timestamp())

    def summary(self) -> dict[str, Any]:
        """Return the `emissions` section of the run record, over all segments and nodes known here.

        Never waits for the source: a record written before it is ready says null.
        """
        if not self._closed:
            self._border(wait=False)
        return summarize(self._lives())

    def _lives(self) -> tuple[Life, ...]:
        with self._lock:
            own = self._life if self._closed else replace(self._snapshot(), notes=self._notes())
        return (*self._earlier, own)

    def _sample(self) -> None:
        if not self._ready.is_set():
            self._begin()
        while not self._stopping.wait(self._interval_s):
            began = time.thread_time()
            with self._lock:
                self._measure()
                life, changed = self._snapshot(), self._take_changed()
            self._journal.tick(life, changed, timestamp(), sync=True)
            if self._neighbours is not None:
                self._neighbours.look()
            with self._lock:
                self._overhead_s += time.thread_time() - began

    def _begin(self) -> None:
        """Start the source, take the baseline, and begin to count time."""
        components = self._start_source()
        read = [part for part in components if part.method not in (None, "absent")]
        if self._neighbours is not None:
            self._neighbours.join(key for part in read for key in part.covers())
        with self._lock:
            baseline = self._read_source()
            self._last = {name: value for name, value in baseline.items() if value is not None}
            self._components = components
            self._missing.update({part.name: part.lacks for part in read if part.lacks})
            self._measured_s = self._clock()
            self._life = replace(
                self._life, tool=self._source.tool(), start_up_s=round(self._measured_s - self._opened_s, 6)
            )
            life = self._snapshot()
        self._journal.components(life)
        self._ready.set()

    def _border(self, change: Callable[[], Any] = lambda: None, *, wait: bool = True) -> None:
        """Measure, book to the open phase, then apply `change` to the stack of phases."""
        if wait and not self._ready.wait(self._patience_s):
            self._patience_s = 0.0  # a start that hangs is waited for once
        self._wait_for_accelerator()
        began = time.perf_counter()
        with self._lock:
            self._measure()
            change()
            life, changed = self._snapshot(), self._take_changed()
        if changed:
            self._journal.tick(life, changed, timestamp(), sync=False)
        with self._lock:
            self._overhead_s += time.perf_counter() - began

    def _wait_for_accelerator(self) -> None:
        """Let queued work finish, which would else be booked to the next phase."""
        if self._synchronize is None or self._closed or not self._ready.is_set():
            return
        try:
            self._synchronize()
        except Exception as error:  # a broken device is the run's to report, not the meter's
            self._trouble.append(f"the accelerator could not be waited for: {error}")

    def _start_source(self) -> tuple[Component, ...]:
        try:
            return self._source.start()
        except Exception as error:  # nothing that measures may fail a run
            reason = f"the source could not start: {type(error).__name__}: {error}"
            return tuple(unread(name, reason) for name in COMPONENTS)

    def _read_source(self) -> dict[str, int | None]:
        try:
            return self._source.read()
        except Exception as error:  # nothing that measures may fail a run
            reason = f"the source failed: {type(error).__name__}: {error}"
            for component in self._components:
                self._missing.setdefault(component.name, reason)
            return {}

    def _measure(self) -> None:
        """Book what was spent since the last measurement to the open phase; the caller holds the lock."""
        if self._measured_s is None or self._life.reason_ended is not None:
            return
        now = self._clock()
        readings = self._read_source()
        phase = self._phases[-1] if self._phases else "other"
        for component in _expected(self._components):
            value = readings.get(component.name)
            if value is None:
                self._missing.setdefault(component.name, self._source.problem(component.name))
                continue
            cell = (component.name, phase)
            # A counter that runs backwards has lost what came before: nothing is booked, and the record says so.
            spent = value - self._last.get(component.name, 0)
            if spent < 0:
                self._missing.setdefault(component.name, f"the energy counter of {component.name} ran backwards")
            self._microjoules[cell] = self._microjoules.get(cell, 0) + max(0, spent)
            self._last[component.name] = value
        self._longest_gap_s = max(self._longest_gap_s, now - self._measured_s)
        # Rounding the ends, not the difference, keeps the sum of the phases equal to the whole.
        elapsed_us = round(now * 1e6) - round(self._measured_s * 1e6)
        self._microseconds[phase] = self._microseconds.get(phase, 0) + elapsed_us
        self._measured_s = now
        self._changed.add(phase)

    def _snapshot(self) -> Life:
        return replace(
            self._life,
            components=self._components,
            missing={part.name: self._missing[part.name] for part in _expected(self._components, self._missing)},
            **without_idle(self._microjoules, self._microseconds),
            overhead_s=self._overhead_s,
            shared_with=None if self._neighbours is None else self._neighbours.met,
        )

    def _take_changed(self) -> set[str]:
        changed, self._changed = self._changed, set()
        return changed

    def _flag_silence(self) -> None:
        """Treat a counter that stayed at zero as no reading: hardware that is on draws power."""
        if sum(self._microseconds.values()) / 1e6 < SILENT_AFTER_S:
            return
        for component in self._components:
            spent = sum(energy for (name, _), energy in self._microjoules.items() if name == component.name)
            if component.method == "measured" and spent == 0:
                self._missing.setdefault(component.name, "its counter stayed at 0 J")

    def _notes(self) -> tuple[str, ...]:
        notes = [*self._life.notes, *self._source.notes(), *self._trouble]
        if self._longest_gap_s > 3 * self._interval_s:
            notes.append(
                f"the meter was held up: {self._longest_gap_s:.0f} s passed between two measurements "
                f"({self._interval_s:g} s are meant)"
            )
        problems = (self._journal.problem, self._neighbours.problem if self._neighbours is not None else None)
        notes += [problem for problem in problems if problem is not None]
        return tuple(dict.fromkeys(notes))


class NullMeter:
    """Measures nothing: for the processes of a machine that do not hold its meter."""

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Do nothing; raises ValueError for a name that the record does not have."""
        if name not in PHASES:
            raise ValueError(f"{name}: a phase is one of {', '.join(PHASES)}")
        yield

    @contextmanager
    def idle(self) -> Iterator[None]:
        """Do nothing."""
        yield

    def mark(self) -> Reading:
        """Return an empty reading."""
        return Reading(None, None, 0.0)

    def glance(self) -> Reading:
        """Return an empty reading."""
        return Reading(None, None, 0.0)

    def lives(self) -> tuple[Life, ...]:
        """Return no segments."""
        return ()

    def hear(self, lives: Iterable[Life]) -> None:
        """Do nothing."""

    def close(self, reason: str) -> None:
        """Do nothing."""

    def summary(self) -> dict[str, Any]:
        """Return the section of a run in which nothing was measured."""
        return summarize(())


def _expected(components: Iterable[Component], among: Container[str] = COMPONENTS) -> list[Component]:
    """Return the components that are there and can be read."""
    return [part for part in components if part.method not in (None, "absent") and part.name in among]
