"""finetune compare."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            autocompletion=complete_run,
            metavar="RUN",
            help="Ids, names or folders of runs, groups, or patterns as 'quick*'; without any, all finished runs.",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    metric: Annotated[
        str | None,
        typer.Option(
            help="Metric to judge by, such as f1_macro or validation.accuracy.", show_default="each run's own"
        ),
    ] = None,
    sort: Annotated[
        str | None,
        typer.Option(help="Column, metric or recipe key, such as energy_kwh.", show_default="best score first"),
    ] = None,
    baseline: Annotated[
        str | None,
        typer.Option(help="Run to take differences against.", show_default="the lower-scored of two runs"),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help="Also give the grams on one grid for all: BRA, CAN/Quebec, or grams per kWh."),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only the N newest finished runs.", show_default=False)
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(metavar="TAG", help="Only runs with this tag; may be given several times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="DATE", help="Only runs begun on or after this date or time (UTC).")
    ] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only runs on this dataset: its path, name, last part, or a pattern.")
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            metavar="KEY",
            help="One line for all runs that differ in their seed only (seed), or that share a recipe key's value; "
            "none: one line a run.",
            show_default="seed, where a recipe has several",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="METRIC=VALUE", help="Say what energy each run took to reach a validation score."),
    ] = None,
    only_changed: Annotated[
        bool, typer.Option("--only-changed", help="Leave out columns that are the same in all lines.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print {runs, pareto, notes} for programs.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
    chart: Annotated[bool, typer.Option("--chart", help="Also draw score against energy in the terminal.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write one self-contained page with plots.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also write the plot of score against energy as .svg, .png or .pdf.", show_default=False),
    ] = None,
) -> None:
    """Put runs side by side: what differs, score with interval, kWh with band, g CO2e, time.

    A run is called cheaper only when the difference is larger than its uncertainty; else it is "undecided".

    Several seeds of a recipe are one line: the mean and its interval over the seeds.

    Runs on different data, splits or metrics are not ranked together.

    A run whose energy was not fully measured is never called cheapest.
    """
    if as_json + as_csv + as_markdown > 1:
        raise typer.BadParameter("--json, --csv and --md exclude each other")
    if only_changed and (as_json or as_csv):
        raise typer.BadParameter("--only-changed is for tables that people read: not with --json or --csv")
    if chart and (as_json or as_csv or as_markdown):
        raise typer.BadParameter("--chart is for the table; leave out --json, --csv and --md")
    from finetune.runs import exports
    from finetune.runs.requests import ComparisonRequest, drawn_comparison, requested_comparison, written_comparison
    from finetune.runs.selection import Selection
    from finetune.runs.target import parse_target

    exports.check_target("--html", html, exports.PAGE_ENDINGS)
    exports.check_target("--plot", plot, exports.PLOT_ENDINGS)
    try:
        wanted = parse_target(target) if target is not None else None
    except ValueError as error:
        raise typer.BadParameter(f"--target: {error}") from None
    selection = Selection(tuple(tag or ()), since, dataset, last)
    request = ComparisonRequest(
        tuple(runs or ()), output_dir, metric, sort, baseline, grid, group_by, wanted, selection
    )
    comparison, notes = requested_comparison(request)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    form = "json" if as_json else "csv" if as_csv else "md" if as_markdown else "text"
    typer.echo(written_comparison(comparison, form, notes, only_changed))
    if chart:
        typer.echo(f"\n{drawn_comparison(comparison, sys.stdout.encoding)}")
    if html is not None:
        typer.echo(exports.write_comparison_page(comparison, notes, html), err=True)
    if plot is not None:
        typer.echo(exports.write_plot(comparison, plot), err=True)
