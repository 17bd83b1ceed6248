"""finetune compare."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Ids, names or folders of runs; without any, all finished runs."),
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

    "Cheaper" is said only when the range of the energy ratio excludes 1, else "undecided".

    Runs on different data, splits or metrics are not ranked together.

    A run whose energy was not fully measured is never called cheapest.
    """
    if as_json + as_csv + as_markdown > 1:
        raise typer.BadParameter("--json, --csv and --md exclude each other")
    if last is not None and runs:
        raise typer.BadParameter("--last takes the newest runs of the folder; leave it out, or the names of runs")
    if chart and (as_json or as_csv or as_markdown):
        raise typer.BadParameter("--chart is for the table; leave out --json, --csv and --md")
    from finetune.runs import exports
    from finetune.runs.requests import ComparisonRequest, drawn_comparison, requested_comparison, written_comparison

    exports.check_target("--html", html, exports.PAGE_ENDINGS)
    exports.check_target("--plot", plot, exports.PLOT_ENDINGS)
    request = ComparisonRequest(tuple(runs or ()), output_dir, metric, sort, baseline, grid, last)
    comparison, notes = requested_comparison(request)
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    form = "json" if as_json else "csv" if as_csv else "md" if as_markdown else "text"
    typer.echo(written_comparison(comparison, form, notes))
    if chart:
        typer.echo(f"\n{drawn_comparison(comparison, sys.stdout.encoding)}")
    if html is not None:
        typer.echo(exports.write_comparison_page(comparison, notes, html), err=True)
    if plot is not None:
        typer.echo(exports.write_plot(comparison, plot), err=True)
