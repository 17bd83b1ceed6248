"""An estimate as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.runs import formats
from finetune.runs.report import intensity_words, scope_words
from finetune.runs.tables import Column, plain, text_table
from finetune.text import join_words, plural

_VERDICTS = {
    "yes": "the run fits",
    "perhaps": "the run may not fit: it stops in time where it would not",
    "no": "the run does not fit: it will stop before its end",
    None: "not known, as the energy is not measured",
}

Section = Mapping[str, Any]


def describe(report: Section) -> str:
    """Return an estimate as text: totals, what they rest on, phases, other grids, the next command."""
    title = f"{report['name']}: what the run will take, if it goes to its end"
    lines = [
        title,
        "─" * min(len(title), 100),
        *_energy(report),
        f"CO2e    {_carbon(report)}",
        f"time    {_time(report)}",
        f"memory  {_memory(report['memory'])}",
        f"disk    about {_size(report['disk']['needed_bytes'])} at most, {_size(report['disk']['free_bytes'])} free",
        f"steps   {_steps(report['training'])}",
        *(f"budget  {_budget(entry)}" for entry in report["budget"]),
        f"from    {_basis(report)}",
    ]
    blocks = ["\n".join(lines), _phases(report["phases"]), _grids(report["grids"])]
    blocks.append("\n".join(f"note: {note}" for note in report["notes"]))
    blocks.append(f"next    {report['next']}")
    return plain("\n\n".join(block for block in blocks if block))


def _energy(report: Section) -> list[str]:
    kwh = report["energy_kwh"]
    if kwh is None:
        return [f"energy  {formats.NOT_MEASURED}"]
    unit, factor = formats.energy_unit([kwh])
    least = "" if report["complete"] else "at least "
    methods = {name: part["method"] or "not read" for name, part in report["components"].items()}
    known = ", ".join(f"{name} {how}" for name, how in methods.items() if how != "absent")
    expected = _span(report["forecast"], "energy_kwh", factor)
    lines = [f"energy  {least}{formats.energy(kwh)}, expected {expected} {unit} ({known})"]
    if report["energy_kwh_high"] is not None:
        band = _span(report, "energy_kwh", factor)
        lines.append(f"band    {band} {unit}: what is expected, and how far off the meter itself may be")
    return lines


def _carbon(report: Section) -> str:
    grams = report["emissions_g"]
    if grams is None:
        return formats.NOT_MEASURED
    unit, factor = ("kg", 1e-3) if grams >= 1000 else ("g", 1.0)
    least = "" if report["complete"] else "at least "
    expected = f"{_span(report['forecast'], 'emissions_g', factor)} {unit}"
    return f"{least}{formats.grams(grams)}, expected {expected} ({intensity_words(report['carbon_intensity'])})"


def _time(report: Section) -> str:
    low, high = (formats.duration(report["forecast"][f"duration_s_{end}"]) for end in ("low", "high"))
    return f"{formats.duration(report['duration_s'])}, expected {low} to {high}"


def _span(values: Section, name: str, factor: float) -> str:
    return formats.span(values[f"{name}_low"] * factor, values[f"{name}_high"] * factor)


def _memory(memory: Section) -> str:
    parts = [f"{_size(memory['ram_bytes'])} of RAM"]
    if memory["gpu_bytes"] is not None:
        parts.append(f"{_size(memory['gpu_bytes'])} on the GPU")
    how = "measured with the longest rows" if memory["known"] == "measured" else "estimated"
    return f"about {join_words(parts, 'and')} at the most ({how}), {_size(memory['ram_free_bytes'])} of RAM free"


def _steps(training: Section) -> str:
    steps = f"{training['total_steps']:,} of {plural(training['rows_per_step'], 'row')}"
    return f"{steps}, {plural(training['evaluations'], 'evaluation')} on the way, one process on {training['device']}"


def _budget(entry: Section) -> str:
    return f"{entry['key']} {entry['limit']:g}: {_VERDICTS[entry['fits']]}"


def _basis(report: Section) -> str:
    probe = report["probe"]
    if report["basis"] == "probe":
        return (
            f"{plural(probe['steps'], 'real step')} on this machine; "
            f"the probe itself took {formats.energy(probe['energy_kwh'])} and {formats.duration(probe['duration_s'])}"
        )
    if report["basis"] == "history":
        return f"{plural(len(report['based_on']), 'past run')} on this machine: {join_words(report['based_on'], 'and')}"
    return "arithmetic with an assumed speed and power: take it as an order of magnitude"


def _phases(phases: Section) -> str:
    kwh = [entry["energy_kwh"] for entry in phases.values()]
    unit, factor = formats.energy_unit(kwh)
    return text_table(
        [
            Column("phase", list(phases)),
            Column(f"energy {unit}", _numbers(kwh, factor), right=True),
            Column("g CO2e", _numbers([entry["emissions_g"] for entry in phases.values()]), right=True),
            Column("time", [formats.duration(entry["duration_s"]) for entry in phases.values()], right=True),
        ]
    )


def _grids(grids: Sequence[Section]) -> str:
    return text_table(
        [
            Column("the same energy on the grid of", [_place(entry) for entry in grids]),
            Column("g/kWh", _numbers([entry["g_per_kwh"] for entry in grids]), right=True),
            Column("g CO2e", _numbers([entry["emissions_g"] for entry in grids]), right=True),
            Column("data", [f"{entry['year'] or '–'}, {scope_words(entry['scope'])}" for entry in grids]),
        ]
    )


def _place(entry: Section) -> str:
    if entry["place"] == "here":
        return f"here ({entry['location'] or 'place not known'})"
    return f"{entry['place']} ({entry['location']})" if entry["location"] else str(entry["place"])


def _numbers(values: Sequence[float | None], factor: float = 1.0) -> list[str]:
    return ["–" if value is None else formats.significant(value * factor) for value in values]


def _size(count: int | None) -> str:
    return "unknown" if count is None else formats.file_size(count)
