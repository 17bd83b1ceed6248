"""The columns of a comparison's table, for runs and for groups of them."""

from collections.abc import Callable

from finetune.runs import formats
from finetune.runs.bias import flag_counts
from finetune.runs.comparison import Comparison, Group, Row, component_methods
from finetune.runs.record import Run, as_number
from finetune.runs.seed_report import mean_words
from finetune.runs.tables import Column, shorten
from finetune.text import plural

BADGES = {"measured": "m", "modelled": "M", "assumed": "a", "mixed": "x"}


def short_id(run: Run) -> str:
    """Return the last part of a run id, enough to name the run."""
    return run.run_id.rpartition("-")[2]


def run_front(comparison: Comparison) -> list[Column]:
    """Return who each run is: its name with a star on the front, its short id, its set."""
    names = []
    for row in comparison.rows:
        mark = "* " if row.on_front else "  "
        status = [] if row.run.is_finished else [f"  {row.run.status}"]
        names.append("\n".join([mark + shorten(row.run.name, 24), f"  {short_id(row.run)}", *status]))
    columns = [Column("  run", names)]
    if len(comparison.sets) > 1:
        columns.append(Column("set", [row.run_set.name if row.run_set else "–" for row in comparison.rows]))
    return columns


def run_back(comparison: Comparison, separator: str) -> list[Column]:
    """Return what was found of each run: score, energy, grams, time, and how they are known."""
    rows = comparison.rows
    columns = [
        Column(score_heading(comparison, separator), [_score_cell(row) for row in rows], right=True),
        Column(f"energy{separator}kWh", [_energy_cell(row) for row in rows], right=True),
        Column(f"g CO2e{separator}as run", [_bounded(row.run, row.run.emissions_g()) for row in rows], right=True),
    ]
    if comparison.grid is not None:
        cells = [_bounded(row.run, row.emissions_g_on_grid) for row in rows]
        columns.append(Column(f"g CO2e{separator}@{comparison.grid.code}", cells, right=True))
    counts = [flag_counts(row.run) for row in rows]
    if any(counts):
        cells = [formats.NOT_MEASURED if found is None else f"{found[0]} of {found[1]}" for found in counts]
        columns.insert(1, Column(f"bias{separator}flagged", cells, right=True))
    return [
        *columns,
        Column("time", [formats.duration(row.run.duration_s()) for row in rows], right=True),
        Column(f"Wh per{separator}1,000", [_measured(_wh_per_1000(row)) for row in rows], right=True),
        Column(f"trained{separator}params", [formats.count(_trained(row)) for row in rows], right=True),
        Column("how", [method_badges(row.run) for row in rows]),
    ]


def score_heading(comparison: Comparison, separator: str) -> str:
    """Return the metric and split that all scores are of; plain `score` when they are not of one set."""
    if len(comparison.sets) != 1:
        return "score"
    return f"{comparison.sets[0].metric}{separator}{comparison.sets[0].split}"


def members_words(group: Group, grouped_by: str | None) -> str:
    """Return how many seeds, or runs, a group has."""
    return plural(len(group.members), "seed" if grouped_by == "training.seed" else "run")


def group_front(comparison: Comparison) -> list[Column]:
    """Return who each group is: its name with a star on the front, how many seeds or runs, its set."""
    names = []
    for group in comparison.groups:
        mark = "* " if group.on_front else "  "
        names.append(f"{mark}{shorten(group.name, 36)}\n  {members_words(group, comparison.grouped_by)}")
    columns = [Column("  group", names)]
    if len(comparison.sets) > 1:
        columns.append(Column("set", [group.run_set.name if group.run_set else "–" for group in comparison.groups]))
    return columns


def group_back(comparison: Comparison, separator: str) -> list[Column]:
    """Return what was found of each group: mean score ± its interval; energy, grams and time of a run on average."""
    groups = comparison.groups

    def means(value: Callable[[Row], float | None], words: Callable[[float | None], str]) -> list[str]:
        return [words(group.mean(value)) for group in groups]

    columns = [
        Column(score_heading(comparison, separator), [_group_score(group) for group in groups], right=True),
        Column(f"energy{separator}kWh", [_group_energy(group) for group in groups], right=True),
        Column(f"g CO2e{separator}as run", means(lambda row: row.run.emissions_g(), _measured), right=True),
    ]
    if comparison.grid is not None:
        cells = means(lambda row: row.emissions_g_on_grid, _measured)
        columns.append(Column(f"g CO2e{separator}@{comparison.grid.code}", cells, right=True))
    return [
        *columns,
        Column("time", means(lambda row: row.run.duration_s(), formats.duration), right=True),
        Column(f"Wh per{separator}1,000", means(_wh_per_1000, _measured), right=True),
        Column(f"trained{separator}params", means(_trained, formats.count), right=True),
        Column("how", [_group_badges(group) for group in groups]),
    ]


def _group_badges(group: Group) -> str:
    return "\n".join(dict.fromkeys(line for row in group.rows for line in method_badges(row.run).split("\n")))


def _group_score(group: Group) -> str:
    if group.score is None:
        return "none"
    return mean_words(group.score) + ("\nseed noise unknown" if group.score.low is None else "")


def _group_energy(group: Group) -> str:
    kwh = group.mean(lambda row: row.run.energy_kwh())
    if kwh is None:
        return formats.NOT_MEASURED
    low = group.mean(lambda row: as_number(row.run.emissions.get("energy_kwh_low")))
    high = group.mean(lambda row: as_number(row.run.emissions.get("energy_kwh_high")))
    complete = all(row.run.emissions.get("complete") is True for row in group.rows)
    lines = [formats.significant(kwh) if complete else f"≥ {formats.significant(kwh)}"]
    if complete and low is not None and high is not None:
        lines.append(formats.span(low, high, 2))
    if group.ranked_kwh is not None and not group.not_ranked:
        lines.append(f"ranked {formats.significant(group.ranked_kwh)}")
    return "\n".join(lines)


def _score_cell(row: Row) -> str:
    if row.score is None:
        return "none"
    return f"{formats.score_value(row.score.value)}\n{formats.score_interval(row.score)}".rstrip()


def _energy_cell(row: Row) -> str:
    emissions, kwh = row.run.emissions, row.run.energy_kwh()
    if kwh is None:
        return formats.NOT_MEASURED
    low, high = as_number(emissions.get("energy_kwh_low")), as_number(emissions.get("energy_kwh_high"))
    lines = [formats.significant(kwh)]
    if emissions.get("complete") is not True:
        lines[0] = f"≥ {lines[0]}"
    elif low is not None and high is not None:
        lines.append(formats.span(low, high, 2))
    if row.ranked_kwh is not None and not row.not_ranked:
        lines.append(f"ranked {formats.significant(row.ranked_kwh)}")
    return "\n".join(lines)


def _bounded(run: Run, grams: float | None) -> str:
    is_bound = grams is not None and run.emissions.get("complete") is not True
    return f"≥ {_measured(grams)}" if is_bound else _measured(grams)


def _wh_per_1000(row: Row) -> float | None:
    return as_number(row.run.emissions.get("wh_per_1000_predictions"))


def _trained(row: Row) -> float | None:
    return as_number(row.run.model.get("trainable_parameters"))


def _measured(value: float | None) -> str:
    return "–" if value is None else formats.significant(value)


def method_badges(run: Run) -> str:
    """Return how each component's energy is known: its name and a letter, which `method_legend` explains."""
    badges = [f"{name} {BADGES.get(method, '–')}" for name, method in component_methods(run).items()]
    return "\n".join(badges) or formats.NOT_MEASURED
