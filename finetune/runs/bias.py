"""What the probes of bias found of a run, in words and tables: for show, compare, the card and the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune.runs.record import Run, as_mapping, as_number
from finetune.runs.tables import Column, markdown_cell, markdown_table, text_table

MOMENTS = ("before", "after")
CHECKPOINT = "checkpoint"  # what a section is of when nothing was trained: its results stand under `before`
_MOST_ROWS = 12  # of a probe in show and in the card
FLAG_WORDS = "* flagged: p ≤ 0.05 after Holm's correction over all tests of the probe"

Section = Mapping[str, Any]


@dataclass(frozen=True)
class ProbeTable:
    """One probe: its title, its findings as a table, what else is to be said, and what is known against it."""

    title: str
    columns: tuple[Column, ...]
    lines: tuple[str, ...]
    caveats: tuple[str, ...]


def probe_tables(bias: Section | None, whole: bool) -> list[ProbeTable]:
    """Return every probe of a `bias` section; not `whole`: of long ones the first, and what is flagged."""
    moments = dict(zip(MOMENTS, MOMENTS, strict=True))
    if isinstance(bias, Mapping) and bias.get("of") == CHECKPOINT:
        moments["before"] = CHECKPOINT
    return [_table(entry, whole, moments) for entry in probe_entries(bias)]


def probe_entries(bias: Section | None) -> list[Section]:
    """Return the probes of a `bias` section, none where nothing was measured."""
    entries = as_mapping(bias).get("probes")
    return [entry for entry in entries if isinstance(entry, Mapping)] if isinstance(entries, list) else []


def flag_counts(run: Run, moment: str = "after") -> tuple[int, int] | None:
    """Return how many tests of a run's probes are flagged at a moment, and how many there were; None: not measured."""
    found = [
        finding.get("flagged")
        for entry in probe_entries(run.bias)
        for finding in _findings(entry, moment)
        if finding.get("flagged") is not None
    ]
    return (sum(map(bool, found)), len(found)) if found else None


def flag_words(run: Run) -> str:
    """Return how many tests are flagged before and after training, in one line; empty without probes."""
    parts = [
        f"{moment} {counts[0]} of {counts[1]}" for moment in MOMENTS if (counts := flag_counts(run, moment)) is not None
    ]
    if not probe_entries(run.bias):
        return ""
    return "tests flagged: " + ", ".join(parts) if parts else "not measured"


def _table(entry: Section, whole: bool, moments: Mapping[str, str]) -> ProbeTable:
    by_moment = {moment: _findings(entry, moment) for moment in MOMENTS}
    measured = [moment for moment in MOMENTS if isinstance(entry.get(moment), Mapping)]
    known = {moment: {_key(finding): finding for finding in found} for moment, found in by_moment.items()}
    keys = list(dict.fromkeys(key for moment in measured for key in known[moment]))
    shown = keys if whole or len(keys) <= _MOST_ROWS else _chosen(keys, known)
    latest = measured[-1] if measured else "after"
    last = [known[latest].get(key, {}) for key in shown]
    columns = [
        Column("group", [key[0] for key in shown]),
        Column("measure", [key[1] for key in shown]),
        *(Column(moments[moment], [finding_words(known[moment].get(key)) for key in shown]) for moment in measured),
        Column("n", [_count(finding.get("n")) for finding in last], right=True),
        Column("p (Holm)", [_p(finding.get("p_adjusted")) for finding in last], right=True),
        Column("made of", [str(finding.get("made_of") or "") for finding in last]),
    ]
    lines = [*_reasons(entry, moments), *_left_out(entry, latest)]
    if len(shown) < len(keys):
        lines.append(f"{len(keys) - len(shown)} more are not flagged; --json has them all")
    caveats = tuple(
        f"{caveat.get('says')} ({caveat.get('source')})"
        for caveat in entry.get("caveats") or ()
        if isinstance(caveat, Mapping)
    )
    return ProbeTable(_title(entry, last), tuple(columns) if shown else (), tuple(lines), caveats)


