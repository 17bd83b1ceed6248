"""The columns of a comparison's table, for runs and for groups of them."""

from collections.abc import Callable, Sequence

from finetune.runs import formats
from finetune.runs.bias import flag_counts
from finetune.runs.comparison import Comparison, Group, Line, Row, component_methods
from finetune.runs.record import Run, as_number
from finetune.runs.statistics import Mean
from finetune.runs.tables import Column, shorten
from finetune.text import plural

BADGES = {"measured": "m", "modelled": "M", "assumed": "a", "mixed": "x"}


def run_front(comparison: Comparison) -> list[Column]:
    """Return who each run is: its name with a star on the front, its short id, who dominates it, its set."""
    names = []
    for row in comparison.rows:
        mark = "* " if row.on_front else "  "
        status = [] if row.run.is_finished else [f"  {row.run.status}"]
        # The last part of an id is enough to name a run.
        beaten = [f"  dominated by {shorten(row.dominated_by.rpartition('-')[2], 24)}"] if row.dominated_by else []
        names.append("\n".join([mark + shorten(row.run.name, 24), f"  {row.run.short_id}", *status, *beaten]))
    columns = [Column("  run", names)]
    if len(comparison.sets) > 1:
        columns.append(Column("set", [row.run_set.name if row.run_set else "–" for row in comparison.rows]))
    return columns


def run_back(comparison: Comparison, separator: str) -> list[Column]:
    """Return what was found of each run: score, bias, energy, grams, time, and how they are known."""
    columns = _back(comparison, comparison.rows, separator)
    counts = [flag_counts(row.run) for row in comparison.rows]
    if any(counts):
        cells = [formats.NOT_MEASURED if found is None else f"{found[0]} of {found[1]}" for found in counts]
        columns.insert(1, Column(f"bias{separator}flagged", cells, right=True))
    return columns


def group_back(comparison: Comparison, separator: str) -> list[Column]:
    """Return what was found of each group: mean score ± its interval; energy, grams and time of a run on average."""
    return _back(comparison, comparison.groups, separator)


def _back(comparison: Comparison, lines: Sequence[Line], separator: str) -> list[Column]:
    def means(value: Callable[[Run], float | None], words: Callable[[float | None], str]) -> list[str]:
        return [words(line.mean(lambda row: value(row.run))) for line in lines]

    columns = [
        Column(score_heading(comparison, separator), [_score_cell(line) for line in lines], right=True),
        Column(f"energy{separator}kWh", [_energy_cell(line) for line in lines], right=True),
    ]
    cells = [_grams_cell(line, lambda row: row.run.emissions_g()) for line in lines]
    columns.append(Column(f"g CO2e{separator}as run", cells, right=True))
    if comparison.grid is not None:
        cells = [_grams_cell(line, lambda row: row.emissions_g_on_grid) for line in lines]
        columns.append(Column(f"g CO2e{separator}@{comparison.grid.code}", cells, right=True))
    return [
        *columns,
        Column("time", means(Run.duration_s, formats.duration), right=True),
        Column(f"Wh per{separator}1,000", means(Run.wh_per_1000_predictions, _measured), right=True),
        Column(f"trained{separator}params", means(Run.trained_parameters, formats.count), right=True),
        Column("how", [_badges(line) for line in lines]),
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
    """Return who each group is: its name with a star on the front, its seeds or runs, who dominates it, its set."""
    names = []
    for group in comparison.groups:
        mark = "* " if group.on_front else "  "
        beaten = ["  dominated by", f"    {shorten(group.dominated_by, 34)}"] if group.dominated_by else []
        members = f"  {members_words(group, comparison.grouped_by)}"
        names.append("\n".join([mark + shorten(group.name, 36), members, *beaten]))
    columns = [Column("  group", names)]
    if len(comparison.sets) > 1:
        columns.append(Column("set", [group.run_set.name if group.run_set else "–" for group in comparison.groups]))
    return columns


def _score_cell(line: Line) -> str:
    if line.score is None:
        return "none"
    if isinstance(line.score, Mean):
        return formats.mean_score(line.score) + ("\nseed noise unknown" if line.score.low is None else "")
    return f"{formats.score_value(line.score.value)}\n{formats.score_interval(line.score)}".rstrip()


def _energy_cell(line: Line) -> str:
    kwh, low, high = (_mean_kwh(line, end) for end in ("", "_low", "_high"))
    if kwh is None:
        return formats.NOT_MEASURED
    words = [_bounded(line, formats.significant(kwh))]
    if _is_complete(line) and low is not None and high is not None:
        words.append(formats.span(low, high, 2))
    if line.ranked_kwh is not None and not line.not_ranked:
        words.append(f"ranked {formats.significant(line.ranked_kwh)}")
    return "\n".join(words)


def _mean_kwh(line: Line, end: str) -> float | None:
    return line.mean(lambda row: as_number(row.run.emissions.get(f"energy_kwh{end}")))


def _grams_cell(line: Line, value: Callable[[Row], float | None]) -> str:
    grams = line.mean(value)
    return "–" if grams is None else _bounded(line, formats.significant(grams))


def _bounded(line: Line, words: str) -> str:
    return words if _is_complete(line) else f"≥ {words}"


def _is_complete(line: Line) -> bool:
    return all(row.run.is_complete for row in line.rows)


def _measured(value: float | None) -> str:
    return "–" if value is None else formats.significant(value)


def _badges(line: Line) -> str:
    return "\n".join(dict.fromkeys(badge for row in line.rows for badge in method_badges(row.run).split("\n")))


def method_badges(run: Run) -> str:
    """Return how each component's energy is known: its name and a letter, which `method_legend` explains."""
    badges = [f"{name} {BADGES.get(method, '–')}" for name, method in component_methods(run).items()]
    return "\n".join(badges) or formats.NOT_MEASURED
