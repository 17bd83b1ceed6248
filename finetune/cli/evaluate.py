"""finetune evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run id, the beginning or the last part of one, a name, or a folder (finetune list names them).",
        ),
    ],
    on: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Labelled rows: csv, tsv, json, jsonl, parquet, arrow, conll or txt.",
            show_default=False,
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Column of a role, such as label=intent; may be given several times."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows computed at once; without it as in the run's evaluations.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(help="Also write a page; it shows the texts of the mistakes, shortened.", show_default=False),
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Country whose grid is drawn from, ISO 3166 alpha-3.", show_default="the run's")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="State or province of that country, or gcp:REGION of Google Cloud.")
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print everything for programs.")] = False,
) -> None:  # fmt: skip
    """Score a run's model on new labelled rows: metrics with intervals, classes, the most confident mistakes, energy.

    Nothing is added to the run, and the texts stay where they are: only --json and --html show some, shortened.
    """
    import json
    import shutil

    from finetune.console import quiet_libraries
    from finetune.runs import exports

    exports.check_target("--html", html, exports.PAGE_ENDINGS)
    quiet_libraries()
    from finetune.using.evaluate import Request, evaluate_file, require_file
    from finetune.using.report import evaluation_text

    file = require_file(on, target)
    found = evaluate_file(Request(target, file, output_dir, column or (), batch_size, country, region))
    if as_json:
        typer.echo(json.dumps(found.content, indent=2, ensure_ascii=False))
    else:
        typer.echo(evaluation_text(found.content, found.run.name, shutil.get_terminal_size((100, 24)).columns))
    if html is not None:
        typer.echo(exports.write_evaluation_page(found.run, found.content, found.findings, html), err=True)
