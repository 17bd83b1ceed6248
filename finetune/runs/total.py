"""What several runs used together: failed and interrupted ones count, and no second of any hardware counts twice."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from finetune.emissions.components import overlap
from finetune.runs import formats
from finetune.runs.record import Run, as_mapping, as_number
from finetune.text import plural


@dataclass(frozen=True)
class _Stretch:
    """Some hardware of one machine, metered by one life of a run from `start` to `end` (seconds of the epoch)."""

    key: str
    start: float
    end: float
    kwh: float
    g_per_kwh: float


def total_lines(runs: Sequence[Run]) -> list[str]:
    """Return what all runs used together, failed and interrupted ones too, and how many of them gave no reading."""
    total = total_energy(runs)
    lines = [f"total   {formats.energy(total['energy_kwh'])}, {formats.grams(total['emissions_g'])} CO2e as run"
             f" in {plural(len(runs), 'run')}, failed and interrupted ones included"]  # fmt: skip
    if total["metered_twice_kwh"]:
        lines.append(f"        {formats.energy(total['metered_twice_kwh'])} that runs side by side metered once more "
                     "are left out: each second of a machine counts once")  # fmt: skip
    if total["without_reading"]:
        lines.append(f"        {plural(total['without_reading'], 'run')} without a reading: the total is a lower bound")
    if total["incomplete"]:
        lines.append(
            f"        {plural(total['incomplete'], 'run')} with part of the hardware unread: the total is a lower bound"
        )
    if total["shared"]:
        lines.append(
            f"        {plural(total['shared'], 'run')} shared a machine with another: those hours may count twice"
        )
    return lines


def total_energy(runs: Sequence[Run]) -> dict[str, Any]:
    """Return the sums over runs: energy_kwh, emissions_g (None without any reading) and how many lack one.

    `metered_twice_kwh` is what another meter counted as well, and is left out; `shared` are the runs with neighbours
    of which it is not known when they ran, so that their hours may count twice.
    """
    energies = [kwh for run in runs if (kwh := run.energy_kwh()) is not None]
    grams = [value for run in runs if (value := run.emissions_g()) is not None]
    twice = [doubled for machine in _by_machine(runs).values() for doubled in _counted_twice(machine)]
    twice_kwh, twice_g = sum(kwh for kwh, _ in twice), sum(g for _, g in twice)
    return {
        "runs": len(runs),
        "energy_kwh": sum(energies) - twice_kwh if energies else None,
        "emissions_g": sum(grams) - twice_g if grams else None,
        "metered_twice_kwh": twice_kwh,
        "without_reading": len(runs) - len(energies),
        "incomplete": sum(run.energy_kwh() is not None and not run.is_complete for run in runs),
        "shared": sum(bool(run.emissions.get("shared_with")) and not list(_stretches(run)) for run in runs),
    }


def _by_machine(runs: Iterable[Run]) -> dict[tuple[str, str], list[_Stretch]]:
    """Return the stretches by boot of a machine and kind of hardware: only within one can anything count twice."""
    found: dict[tuple[str, str], list[_Stretch]] = defaultdict(list)
    for run in runs:
        for boot_id, stretch in _stretches(run):
            found[boot_id, stretch.key.partition(":")[0]].append(stretch)
    return found


def _stretches(run: Run) -> Iterable[tuple[str, _Stretch]]:
    lives = run.emissions.get("lives")
    for life in lives if isinstance(lives, list) and run.energy_kwh() is not None else ():
        hardware = as_mapping(as_mapping(life).get("hardware_kwh"))
        if not hardware or not isinstance(life.get("boot_id"), str):
            continue
        start, duration_s = _seconds(life.get("metered_from")), as_number(life.get("duration_s"))
        if start is None or not duration_s:
            continue
        for key, value in hardware.items():
            kwh = as_number(value) or 0.0
            yield life["boot_id"], _Stretch(key, start, start + duration_s, kwh, as_number(life.get("g_per_kwh")) or 0)


def _counted_twice(machine: Sequence[_Stretch]) -> Iterable[tuple[float, float]]:
    """Yield energy and grams of the part of each stretch in which another one that counts metered the same hardware.

    Whoever meters the whole component counts first, then whoever began first, so that a run inside the time of another
    adds nothing: its energy is in the other's reading. Of a stretch only its mean power is known.
    """
    counted: list[_Stretch] = []
    order = sorted(machine, key=lambda one: (":" in one.key, one.start, -one.end, one.key, one.kwh))
    for stretch in order:
        covered_s = _covered_s(stretch, [other for other in counted if overlap(other.key, stretch.key)])
        doubled_kwh = stretch.kwh * covered_s / (stretch.end - stretch.start)
        yield doubled_kwh, doubled_kwh * stretch.g_per_kwh
        counted.append(stretch)


def _covered_s(stretch: _Stretch, others: Sequence[_Stretch]) -> float:
    """Return for how many seconds of a stretch any of the others went on."""
    covered, reached = 0.0, stretch.start
    for other in sorted(others, key=lambda other: other.start):
        start, end = max(other.start, reached), min(other.end, stretch.end)
        if end > start:
            covered += end - start
            reached = end
    return covered


def _seconds(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp() if isinstance(value, str) else None
    except ValueError:
        return None
