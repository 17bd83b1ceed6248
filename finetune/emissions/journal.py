"""The energy journal: `energy.jsonl` in the run directory, one file a node, only ever appended to.

A segment begins with a line that says who measures where; `components` says how, once the source has started; each
`tick` holds the cumulative table of the phases that changed; `end` closes it. All values are cumulative within the
segment, so a torn or lost line costs one interval at most.
"""

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from finetune.emissions.beside import Embodied
from finetune.emissions.components import Component
from finetune.emissions.intensity import Intensity
from finetune.emissions.ledger import Life, without_idle

SCHEMA_VERSION = 1
_NAME = re.compile(r"energy(-\d+)?\.jsonl")


def journal_path(run_directory: Path, node: int) -> Path:
    """Return the journal of a node: energy.jsonl for node 0, energy-1.jsonl for node 1 and so on."""
    return run_directory / (f"energy-{node}.jsonl" if node else "energy.jsonl")


def timestamp() -> str:
    """Return the time as journals write it: 2026-01-31T12:00:00.000Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Journal:
    """Append lines to a node's journal. A disk that fails is noted, never raised: a run must not die of it."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._handle: int | None = None
        self.problem: str | None = None
        try:
            binary = getattr(os, "O_BINARY", 0)  # Windows would write its own line ends
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | binary, 0o666)
            # A kill can tear the last line; the next one must not continue it.
            size = os.fstat(self._handle).st_size
            if size and os.lseek(self._handle, size - 1, os.SEEK_SET) >= 0 and os.read(self._handle, 1) != b"\n":
                os.write(self._handle, b"\n")
        except OSError as error:
            self._fail(error)

    def open_segment(self, life: Life, details: Mapping[str, Any]) -> None:
        """Write the first line of a segment; `details` are kept as they are and never read back."""
        kept = ("segment", "node", "hostname", "started_at", "pue", "boot_id", "resumed_from_uj")
        self._write(
            {
                "kind": "segment",
                "schema_version": SCHEMA_VERSION,
                **{key: getattr(life, key) for key in kept},
                "carbon_intensity": life.carbon_intensity.as_dict(),
                "wue": life.wue,
                "embodied": None if life.embodied is None else asdict(life.embodied),
                **details,
            },
            sync=True,
        )

    def components(self, life: Life) -> None:
        """Write how each component's energy is known."""
        self._write(
            {
                "kind": "components",
                "segment": life.segment,
                "components": [asdict(part) for part in life.components],
                "tool": dict(life.tool),
                "start_up_s": life.start_up_s,
            },
            sync=True,
        )

    def tick(self, life: Life, phases: Iterable[str], at: str, *, sync: bool) -> None:
        """Write the cumulative energy and time of the phases (or of IDLE) that changed since the last line."""
        self._write(
            {
                "kind": "tick",
                "segment": life.segment,
                "at": at,
                "microjoules": {phase: life.by_component(phase) for phase in sorted(phases)},
                "microseconds": {phase: life.microseconds_of(phase) for phase in sorted(phases)},
                **_state(life),
            },
            sync=sync,
        )

    def end(self, life: Life, at: str) -> None:
        """Write why the segment ended, and close the file."""
        self._write(
            {
                "kind": "end",
                "segment": life.segment,
                "at": at,
                "reason": life.reason_ended,
                **_state(life),
                "notes": list(life.notes),
            },
            sync=True,
        )
        with self._lock:
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None

    def _write(self, line: dict[str, Any], *, sync: bool) -> None:
        data = (json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
        with self._lock:
            if self._handle is None:
                return
            handle = self._handle
            try:
                while data:
                    data = data[os.write(handle, data) :]
            except OSError as error:
                self._fail(error)
                return
        if sync:  # outside the lock: a slow disk must not hold up the thread that trains
            try:
                os.fsync(handle)
            except OSError as error:
                self._fail(error)

    def _fail(self, error: OSError) -> None:
        self.problem = f"the energy journal could not be written: {error.strerror or error}"
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _state(life: Life) -> dict[str, Any]:
    return {
        "missing": dict(life.missing),
        "overhead_s": round(life.overhead_s, 6),
        "shared_with": None if life.shared_with is None else list(life.shared_with),
    }


def read_journal(run_directory: Path) -> tuple[Life, ...]:
    """Return the table of a run over all segments and nodes, from whatever its journals hold.

    Lines that cannot be read (torn by a kill, damaged) are left out and noted on the segment before them. An empty
    tuple says that nothing was measured.
    """
    lives = []
    for path in sorted(run_directory.glob("energy*.jsonl")):
        if _NAME.fullmatch(path.name):
            lives.extend(_read_node(path))
    return tuple(sorted(lives, key=lambda life: (life.segment, life.node)))


@dataclass
class _Open:
    """A segment while its lines are read."""

    life: Life
    microjoules: dict[tuple[str, str], int] = field(default_factory=dict)
    microseconds: dict[str, int] = field(default_factory=dict)
    torn: int = 0

    def closed(self) -> Life:
        lost = f"{self.torn} damaged line(s) in the energy journal of segment {self.life.segment} were left out"
        notes = (*self.life.notes, lost) if self.torn else self.life.notes
        return replace(self.life, **without_idle(self.microjoules, self.microseconds), notes=notes)


def _read_node(path: Path) -> list[Life]:
    segments: dict[int, _Open] = {}
    current: _Open | None = None
    for raw in path.read_bytes().splitlines():
        try:
            line = json.loads(raw)
            if line["kind"] == "segment":
                current = segments[line["segment"]] = _Open(_life(line))
            else:
                current = segments[line["segment"]]
                _apply(current, line)
        except (ValueError, KeyError, TypeError, AttributeError):
            if current is not None:
                current.torn += 1
    return [segment.closed() for segment in segments.values()]


def _life(line: dict[str, Any]) -> Life:
    kept = ("segment", "node", "hostname", "started_at", "pue", "boot_id")
    embodied = line.get("embodied")  # journals of the first version know neither this nor wue
    return Life(
        wue=line.get("wue"),
        embodied=None if embodied is None else Embodied(**embodied),
        carbon_intensity=Intensity(**line["carbon_intensity"]),
        resumed_from_uj=_marks(line["resumed_from_uj"]),
        **{key: line[key] for key in kept},
    )


def _marks(written: Any) -> dict[int, int] | None:
    if isinstance(written, int):  # the first journals knew one machine
        return {0: written}
    return None if written is None else {int(node): int(energy) for node, energy in written.items()}


def _apply(segment: _Open, line: dict[str, Any]) -> None:
    if line["kind"] == "components":
        parts = tuple(Component(**{**part, "hardware": tuple(part.get("hardware", ()))}) for part in line["components"])
        segment.life = replace(segment.life, components=parts, tool=line["tool"], start_up_s=line["start_up_s"])
        return
    met = line.get("shared_with")  # the first journals did not look
    state = {
        "missing": line["missing"],
        "overhead_s": line["overhead_s"],
        "shared_with": segment.life.shared_with if met is None else tuple(met),
    }
    if line["kind"] == "end":
        segment.life = replace(segment.life, **state, reason_ended=line["reason"], notes=tuple(line["notes"]))
        return
    # Two threads write: a line may overtake an older one, but cumulative values only grow.
    energies = {(name, phase): energy for phase, parts in line["microjoules"].items() for name, energy in parts.items()}
    for cell, energy in energies.items():
        segment.microjoules[cell] = max(energy, segment.microjoules.get(cell, 0))
    for phase, time_us in line["microseconds"].items():
        segment.microseconds[phase] = max(time_us, segment.microseconds.get(phase, 0))
    segment.life = replace(segment.life, **state)
