"""finetune show."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def show(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run id, the beginning or the last part of one, a name, or a folder (finetune list names them).",
        ),
    ],
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    timeline: Annotated[
        bool, typer.Option("--timeline", help="Add the evaluations: score against energy as the run went on.")
    ] = False,
    target: Annotated[
        str | None,
        typer.Option(metavar="METRIC=VALUE", help="Add the energy that it took to reach a score: accuracy=0.8."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write all of it as one self-contained page.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run record (run.json) for programs.")] = False,
) -> None:
    """Show all about one run: scores and baselines, energy by phase and component, and how each number is known."""
    import json
    import shutil

    from finetune.runs import exports
    from finetune.runs.record import find_run, read_run, run_to_json
    from finetune.runs.show import show_text
    from finetune.runs.target import parse_target, target_json, target_text

    try:
        wanted = parse_target(target) if target is not None else None
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    exports.check_target("--html", html, exports.PAGE_ENDINGS)
    found = read_run(find_run(run, output_dir))
    if as_json:
        to_target = {"energy_to_target": target_json(found, wanted)} if wanted is not None else {}
        typer.echo(json.dumps(run_to_json(found) | to_target, indent=2, ensure_ascii=False))
    else:
        words = target_text(found, wanted) if wanted is not None else None
        typer.echo(show_text(found, shutil.get_terminal_size((100, 24)).columns, timeline))
        if words is not None:
            typer.echo(f"\n{words}")
    if html is not None:
        typer.echo(exports.write_run_page(found, html), err=True)