def _chosen(keys: Sequence[tuple[str, str]], known: Section) -> list[tuple[str, str]]:
    """Return the findings that are flagged at some moment, and the first ones up to the limit, in their order."""
    flagged = [key for key in keys if any(found.get(key, {}).get("flagged") for found in known.values())]
    kept = set(flagged) | set(keys[: max(1, _MOST_ROWS - len(flagged))])
    return [key for key in keys if key in kept]


def _title(entry: Section, findings: Sequence[Section]) -> str:
    nulls = dict.fromkeys(
        f"{finding['null_value']:g}" for finding in findings if as_number(finding.get("null_value")) is not None
    )
    parts = [str(entry.get("data") or ""), str(entry.get("language") or "")]
    parts += [f"without bias {' or '.join(nulls)}"] if nulls else []
    return f"{entry.get('probe')}: {', '.join(part for part in parts if part)}"


def _reasons(entry: Section, moments: Mapping[str, str]) -> list[str]:
    return [
        f"{called if called == CHECKPOINT else f'{moment} training'}: not measured: {entry[f'{moment}_reason']}"
        for moment, called in moments.items()
        if entry.get(f"{moment}_reason")
    ]


def _left_out(entry: Section, moment: str) -> list[str]:
    left_out = as_mapping(as_mapping(entry.get(moment)).get("left_out"))
    counts = [f"{why} {count}" for why, count in left_out.items()]
    return [f"left out: {', '.join(counts)}"] if counts else []


def _findings(entry: Section, moment: str) -> list[Section]:
    found = as_mapping(entry.get(moment)).get("findings")
    return [finding for finding in found if isinstance(finding, Mapping)] if isinstance(found, list) else []


def _key(finding: Section) -> tuple[str, str]:
    return str(finding.get("group")), str(finding.get("measure"))


def finding_words(finding: Section | None) -> str:
    """Return a value with its interval, and a star where it is flagged."""
    value = as_number(finding.get("value")) if finding else None
    if finding is None or value is None:
        return "–"
    low, high = as_number(finding.get("low")), as_number(finding.get("high"))
    digits = 3 if finding.get("unit") == "score" else 1
    interval = f" [{low:.{digits}f} to {high:.{digits}f}]" if low is not None and high is not None else ""
    return f"{value:.{digits}f}{interval}" + (" *" if finding.get("flagged") else "")


def _count(value: Any) -> str:
    number = as_number(value)
    return "–" if number is None else f"{number:,.0f}"


def _p(value: Any) -> str:
    number = as_number(value)
    return "–" if number is None else "< 0.001" if number < 0.001 else f"{number:.3f}"


def bias_text(bias: Section | None, whole: bool) -> str:
    """Return the probes for a terminal; empty where there are none."""
    blocks = []
    for probe in probe_tables(bias, whole):
        table = [text_table(probe.columns)] if probe.columns else []
        known = [f"known: {caveat}" for caveat in probe.caveats]
        blocks.append("\n".join([probe.title, *table, *probe.lines, *known]))
    return "\n\n".join([*blocks, FLAG_WORDS]) if blocks else ""


def bias_markdown(run: Run) -> str:
    """Return the probes for the model card; empty where there are none."""
    tables = probe_tables(run.bias, whole=False)
    if not tables:
        return ""
    parts = ["## Bias probes", f"The same probes before and after training; {markdown_cell(flag_words(run))}."]
    for probe in tables:
        parts.append(f"### {markdown_cell(probe.title)}")
        parts += [markdown_table(probe.columns)] if probe.columns else []
        parts += [markdown_cell(line) for line in probe.lines]
        parts.append("\n".join(f"- {markdown_cell(caveat)}" for caveat in probe.caveats))
    return "\n\n".join([*parts, markdown_cell(FLAG_WORDS)])


def bias_content(run: Run) -> dict[str, Any] | None:
    """Return the probes as the plain values that the page of a run shows; None where there are none."""
    tables = probe_tables(run.bias, whole=True)
    probes = [
        {
            "title": probe.title,
            "headings": [column.heading for column in probe.columns],
            "rows": list(zip(*(column.cells for column in probe.columns), strict=True)),
            "lines": probe.lines,
            "caveats": probe.caveats,
        }
        for probe in tables
    ]
    return {"words": flag_words(run), "rule": FLAG_WORDS, "probes": probes} if probes else None
