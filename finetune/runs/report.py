"""What a person reads about one run (the panel at its end, `show`) and about all of them (`list`)."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.runs import formats
from finetune.runs.break_even import ASKED_NAMES
from finetune.runs.comparison import component_methods
from finetune.runs.record import Run, Score, as_mapping, as_number
from finetune.runs.tables import Column, column_width, one_line, plain, shorten, text_table
from finetune.text import plural

_KNOWN_FROM = {
    "inferred": "inferred from the time zone",
    "assumed": "assumed: the place is not known, --country names it",
    "command line": "from the command line",
    "recipe": "from the recipe",
    "environment": "from the environment",
}
SHARED_MARK = " *"
BASELINE_WORDS = {"majority": "majority class", "untrained": "untrained model", **ASKED_NAMES}


def closing_panel(run: Run, shown: bool = False) -> str:
    """Return the few lines printed at the end of a run: scores, energy, CO2e, time, and what to type next.

    `shown` says that `finetune show` prints them, which then is not among the next commands.
    """
    title = one_line(f"{run.name}: {run.status}" + (f" ({run.status_reason})" if run.status_reason else ""))
    lines = [title, "─" * min(len(title), 100), *_score_lines(run), *_cost_lines(run)]
    if run.directory is not None:
        model = run.directory / "model"
        if model.is_dir():
            lines.append(f"model   {model}")
        lines += next_commands(run, run.directory, has_model=model.is_dir(), shown=shown)
    return plain("\n".join(lines))


def next_commands(run: Run, directory: Path, has_model: bool, shown: bool) -> list[str]:
    """Return the commands that make sense after this run."""
    folder = output_dir_option(directory.parent)
    reference = str(directory) if folder else run.short_id
    commands = [] if shown else [f"finetune show {reference}"]
    commands.append(f"finetune compare{folder}")
    if has_model:
        commands.insert(0, f"finetune predict {reference} FILE")
    if run.status == "interrupted":
        commands.insert(0, f"finetune run --resume {reference}")
    return [("next    " if number == 0 else "        ") + command for number, command in enumerate(commands)]


def output_dir_option(folder: Path) -> str:
    """Return what tells a command the folder of the runs; empty where it looks by itself."""
    is_default = folder == Path(os.environ.get("FINETUNE_OUTPUT_DIR") or "runs")
    return "" if is_default else f" --output-dir {folder}"


def _score_lines(run: Run) -> list[str]:
    main, metric = run.main_score(), str(run.main_metric.get("name"))
    if main is None:
        return ["score   none: the run was not evaluated"]
    lines = [f"score   {metric} on {run.main_metric.get('split')}: {formats.score(main)}{_rows(main)}"]
    before = [
        f"{words} {formats.score(score)}"
        for name, words in BASELINE_WORDS.items()
        if (score := baseline_score(run, name, metric)) is not None
    ]
    return [*lines, f"before  {', '.join(before)}"] if before else lines


def _cost_lines(run: Run) -> list[str]:
    return [
        f"energy  {_energy_words(run)}",
        f"CO2e    {_carbon_words(run)}",
        f"time    {formats.duration(run.duration_s())}{_overhead_words(run)}",
    ]


def _overhead_words(run: Run) -> str:
    percent = as_number(run.emissions.get("tracking_overhead_percent"))
    return f", {formats.significant(percent, 2)} % of it for measuring" if percent is not None and percent > 0.5 else ""


def _energy_words(run: Run) -> str:
    kwh = run.energy_kwh()
    if kwh is None:
        return "not measured"
    low, high = (as_number(run.emissions.get(name)) for name in ("energy_kwh_low", "energy_kwh_high"))
    methods = ", ".join(f"{name} {method}" for name, method in component_methods(run).items())
    complete = run.is_complete
    words = ("" if complete else "at least ") + f"{formats.significant(kwh)} kWh"
    if kwh < 1:
        words += f" = {formats.energy(kwh)}"
    if complete and low is not None and high is not None:
        unit, factor = formats.energy_unit([kwh])
        words += f", band {formats.span(low * factor, high * factor)} {unit}"
    return words + (f" ({methods})" if methods else "")


def _carbon_words(run: Run) -> str:
    grams = run.emissions_g()
    if grams is None:
        return "not measured"
    prefix = "" if run.is_complete else "at least "
    return f"{prefix}{formats.grams(grams)} ({intensity_words(run.emissions.get('carbon_intensity'))})"


def intensity_words(intensity: Any) -> str:
    """Return the grid intensity with its place and how that is known; `intensity_source` tells the rest."""
    if not isinstance(intensity, Mapping):
        return "grid not known"
    value = as_number(intensity.get("g_per_kwh"))
    place = intensity.get("location") or ("world average" if intensity.get("known_from") == "assumed" else None)
    known_from = str(intensity.get("known_from"))
    parts = [
        f"{formats.significant(value)} g/kWh" if value is not None else "",
        str(place or ""),
        _KNOWN_FROM.get(known_from, known_from),
    ]
    return ", ".join(part for part in parts if part)


def intensity_source(intensity: Any) -> str:
    """Return where the grid intensity comes from: the year and scope of the data, and who published it."""
    if not isinstance(intensity, Mapping):
        return ""
    year, scope = intensity.get("year"), intensity.get("scope")
    parts = (f"data of {year}" if year else "", scope_words(scope), intensity.get("source"))
    return ", ".join(str(part) for part in parts if part)


def scope_words(scope: str | None) -> str | None:
    """Return what a carbon intensity counts (life-cycle, direct …), so that it reads alone."""
    return "scope not stated" if scope == "not stated" else scope


def baseline_score(run: Run, baseline: str, metric: str) -> Score | None:
    """Return what a baseline scored on the metric, None when it was not part of the run."""
    return Score.from_json(as_mapping(run.baselines.get(baseline)).get(metric))


def _rows(score: Score) -> str:
    return f" ({plural(score.n, 'row')})" if score.n is not None else ""


def list_table(runs: Sequence[Run], width: int) -> str:
    """Return one line a run, oldest first, for a terminal of `width` characters."""
    columns = [
        Column("run", [shorten(run.name, 28) for run in runs]),
        Column("id", [run.short_id for run in runs]),
        Column("status", [run.status for run in runs]),
        Column("score", [_listed_score(run) for run in runs]),
        Column("energy", [_listed_energy(run) for run in runs], right=True),
        Column("CO2e", [_listed_grams(run) for run in runs], right=True),
        Column("started (UTC)", [(run.created_at or "–")[:16].replace("T", " ") for run in runs]),
    ]
    left = width - sum(column_width(column) + 2 for column in columns)
    models = Column("model", [shorten(_model_words(run), max(8, left)) for run in runs])
    if left >= 8:
        columns.insert(3, models)
    shared = any(run.emissions.get("shared_with") for run in runs)
    legend = "\n*  another run used the machine at the same time: the energy is that of both" if shared else ""
    return text_table(columns) + legend


def _listed_score(run: Run) -> str:
    score = run.main_score()
    return "–" if score is None else f"{run.main_metric.get('name')} {formats.score_value(score.value)}"


def _listed_energy(run: Run) -> str:
    if run.energy_kwh() is None:
        return "–"
    words = formats.energy(run.energy_kwh()) + (SHARED_MARK if run.emissions.get("shared_with") else "")
    return words if run.is_complete else f"≥ {words}"


def _listed_grams(run: Run) -> str:
    words = "–" if run.emissions_g() is None else formats.grams(run.emissions_g())
    return f"≥ {words}" if run.emissions_g() is not None and not run.is_complete else words


def _model_words(run: Run) -> str:
    stated = run.model or as_mapping(run.recipe.get("model"))
    name = str(stated.get("name_or_path") or "–").removeprefix("package:").rstrip("/").rpartition("/")
    # `package:…/model` says nothing by its last part.
    short = name[2] if name[2] not in ("model", "checkpoint") else name[0].rpartition("/")[2]
    return f"{short} (scratch)" if stated.get("init") == "scratch" else short
