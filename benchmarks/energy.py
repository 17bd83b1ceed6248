"""Joules of a stretch of time, from outside the process that works, by the source that finetune's meter reads.

Only counters count: where a component is modelled or assumed, the figure would be a guess about all systems alike.
"""

from __future__ import annotations

import tempfile
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

INTERVAL_S = 1.0
Sample = tuple[float, Mapping[str, int]]  # seconds since 1970, microjoules so far by component


class Counters:
    """What the machine's energy counters have shown so far; without any, `samples` stays empty."""

    def __init__(self, described: Mapping[str, str]) -> None:
        self.described = dict(described)
        self.samples: list[Sample] = []

    def words(self) -> str:
        """Return which components are measured, and how the others would be read."""
        measured = [name for name, method in self.described.items() if method == "measured"]
        others = ", ".join(f"{name} {method}" for name, method in self.described.items() if method != "measured")
        if not measured:
            return f"not measured (no energy counter: {others})"
        return f"measured: {', '.join(measured)}" + (f"; not counted: {others}" if others else "")

    def joules(self, began: float, ended: float) -> float | None:
        """Return what was used between two times, in joules; None where that was not measured."""
        return joules_between(self.samples, began, ended)


@contextmanager
def energy_counters() -> Iterator[Counters]:
    """Read the energy counters each second while the body works."""
    from finetune.emissions.tracker import CodecarbonSource

    with tempfile.TemporaryDirectory() as folder:
        # The intensity only keeps codecarbon from looking for a place; no grams are computed here.
        source = CodecarbonSource(Path(folder), "benchmark", 475.0)
        counters = Counters({part.name: part.method or "unknown" for part in source.start()})
        measured = [name for name, method in counters.described.items() if method == "measured"]
        stop = threading.Event()

        def sample() -> None:
            while not stop.wait(INTERVAL_S):
                readings = source.read()
                found = {name: readings.get(name) for name in measured}
                known = {name: value for name, value in found.items() if value is not None}
                if len(known) == len(measured):
                    counters.samples.append((time.time(), known))

        reader = threading.Thread(target=sample, name="energy-counters", daemon=True)
        if measured:
            reader.start()
        try:
            yield counters
        finally:
            stop.set()
            if measured:
                reader.join()
            source.stop()


def joules_between(samples: Sequence[Sample], began: float, ended: float) -> float | None:
    """Return the joules between two times, counters read in between interpolated linearly; None outside the samples."""
    if not samples or began < samples[0][0] or ended > samples[-1][0]:
        return None
    return (_microjoules_at(samples, ended) - _microjoules_at(samples, began)) / 1e6


def _microjoules_at(samples: Sequence[Sample], moment: float) -> float:
    place = max(1, bisect_left(samples, moment, key=lambda sample: sample[0]))
    (before_s, before), (after_s, after) = samples[place - 1], samples[place]
    share = (moment - before_s) / (after_s - before_s)
    return sum(before.values()) + share * (sum(after.values()) - sum(before.values()))
