"""finetune study."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_study


def study(
    path: Annotated[
        str,
        typer.Argument(
            metavar="STUDY",
            help="A study file, or the name of a shipped one: transfer, distil.",
            autocompletion=complete_study,
        ),
    ],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Recipe settings for all of these ways: dataset.path=my-data."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say which runs there will be, and which are finished.")
    ] = False,
    allow_shared: Annotated[
        bool,
        typer.Option(
            "--allow-shared",
            help="Train beside other runs on this machine, without waiting; such runs are not compared by energy.",
        ),
    ] = False,
    num_processes: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Processes of each run, as in finetune run.")
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Country where the machine stands, for its CO2e: three letters, as BRA.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="State or province of that country.")] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run directories, instead of the recipe's.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no hub: use what is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the study for programs.")] = False,
    as_markdown: Annotated[bool, typer.Option("--md", help="Print Markdown tables.")] = False,
    html: Annotated[
        Path | None, typer.Option(help="Also write one self-contained page with charts.", show_default=False)
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(help="Also write the charts of score against rows and energy as .svg, .png or .pdf."),
    ] = None,
) -> None:
    """Does transfer pay? Compare ways of training on growing numbers of rows, each with several seeds.

    Says how many rows, and how much energy, each needs to reach the reference's score. It never extrapolates.

    Learning rates are chosen on validation; the test split is scored once a run.

    The same command goes on where it was stopped, and shows a finished study without training anything.
    """
    import os

    if as_json and as_markdown:
        raise typer.BadParameter("--json and --md exclude each other")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from finetune.runs.exports import PAGE_ENDINGS, PLOT_ENDINGS, check_target
    from finetune.study import start
    from finetune.training.words import Request

    check_target("--html", html, PAGE_ENDINGS)
    check_target("--plot", plot, PLOT_ENDINGS)
    of_runs = Request((), country=country, region=region, output_dir=output_dir, num_processes=num_processes)
    request = start.StudyRequest(path, tuple(settings or ()), of_runs, allow_shared)
    if dry_run:
        typer.echo(start.plan(request))
        return
    results, code = start.start(request, "json" if as_json else "md" if as_markdown else "text")
    for line in start.write_files(results, html, plot):
        typer.echo(line, err=True)
    if code:
        raise typer.Exit(code)
