"""finetune evaluate."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_evaluated


def evaluate(
    target: Annotated[
        list[str],
        typer.Argument(
            autocompletion=complete_evaluated,
            metavar="TARGET KEY=VALUE",
            help="Run id, the beginning or the last part of one, a name, or a folder; with --zero-shot or --few-shot a "
            "recipe, then settings that override it: model.name_or_path=CHECKPOINT.",
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
    zero_shot: Annotated[
        bool, typer.Option("--zero-shot", help="Ask the recipe's checkpoint in words instead, without training it.")
    ] = False,
    few_shot: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="K", help="The same after K solved training rows in the prompt.", show_default=False
        ),
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Country of the machine: three letters, as BRA.", show_default="the run's")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="State or province of that country, or gcp:REGION of Google Cloud.")
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the run directories.", show_default="the recipe's, else FINETUNE_OUTPUT_DIR, else runs"
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything for programs.")] = False,
) -> None:  # fmt: skip
    """Score a run's model on new labelled rows: metrics with intervals, classes, the most confident mistakes, energy.

    Nothing is added to the run, and the texts stay where they are: only --json and --html show some, shortened.

    With --zero-shot, --few-shot K or both it scores a checkpoint as it is, before any fine-tuning, on a recipe's data.

    That makes a run with its own energy, which list, show and compare know as any other.
    """
    import json
    import os
    import shutil

    if zero_shot or few_shot is not None:
        if any((on, column, batch_size, html)):
            raise typer.BadParameter("--zero-shot and --few-shot take their data and sizes from the recipe")
        shots = [*([0] if zero_shot else []), *([few_shot] if few_shot else [])]
        _ask(target, shots, country, region, output_dir, as_json)
        return
    if len(target) != 1:
        raise typer.BadParameter("one run is scored at a time; settings go with --zero-shot and --few-shot")
    from finetune.console import quiet_libraries
    from finetune.runs import exports

    exports.check_target("--html", html, exports.PAGE_ENDINGS)
    quiet_libraries()
    from finetune.using.evaluate import Request, evaluate_file, require_file
    from finetune.using.report import evaluation_text

    [run], folder = target, output_dir or Path(os.environ.get("FINETUNE_OUTPUT_DIR") or "runs")
    file = require_file(on, run)
    found = evaluate_file(Request(run, file, folder, column or (), batch_size, country, region))
    if as_json:
        typer.echo(json.dumps(found.content, indent=2, ensure_ascii=False))
    else:
        typer.echo(evaluation_text(found.content, found.run.name, shutil.get_terminal_size((100, 24)).columns))
    if html is not None:
        typer.echo(exports.write_evaluation_page(found.run, found.content, found.findings, html), err=True)


def _ask(
    words: list[str], shots: list[int], country: str | None, region: str | None, output_dir: Path | None, as_json: bool
) -> None:
    from finetune.console import quiet_libraries

    quiet_libraries()
    from finetune.training.asked_run import AskRequest, ask_in_turn

    code = ask_in_turn(AskRequest(tuple(words), country, region, output_dir), shots, as_json)
    if code:
        raise typer.Exit(code)
