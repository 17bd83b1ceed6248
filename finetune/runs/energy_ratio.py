"""Which of two runs used less energy, as far as the measurements can tell.

Energy is E = sum over components of k·x: x is what the tool read, k the unknown true factor of that reading, known to
lie in a band. On one machine with one method both runs share k, so most of the error cancels in the ratio; otherwise
each has its own. The range of the ratio is its minimum and maximum over the corners of that box.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from finetune.emissions.components import JOULES_PER_KWH
from finetune.emissions.ledger import RANKED_PHASES
from finetune.runs.record import Run, as_mapping, as_number, as_sections
from finetune.runs.statistics import Spread, stdev, t_quantile, unpaired_spread

ASSUMED_SPREAD = 1.05
"""Spread between two runs that differ in nothing but chance, assumed as long as each was run once."""

_LOAD_TOLERANCE = 0.1
_LEAST_SHARE = 1e-9  # a share of the energy below this is what rounding left of nothing
_TDP = re.compile(r"\bTDP (\d+(?:\.\d+)?) W\b")


@dataclass(frozen=True)
class Part:
    """The ranked energy of one component: what was read (kWh) and the band of its factor.

    `source` is what must agree for two runs to share the factor, None when that is not known; `load` the mean load
    of a modelled processor (0 to 1), whose model errs differently at another load.
    """

    kwh: float
    factor_low: float
    factor_high: float
    source: tuple[Any, ...] | None = None
    load: float | None = None


Energies = Mapping[str, Sequence[Mapping[str, Part]]]
"""The ranked energy of the runs of a group by what pairs them with those of another: their seed."""


@dataclass(frozen=True)
class EnergyRatio:
    """The energy of one run over that of another, with the range in which the true ratio lies.

    `seeds`: how many stand behind the spread between runs; with one it is assumed.
    """

    value: float
    low: float
    high: float
    seeds: int = 1

    @property
    def verdict(self) -> str:
        """Return "cheaper", "dearer" or "undecided"."""
        return "cheaper" if self.high < 1 else "dearer" if self.low > 1 else "undecided"


def ranked_parts(run: Run) -> dict[str, Part]:
    """Return the energy of train + evaluate + save, less repeated work, by component; empty when it is not known.

    Repeated work (steps done again after a crash) is taken from the components in proportion. A run of which it
    leaves nothing is empty too: no run is ranked at 0 kWh.
    """
    read = _read_kwh(run)
    total = sum(read.values())
    kept = 1 - _repeated_kwh(run) / total if total > 0 else 0.0
    if kept < _LEAST_SHARE:
        return {}
    components = run.emissions["components"]
    return {name: _part(run, name, components[name], kwh * kept) for name, kwh in read.items()}


def phase_parts(run: Run, phase: str) -> dict[str, Part]:
    """Return the energy of one phase by component; empty when it is not known."""
    phases, components = as_mapping(run.emissions.get("phases")), as_sections(run.emissions.get("components"))
    read = {name: _phase_kwh(phases.get(phase), name) for name in components}
    return {name: _part(run, name, components[name], kwh) for name, kwh in read.items() if kwh > 0}


def answer_part(run: Run, name: str, kwh: float, watts: float) -> Part:
    """Return the energy of a prediction on one component, which drew so much power while predictions were made."""
    component = as_sections(run.emissions.get("components")).get(name)
    if component is None:
        return Part(kwh, 0.0, math.inf)
    part = _part(run, name, component, kwh)
    if component.get("method") != "modelled" or name != "cpu":
        return part
    load = _load_at(watts / len(run.emissions.get("nodes") or [None]), str(component.get("detail")))
    return replace(part, source=None if load is None else _source(run, name, component), load=load)


def why_not_known(run: Run) -> str:
    """Say why a run that was measured has no energy to be ranked by."""
    if _read_kwh(run):
        return "energy of train, evaluate and save not known apart from work that was done again"
    return "energy of train, evaluate and save not known"


def ranked_kwh(run: Run) -> float | None:
    """Return the energy that a ranking counts, None when it was not measured."""
    parts = ranked_parts(run)
    return sum(part.kwh for part in parts.values()) if parts else None


def energy_ratio(ours: Mapping[str, Part], theirs: Mapping[str, Part]) -> EnergyRatio | None:
    """Return our energy over theirs with its range; None when either is not known, open or zero."""
    our_kwh, their_kwh = (sum(part.kwh for part in parts.values()) for parts in (ours, theirs))
    bounded = all(math.isfinite(part.factor_high) for part in (*ours.values(), *theirs.values()))
    if our_kwh <= 0 or their_kwh <= 0 or not bounded:
        return None
    low, high = _corners(ours, theirs)
    return EnergyRatio(our_kwh / their_kwh, low / ASSUMED_SPREAD, high * ASSUMED_SPREAD)


def group_energy_ratio(ours: Energies, theirs: Energies) -> EnergyRatio | None:
    """Return the energy of our runs over theirs, run by run of the same seed, with its range.

    The spread between runs is exp(±t·s/√n) of the logarithms of the ratios; without two seeds in common it comes from
    the spread inside the groups. One seed against one has the assumed spread, one against several at least that. A seed
    that was run several times counts with its mean.
    """
    if [len(runs) for side in (ours, theirs) for runs in side.values()] == [1, 1]:
        return energy_ratio(*(runs[0] for side in (ours, theirs) for runs in side.values()))
    logs = [_log_means(side) for side in (ours, theirs)]
    if not all(logs):
        return None
    shared = sorted(set(ours) & set(theirs))
    spread: Spread | None
    if len(shared) >= 2:
        each = [logs[0][unit] - logs[1][unit] for unit in shared]
        centre, seeds, spread = fmean(each), len(each), Spread(stdev(each) ** 2 / len(each), len(each) - 1)
        ours, theirs = ({unit: side[unit] for unit in shared} for side in (ours, theirs))
    else:
        centre, seeds = fmean(logs[0].values()) - fmean(logs[1].values()), min(map(len, logs))
        spread = unpaired_spread(*(list(side.values()) for side in logs))
    factor = math.exp(t_quantile(spread.degrees) * math.sqrt(spread.variance)) if spread is not None else ASSUMED_SPREAD
    if seeds == 1:
        factor = max(factor, ASSUMED_SPREAD)
    boxed = energy_ratio(_together(ours), _together(theirs))
    if boxed is None:
        return None
    value = math.exp(centre)
    low, high = (value * bound / boxed.value for bound in (boxed.low * ASSUMED_SPREAD, boxed.high / ASSUMED_SPREAD))
    return EnergyRatio(value, low / factor, high * factor, seeds)


def _log_means(side: Energies) -> dict[str, float]:
    """Return the logarithm of the mean energy of each seed; empty when one is not known."""
    means = {unit: fmean(sum(part.kwh for part in parts.values()) for parts in runs) for unit, runs in side.items()}
    return {unit: math.log(kwh) for unit, kwh in means.items()} if min(means.values(), default=0) > 0 else {}


def _together(side: Energies) -> dict[str, Part]:
    """Return the energy of several runs as if they were one, each seed once: parts with one factor are added up."""
    alike: dict[tuple[Any, ...], list[tuple[float, Part]]] = defaultdict(list)
    for unit in sorted(side):
        for number, parts in enumerate(side[unit]):
            for name, part in parts.items():
                own = f"{unit} {number}" if part.source is None else ""
                key = name, part.source, part.factor_low, part.factor_high, own
                alike[key].append((part.kwh / len(side[unit]), part))
    return {
        "|".join(map(str, key)): replace(
            parts[0][1],
            kwh=sum(kwh for kwh, _ in parts),
            load=None if parts[0][1].load is None else fmean(part.load or 0.0 for _, part in parts),
        )
        for key, parts in alike.items()
    }


def _corners(ours: Mapping[str, Part], theirs: Mapping[str, Part]) -> tuple[float, float]:
    shared_names = {name for name in ours if name in theirs and shares_factor(ours[name], theirs[name])}
    # Factors of one side alone move the ratio one way only: their corner is known without trying.
    alone = [[part for name, part in sorted(side.items()) if name not in shared_names] for side in (ours, theirs)]
    (our_low, our_high), (their_low, their_high) = (
        (sum(part.kwh * part.factor_low for part in side), sum(part.kwh * part.factor_high for part in side))
        for side in alone
    )
    # The ratio is greatest, or smallest, with the factors high of those components whose own ratio is above, or below,
    # it: in the order of these ratios, one of the corners where the highs come first, or last.
    shared = sorted(((ours[name], theirs[name]) for name in sorted(shared_names)), key=_own_ratio, reverse=True)
    lowest, highest = math.inf, 0.0
    for count in range(len(shared) + 1):
        for first_high in (True, False):
            high = [(number < count) == first_high for number in range(len(shared))]
            factors = [our.factor_high if up else our.factor_low for up, (our, _) in zip(high, shared, strict=True)]
            our_part = sum(factor * our.kwh for factor, (our, _) in zip(factors, shared, strict=True))
            their_part = sum(factor * their.kwh for factor, (_, their) in zip(factors, shared, strict=True))
            lowest = min(lowest, (our_part + our_low) / (their_part + their_high))
            highest = max(highest, (our_part + our_high) / (their_part + their_low))
    return lowest, highest


def _own_ratio(pair: tuple[Part, Part]) -> float:
    return pair[0].kwh / pair[1].kwh


def shares_factor(ours: Part, theirs: Part) -> bool:
    """Tell whether two readings err alike: by the same factor, whatever it is."""
    if ours.source is None or ours.source != theirs.source:
        return False
    if (ours.factor_low, ours.factor_high) != (theirs.factor_low, theirs.factor_high):
        return False
    if ours.load is None or theirs.load is None:
        return ours.load is theirs.load
    return abs(ours.load - theirs.load) <= _LOAD_TOLERANCE + 1e-12


def _part(run: Run, name: str, component: Mapping[str, Any], kwh: float) -> Part:
    read, low, high = (as_number(component.get(key)) for key in ("energy_kwh", "energy_kwh_low", "energy_kwh_high"))
    if not read or low is None or high is None:  # an open band: nothing can be said against it
        return Part(kwh, 0.0, math.inf)
    source, load = _source(run, name, component), None
    if component.get("method") == "modelled" and name == "cpu":
        load = _modelled_load(run, str(component.get("detail")))
        source = source if load is not None else None
    return Part(kwh, round(low / read, 9), round(high / read, 9), source, load)


def _modelled_load(run: Run, detail: str) -> float | None:
    """Return the mean load (0 to 1) that a processor's modelled power stands for, None when it cannot be told.

    codecarbon's load model is P = TDP · (0.1 + 0.9 · load³).
    """
    phases, nodes = run.emissions["phases"], run.emissions.get("nodes") or [None]
    duration_s = math.fsum(
        as_number(phases[name].get("duration_s")) or 0.0
        for name in RANKED_PHASES
        if isinstance(phases.get(name), Mapping)
    )
    if duration_s <= 0:
        return None
    return _load_at(_ranked_kwh(phases, "cpu") * JOULES_PER_KWH / duration_s / len(nodes), detail)


def _load_at(watts: float, detail: str) -> float | None:
    tdp_w = _TDP.search(detail)
    if tdp_w is None or float(tdp_w[1]) <= 0:
        return None
    return float(max(0.0, (watts / float(tdp_w[1]) - 0.1) / 0.9) ** (1 / 3))


def _source(run: Run, name: str, component: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what two runs must have in common for a component's reading to err alike, None when it is not known."""
    nodes, tool = run.emissions.get("nodes"), run.emissions.get("tool")
    machines = tuple(node.get("boot_id") for node in nodes if isinstance(node, Mapping)) if nodes else ()
    method, detail = component.get("method"), component.get("detail")
    if not machines or None in machines or not detail or method in (None, "mixed") or not isinstance(tool, Mapping):
        return None
    source = (machines, method, str(detail), tool.get("name"), tool.get("version"))
    if name != "cpu" or method != "modelled":
        return source
    workload = [run.hardware.get(key) for key in ("threads", "num_processes")]
    return (*source, *workload, as_mapping(run.recipe.get("emissions")).get("measure_power_secs"))


def _read_kwh(run: Run) -> dict[str, float]:
    """Return what the components drew in the ranked phases, repeated work included; empty when it is not known."""
    phases = as_mapping(run.emissions.get("phases"))
    read = {name: _ranked_kwh(phases, name) for name in as_sections(run.emissions.get("components"))}
    return {name: kwh for name, kwh in read.items() if kwh > 0}


def _repeated_kwh(run: Run) -> float:
    """Return the repeated work in the ranked phases; an older record knows only that of all phases, which is more."""
    known = (as_number(run.emissions.get(name)) for name in ("repeated_ranked_kwh", "repeated_work_kwh"))
    return next((kwh for kwh in known if kwh is not None), 0.0)


def _ranked_kwh(phases: Mapping[str, Any], component: str) -> float:
    return sum(_phase_kwh(phases.get(phase), component) for phase in RANKED_PHASES)


def _phase_kwh(phase: Any, component: str) -> float:
    value = as_mapping(as_mapping(phase).get("components")).get(component)
    return as_number(value.get("energy_kwh") if isinstance(value, Mapping) else value) or 0.0
