"""The energy table of a run, and everything that is published from it.

Energy is kept as integer microjoules per (segment, node, component, phase). A segment is one life of the run, a node
one machine. Every published sum is a marginal of that table, so phases, components, segments and nodes each add up to
the total. All functions here are pure.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from finetune.emissions.beside import Embodied, embodied_g, sci_g_per_run, water_l
from finetune.emissions.components import COMPONENTS, MICROJOULES_PER_KWH, Component
from finetune.emissions.idle import idle_section
from finetune.emissions.intensity import Intensity
from finetune.emissions.occupancy import lives_section

PHASES = ("load", "preprocess", "baseline", "train", "evaluate", "audit", "save", "other")
RANKED_PHASES = ("train", "evaluate", "save")
"""What runs are ranked by: baselines, audits and the loading and caching of data would contaminate a ranking."""
IDLE = "idle"
"""The stretch before a life in which the machine rests: kept apart from the table, no phase of the run."""
MICROSECONDS_PER_S = 1_000_000


@dataclass(frozen=True)
class Life:
    """One segment on one node: its rows of the table, and what they are multiplied with.

    `microjoules` maps (component, phase) to energy, `microseconds` a phase to its time. `missing` maps a component
    whose readings failed to the reason: its energy is a lower bound. `resumed_from_uj` is what each node had spent when
    the checkpoint was written that this segment goes on from; a node that is not in it had spent nothing.
    `shared_with` are the other runs that metered the same hardware, None when nobody looked. `idle_microjoules` (by
    component) and `idle_microseconds` are the idle baseline, which is in none of the sums.
    """

    segment: int
    node: int
    hostname: str
    started_at: str
    carbon_intensity: Intensity
    pue: float
    wue: float | None = None
    embodied: Embodied | None = None
    boot_id: str | None = None
    components: tuple[Component, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)
    microjoules: Mapping[tuple[str, str], int] = field(default_factory=dict)
    microseconds: Mapping[str, int] = field(default_factory=dict)
    start_up_s: float = 0.0
    overhead_s: float = 0.0
    resumed_from_uj: Mapping[int, int] | None = None
    reason_ended: str | None = None
    tool: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shared_with: tuple[str, ...] | None = None
    idle_microjoules: Mapping[str, int] = field(default_factory=dict)
    idle_microseconds: int = 0

    def by_component(self, phase: str) -> dict[str, int]:
        """Return the energy of a phase, or of IDLE, by component."""
        if phase == IDLE:
            return dict(self.idle_microjoules)
        return {name: energy for (name, of_phase), energy in self.microjoules.items() if of_phase == phase}

    def microseconds_of(self, phase: str) -> int:
        """Return the time of a phase, or of IDLE."""
        return self.idle_microseconds if phase == IDLE else self.microseconds.get(phase, 0)


def without_idle(microjoules: Mapping[tuple[str, str], int], microseconds: Mapping[str, int]) -> dict[str, Any]:
    """Return the fields of a Life that hold what was booked, with IDLE taken out of the table."""
    return {
        "microjoules": {cell: energy for cell, energy in microjoules.items() if cell[1] != IDLE},
        "microseconds": {phase: time_us for phase, time_us in microseconds.items() if phase != IDLE},
        "idle_microjoules": {name: energy for (name, phase), energy in microjoules.items() if phase == IDLE},
        "idle_microseconds": microseconds.get(IDLE, 0),
    }


def total_microjoules(lives: Iterable[Life]) -> int:
    """Return all energy of the lives."""
    return sum(sum(life.microjoules.values()) for life in lives)


def microjoules_by_node(lives: Iterable[Life]) -> dict[int, int]:
    """Return the energy of each node over all its segments."""
    sums: dict[int, int] = {}
    for life in lives:
        sums[life.node] = sums.get(life.node, 0) + total_microjoules([life])
    return sums


def microjoules_by_component(lives: Iterable[Life]) -> dict[str, int]:
    """Return the energy of each component that gave a reading, over all segments and nodes."""
    sums: dict[str, int] = {}
    for life in lives:
        for (name, _), energy in life.microjoules.items():
            sums[name] = sums.get(name, 0) + energy
    return sums


def merge(*accounts: Iterable[Life]) -> tuple[Life, ...]:
    """Return every life once, in order; of two accounts of the same life the one that has counted longer holds.

    Energy and time within a life only grow, so that is the newer one.
    """
    newest: dict[tuple[int, int], Life] = {}
    for life in (life for account in accounts for life in account):
        known = newest.get((life.segment, life.node))
        if known is None or _counted(life) >= _counted(known):
            newest[life.segment, life.node] = life
    return tuple(newest[key] for key in sorted(newest))


def _counted(life: Life) -> tuple[int, int, bool]:
    return sum(life.microseconds.values()), total_microjoules([life]), life.reason_ended is not None


def is_measured(lives: Iterable[Life]) -> bool:
    """Tell whether any component of any life gave a reading; without one the total is null, not 0."""
    return any(_readings(life) for life in lives)


def emissions_g(lives: Iterable[Life]) -> float:
    """Return Σ over (segment, node) of energy × pue × carbon intensity, in grams."""
    return math.fsum(_kwh(total_microjoules([life])) * life.pue * life.carbon_intensity.g_per_kwh for life in lives)


def facility_kwh(lives: Iterable[Life]) -> float:
    """Return Σ over (segment, node) of energy × pue, in kWh: what the building draws, and what budgets count."""
    return math.fsum(_kwh(total_microjoules([life])) * life.pue for life in lives)


def in_phases(lives: Iterable[Life], phases: Sequence[str]) -> int:
    """Return the microjoules that were spent in some phases."""
    return sum(_in_phases(life, phases) for life in lives)


def repeated_microjoules(lives: Sequence[Life]) -> int:
    """Return the energy spent after a checkpoint that a later segment resumed from: work that had to be done again."""
    return sum(wasted for _, wasted in _repeated(lives))


def repeated_ranked_microjoules(lives: Sequence[Life]) -> int:
    """Return how much of the repeated work lies in the phases that rank a run.

    How the energy of a life is spread over its phases is known for the whole life only. What comes before its first
    checkpoint is mostly loading, what comes after is training: so all of it is taken to be ranked work, up to what
    the life spent on that. For a life that left no checkpoint this is exact.
    """
    return sum(min(wasted, _in_phases(life, RANKED_PHASES)) for life, wasted in _repeated(lives))


def _repeated(lives: Sequence[Life]) -> list[tuple[Life, int]]:
    """Return each life with its energy that was spent on work done again.

    On a node's axis of cumulative energy each resume, of whatever nodes, wastes the stretch from the checkpoint's mark
    for that node to the start of the resumed segment.
    Stretches end where a life does, so of those that reach into a life the one with the lowest mark holds the others.
    """
    found = []
    for node in sorted({life.node for life in lives}):
        own = sorted((life for life in lives if life.node == node), key=lambda life: life.segment)
        ends = list(accumulate(total_microjoules([life]) for life in own))
        starts = [0, *ends[:-1]]
        for place, life in enumerate(own):
            later = [other.resumed_from_uj for other in lives if other.segment > life.segment]
            marks = [mark.get(node, 0) for mark in later if mark is not None]
            wasted_from = max(starts[place], min(marks, default=ends[place]))
            found.append((life, max(0, ends[place] - wasted_from)))
    return found


def summarize(lives: Sequence[Life]) -> dict[str, Any]:
    """Return the `emissions` section of the run record.

    kWh is IT energy, without PUE; grams include it. Values that were not measured are None.
    """
    lives = sorted(lives, key=lambda life: (life.segment, life.node))
    last_segment = max((life.segment for life in lives), default=0)
    amounts, made_g = _amounts(lives), embodied_g(lives)
    return {
        **amounts,
        "duration_s": _duration_s(lives),
        "complete": bool(lives) and all(_is_complete(life) for life in lives),
        "carbon_intensity": _common_intensity(lives),
        "pue": _common_pue(lives),
        "water_l": water_l(lives) if is_measured(lives) else None,
        "embodied_g": made_g,
        "sci_g_per_run": sci_g_per_run(amounts["emissions_g"], made_g),
        "components": {name: _component(lives, name) for name in COMPONENTS},
        "phases": {phase: _phase(lives, phase) for phase in PHASES if _has_phase(lives, phase)},
        "nodes": [_node(lives, node) for node in sorted({life.node for life in lives})],
        "segments": [
            _segment([life for life in lives if life.segment == number], is_last=number == last_segment)
            for number in sorted({life.segment for life in lives})
        ],
        "repeated_work_kwh": _kwh(repeated_microjoules(lives)) if is_measured(lives) else None,
        "repeated_ranked_kwh": _kwh(repeated_ranked_microjoules(lives)) if is_measured(lives) else None,
        "shared_with": _shared_with(lives),
        "idle": idle_section(lives),
        "lives": lives_section(lives),
        "tracking_overhead_s": math.fsum(life.overhead_s for life in lives),
        "tracking_overhead_percent": _overhead_percent(lives),
        "start_up_s": math.fsum(life.start_up_s for life in lives if life.node == 0),
        "wh_per_1000_predictions": None,  # the run itself adds it, once it has measured its answers
        "forecasts": [],
        "tool": _common([dict(life.tool) for life in lives], {}),
        "notes": list(dict.fromkeys(note for life in lives for note in life.notes)),
    }


def _shared_with(lives: Sequence[Life]) -> list[str] | None:
    """Return the runs that any life met; none only if every life looked."""
    met = sorted({run_id for life in lives for run_id in life.shared_with or ()})
    return met if met or (lives and all(life.shared_with is not None for life in lives)) else None


def _kwh(microjoules: int) -> float:
    return microjoules / MICROJOULES_PER_KWH


def _energy(life: Life, component: str) -> int:
    return sum(energy for (name, _), energy in life.microjoules.items() if name == component)


def _in_phases(life: Life, phases: Sequence[str]) -> int:
    return sum(energy for (_, phase), energy in life.microjoules.items() if phase in phases)


def _is_read(life: Life, component: Component) -> bool:
    # A component that failed before it ever gave a joule is unknown, not zero.
    if component.method is None or component.method == "absent":
        return False
    return component.name not in life.missing or _energy(life, component.name) > 0


def _readings(life: Life) -> list[Component]:
    return [component for component in life.components if _is_read(life, component)]


def _is_complete(life: Life) -> bool:
    return bool(life.components) and not life.missing and all(part.method is not None for part in life.components)


def _amounts(lives: Sequence[Life]) -> dict[str, float | None]:
    """Total energy and emissions with their bands; lows and highs add linearly over everything."""
    if not is_measured(lives):
        return dict.fromkeys(
            ("energy_kwh", "emissions_g", "energy_kwh_low", "energy_kwh_high", "emissions_g_low", "emissions_g_high")
        )
    complete = all(_is_complete(life) for life in lives)
    lows = [math.fsum(_kwh(_energy(life, part.name)) * part.low for part in _readings(life)) for life in lives]
    highs = [math.fsum(_kwh(_energy(life, part.name)) * part.high for part in _readings(life)) for life in lives]

    def grams(energies: list[float], intensity: Callable[[Intensity], float]) -> float:
        return math.fsum(
            energy * life.pue * intensity(life.carbon_intensity) for energy, life in zip(energies, lives, strict=True)
        )

    return {
        "energy_kwh": _kwh(total_microjoules(lives)),
        "emissions_g": emissions_g(lives),
        "energy_kwh_low": math.fsum(lows),
        "energy_kwh_high": math.fsum(highs) if complete else None,
        "emissions_g_low": grams(lows, Intensity.lowest),
        "emissions_g_high": grams(highs, Intensity.highest) if complete else None,
    }


def _component(lives: Sequence[Life], name: str) -> dict[str, Any]:
    parts = [(life, part) for life in lives for part in life.components if part.name == name]
    present = [(life, part) for life, part in parts if part.method != "absent"]
    read = [(life, part) for life, part in present if _is_read(life, part)]
    whole = len(read) == len(present) and all(name not in life.missing for life, _ in present)
    reasons = [life.missing[name] for life, _ in present if name in life.missing]
    methods = list(dict.fromkeys(part.method for _, part in read))
    details = list(dict.fromkeys([part.detail for _, part in (present or parts)] + reasons))
    if not present and parts:
        method: str | None = "absent"
    else:
        method = methods[0] if len(methods) == 1 else "mixed" if methods else None
    return {
        "energy_kwh": _kwh(sum(_energy(life, name) for life, _ in read)) if read else None,
        "energy_kwh_low": math.fsum(_kwh(_energy(life, name)) * part.low for life, part in read) if read else None,
        "energy_kwh_high": (
            math.fsum(_kwh(_energy(life, name)) * part.high for life, part in read) if read and whole else None
        ),
        "method": method,
        "detail": "; ".join(details) or "no reading was taken",
    }


def _has_phase(lives: Sequence[Life], phase: str) -> bool:
    return any(life.microseconds.get(phase) for life in lives) or any(
        energy for life in lives for (_, of_phase), energy in life.microjoules.items() if of_phase == phase
    )


def _phase(lives: Sequence[Life], phase: str) -> dict[str, Any]:
    known = is_measured(lives)
    energies = [_in_phases(life, [phase]) for life in lives]
    grams = math.fsum(
        _kwh(energy) * life.pue * life.carbon_intensity.g_per_kwh for energy, life in zip(energies, lives, strict=True)
    )
    return {
        "energy_kwh": _kwh(sum(energies)) if known else None,
        "emissions_g": grams if known else None,
        "duration_s": sum(life.microseconds.get(phase, 0) for life in lives if life.node == 0) / MICROSECONDS_PER_S,
        "components": {
            name: (
                _kwh(sum(life.microjoules.get((name, phase), 0) for life in lives))
                if any(part.name == name for life in lives for part in _readings(life))
                else None
            )
            for name in COMPONENTS
        },
    }


def _node(lives: Sequence[Life], node: int) -> dict[str, Any]:
    own = [life for life in lives if life.node == node]
    return {
        "node": node,
        "hostname": own[-1].hostname,
        "boot_id": own[-1].boot_id,
        "energy_kwh": _kwh(total_microjoules(own)) if is_measured(own) else None,
        "emissions_g": emissions_g(own) if is_measured(own) else None,
        "carbon_intensity": _common_intensity(own),
    }


def _segment(own: Sequence[Life], *, is_last: bool) -> dict[str, Any]:
    # A life without a last line that another one follows was killed; the last one may still be running.
    reason = own[0].reason_ended or (None if is_last else "died")
    return {
        "started_at": own[0].started_at,
        "energy_kwh": _kwh(total_microjoules(own)) if is_measured(own) else None,
        "duration_s": _duration_s(own),
        "reason_ended": reason,
    }


def _duration_s(lives: Iterable[Life]) -> float:
    return sum(sum(life.microseconds.values()) for life in lives if life.node == 0) / MICROSECONDS_PER_S


def _overhead_percent(lives: Sequence[Life]) -> float | None:
    """Time that measuring took, of the time of all machines from their first reading on; None before it."""
    total_s = sum(sum(life.microseconds.values()) for life in lives) / MICROSECONDS_PER_S
    return 100 * math.fsum(life.overhead_s for life in lives) / total_s if total_s else None


def _common_intensity(lives: Sequence[Life]) -> dict[str, Any] | None:
    if not lives:
        return None
    if len({life.carbon_intensity for life in lives}) == 1:
        return lives[0].carbon_intensity.as_dict()
    # Grams per kWh actually drawn from the grid, over places with different intensities.
    drawn = facility_kwh(lives)
    places = " + ".join(dict.fromkeys(life.carbon_intensity.location or "unknown" for life in lives))
    average = emissions_g(lives) / drawn if drawn else lives[0].carbon_intensity.g_per_kwh
    return Intensity(average, "energy-weighted mean of several", None, "mixed", places, "mixed").as_dict()


def _common_pue(lives: Sequence[Life]) -> float | None:
    values = {life.pue for life in lives}
    if len(values) < 2:
        return next(iter(values), None)
    total = total_microjoules(lives)
    return math.fsum(total_microjoules([life]) * life.pue for life in lives) / total if total else lives[0].pue


def _common(values: Sequence[dict[str, str]], empty: dict[str, str]) -> dict[str, str]:
    # A resumed run may have started before an upgrade: the newest life that says anything names the tool.
    return next((value for value in reversed(values) if value), empty)
