"""What the page of a comparison and the page of a run both say about a run: phases, components, settings, notes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from finetune.runs import formats
from finetune.runs.differences import flatten
from finetune.runs.page.charts import stacked_bar
from finetune.runs.record import Run, Score, as_number, as_sections
from finetune.runs.statistics import Mean, mean_of_all

Section = dict[str, Any]

PHASES = ("train", "evaluate", "save", "load", "preprocess", "baseline", "audit", "other")
COMPONENTS = ("cpu", "gpu", "ram")
RULES = (
    "Score and energy are compared only among runs on the same data, split, number of rows and metric: a set. Scores "
    "of other data measure something else.",
    "Energy is ranked on train + evaluate + save without repeated work. Loading, caches and baselines depend on the "
    "day; the total counts them.",
    "A band is a bound by engineering judgement on what a reading can be off, not a confidence interval.",
    "Cheaper is said only when the whole range of the energy ratio lies below 1. Otherwise it is undecided.",
    "A run is off the Pareto front only when another run is shown to score higher and to use less, counting every pair "
    "that was tried: at most 5 of 100 fronts of equally good runs call one dominated by mistake.",
    "Runs that did not finish, had hardware without a reading (≥, a lower bound) or shared their machine, or of which "
    "nobody could look whether they did, are shown and not ranked by energy.",
    "What was not measured is called so, and is never 0.",
)  # fmt: skip


Units = Sequence[Sequence[Run]]
"""Runs put together, those of one seed in one unit, which counts once."""


def mean_kwh(units: Units, end: str = "") -> float | None:
    """Return the energy of a whole run on average, or an end (_low, _high) of its band; None unless all have it."""
    each = [mean_of_all([as_number(run.emissions.get(f"energy_kwh{end}")) for run in runs]) for runs in units]
    return mean_of_all(each)


def energy_words(units: Units) -> str:
    """Return the energy of a whole run on average: ≥ for a lower bound."""
    kwh = mean_kwh(units)
    return formats.NOT_MEASURED if kwh is None else _at_least(_runs(units)) + formats.energy(kwh)


def energy_band(units: Units) -> str:
    """Return the band of a run's energy on average, empty when it has no upper end."""
    kwh, low, high = (mean_kwh(units, end) for end in ("", "_low", "_high"))
    if kwh is None or low is None or high is None or not _is_complete(_runs(units)):
        return ""
    unit, factor = formats.energy_unit([kwh])
    return f"{formats.span(low * factor, high * factor)} {unit}"


def interval_words(score: Score | Mean | None) -> str:
    """Return the interval of a score to stand behind other words, empty when it has none."""
    interval = formats.score_interval(score) if score is not None else ""
    return f", interval {interval}" if interval else ""


def grams_words(runs: Sequence[Run], grams: float | None) -> str:
    """Return grams of CO2e of runs: ≥ for a lower bound."""
    return formats.NOT_MEASURED if grams is None else _at_least(runs) + formats.grams(grams)


def phase_rows(run: Run) -> list[Section]:
    """Return the run's phases in the order of PHASES: energy, grams, time, share of the energy."""
    entries, total = as_sections(run.emissions.get("phases")), run.energy_kwh()
    ordered = [name for name in PHASES if name in entries] + [name for name in entries if name not in PHASES]
    return [
        {
            "name": name,
            "kwh": (kwh := as_number(entries[name].get("energy_kwh"))),
            "energy": formats.energy(kwh),
            "grams": formats.grams(as_number(entries[name].get("emissions_g"))),
            "time": formats.duration(as_number(entries[name].get("duration_s"))),
            "share": _share(kwh, total),
        }
        for name in ordered
    ]


def component_rows(run: Run) -> list[Section]:
    """Return the run's components: energy, band, method and how it is known; absent hardware is left out."""
    components = as_sections(run.emissions.get("components"))
    entries = {name: entry for name, entry in components.items() if entry.get("method") != "absent"}
    unit, factor = formats.energy_unit(as_number(entry.get("energy_kwh")) for entry in entries.values())
    rows = []
    for name, entry in entries.items():
        kwh, low, high = (as_number(entry.get(f"energy_kwh{end}")) for end in ("", "_low", "_high"))
        has_band = low is not None and high is not None
        rows.append(
            {
                "name": name,
                "kwh": kwh,
                "energy": formats.NOT_MEASURED if kwh is None else f"{formats.significant(kwh * factor)} {unit}",
                "band": formats.span(low * factor, high * factor) + f" {unit}" if has_band and low and high else "–",
                "method": str(entry.get("method") or formats.NOT_MEASURED),
                "detail": str(entry.get("detail") or ""),
            }
        )
    return rows


def energy_bars(lines: Sequence[tuple[str, Units]]) -> list[Section]:
    """Return bars by phase and by component on one scale, with legends: of each label's run, or runs on average."""
    longest = max((mean_kwh(units) or 0.0 for _, units in lines), default=0.0)
    if longest <= 0:
        return []
    kinds = (("phase", PHASES, phase_rows), ("component", COMPONENTS, component_rows))
    found = []
    for kind, usual, rows_of in kinds:
        parts = [(label, units, _mean_parts([_unit_parts(runs, rows_of) for runs in units])) for label, units in lines]
        used = {name for _, _, energies in parts for name, kwh in energies.items() if kwh}
        names = [*usual, *sorted(used - set(usual))]
        bars = [
            {
                "label": label,
                "total": energy_words(units),
                "segments": stacked_bar(energies, longest, names),
                "unread": [name for name, kwh in energies.items() if kwh is None],
            }
            for label, units, energies in parts
        ]
        legend = [{"name": name, "colour": names.index(name) + 1} for name in names if name in used]
        found.append({"kind": kind, "legend": legend, "bars": bars})
    return found


def recipe_rows(run: Run) -> list[tuple[str, str]]:
    """Return every setting of the run's recipe that is not null."""
    return [(key, formats.setting(value)) for key, value in flatten(run.recipe).items() if value not in (None, {}, [])]


def _share(kwh: float | None, total: float | None) -> str:
    if kwh is None or not total:
        return "–"
    return f"{100 * kwh / total:.0f} %" if kwh >= 0.005 * total or kwh == 0 else "< 1 %"


def _unit_parts(runs: Sequence[Run], rows_of: Callable[[Run], list[Section]]) -> dict[str, float | None]:
    return _mean_parts([{row["name"]: row["kwh"] for row in rows_of(run)} for run in runs])


def _mean_parts(each: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Return what each phase, or component, took on average; where a run has none of it, it took nothing there."""
    names = dict.fromkeys(name for energies in each for name in energies)
    return {name: mean_of_all([energies.get(name, 0.0) for energies in each]) for name in names}


def _runs(units: Units) -> list[Run]:
    return [run for runs in units for run in runs]


def _is_complete(runs: Sequence[Run]) -> bool:
    return all(run.is_complete for run in runs)


def _at_least(runs: Sequence[Run]) -> str:
    return "" if _is_complete(runs) else "≥ "
