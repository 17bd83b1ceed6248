"""From the words of a `compare` command to a comparison, and from that to what is printed."""

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.runs.compare import compare_runs
from finetune.runs.compare_report import comparison_csv, comparison_markdown, comparison_text
from finetune.runs.comparison import Comparison, Grid, comparison_to_json
from finetune.runs.record import Run, find_run, list_runs, read_run
from finetune.runs.selection import Selection, is_pattern, matching, selected
from finetune.runs.target import Target
from finetune.text import plural


@dataclass(frozen=True)
class ComparisonRequest:
    """What was asked for, in the user's words."""

    references: tuple[str, ...]
    output_dir: Path
    metric: str | None = None
    sort: str | None = None
    baseline: str | None = None
    grid: str | None = None
    group_by: str | None = None
    target: Target | None = None
    selection: Selection = field(default_factory=Selection)


def requested_comparison(request: ComparisonRequest) -> tuple[Comparison, tuple[str, ...]]:
    """Read the runs and compare them; returned with notes on folders and runs that were left out.

    Raises FinetuneError when there is nothing to compare or a run, metric, column or grid is not known.
    """
    runs, notes = _runs(request)
    baseline = read_run(find_run(request.baseline, request.output_dir)) if request.baseline else None
    grid = _grid(request.grid) if request.grid else None
    return compare_runs(runs, request.metric, request.sort, baseline, grid, request.group_by, request.target), notes


def written_comparison(comparison: Comparison, form: str, notes: tuple[str, ...], only_changed: bool = False) -> str:
    """Return a comparison as text, json, csv or md; JSON takes the notes in, the other forms leave them to stderr."""
    if form == "json":
        with_notes = replace(comparison, notes=(*comparison.notes, *notes))
        return json.dumps(comparison_to_json(with_notes), indent=2, ensure_ascii=False)
    if form == "csv":
        return comparison_csv(comparison)
    if form == "md":
        return comparison_markdown(comparison, only_changed)
    return comparison_text(comparison, shutil.get_terminal_size((100, 24)).columns, only_changed)


def drawn_comparison(comparison: Comparison, encoding: str | None) -> str:
    """Return the plots of score against energy in characters, one a set, that an output of this encoding can show.

    Raises FinetuneError when there is nothing to draw.
    """
    from finetune.runs.exports import plots
    from finetune.runs.scatter_text import scatter_text

    is_ascii = "utf" not in (encoding or "utf-8").lower()
    width = shutil.get_terminal_size((100, 24)).columns
    blocks = []
    for scatter in plots(comparison):
        heading = f"set {scatter.run_set.name}\n" if len(comparison.sets) > 1 else ""
        blocks.append(heading + scatter_text(scatter, width, is_ascii))
    return "\n\n".join(blocks)


def _runs(request: ComparisonRequest) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Return the runs that references name, without any all of the folder, as far as the selection wants them.

    A name that several runs have stands for them all where a selection tells which; without one it is an error.
    """
    if not request.references:
        found, notes = list_runs(request.output_dir)
        chosen, more = _chosen(request, {}, found)
        return chosen, (*notes, *more)
    found = list_runs(request.output_dir)[0] if request.output_dir.is_dir() else ()
    named: dict[str, Run] = {}
    by_pattern: dict[str, Run] = {}
    for reference in request.references:
        matches = matching(found, reference)
        means_several = is_pattern(reference) or any(run.group == reference for run in matches)
        if means_several or (len(matches) > 1 and request.selection != Selection()):
            if not matches:
                raise FinetuneError(f"{reference}: no run in {request.output_dir} fits", "finetune list shows all.")
            by_pattern |= {run.run_id: run for run in matches}
        else:
            run = read_run(find_run(reference, request.output_dir))
            named[run.run_id] = run
    return _chosen(request, named, by_pattern.values())


def _chosen(
    request: ComparisonRequest, named: Mapping[str, Run], others: Iterable[Run]
) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Return what the selection leaves of the named runs and of the finished ones among the others, oldest first."""
    selection, every = request.selection, {run.run_id: run for run in (*others, *named.values())}
    oldest_first = sorted(every.values(), key=lambda run: (run.created_at or "", run.run_id))
    wanted, _ = selected(oldest_first, replace(selection, last=None))
    kept = tuple(run for run in wanted if run.is_finished or run.run_id in named)
    left_out = len(wanted) - len(kept)
    notes = [f"{plural(left_out, 'run')} that did not finish left out; name a run to see it"] if left_out else []
    fitting = {run.run_id for run in wanted}
    notes += [f"{run_id} left out: --tag, --since or --dataset do not fit it" for run_id in named.keys() - fitting]
    if not kept:
        asked = " that fits" if request.references or selection != Selection() else ""
        raise FinetuneError(
            f"{request.output_dir}: no finished run to compare{asked}",
            "finetune list shows all." if every or asked else
            "finetune run quickstart makes the first; finetune list shows all.",
        )  # fmt: skip
    chosen, more = selected(kept, Selection(last=selection.last))
    return chosen, (*notes, *more)


def _grid(code: str) -> Grid:
    from finetune.emissions.intensity import grid_intensity

    intensity = grid_intensity(code)
    source = " ".join(str(part) for part in (intensity.source, intensity.year) if part is not None)
    return Grid(code, intensity.g_per_kwh, source)
