"""finetune inspect."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def inspect(
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="CHECKPOINT", help="A hub id, a folder, package:…, or a run (id, name or folder).",
            autocompletion=complete_run,
        ),
    ],
    revision: Annotated[str | None, typer.Option(help="Commit, branch or tag, of a checkpoint on the hub.")] = None,
    probe: Annotated[
        bool,
        typer.Option(
            "--probe", help="Load the weights and prove who sees whom: change one token, look which outputs change."
        ),
    ] = False,
    attention: Annotated[
        str | None,
        typer.Option(metavar="SENTENCE", help="Load the weights and show where each head looks in this sentence."),
    ] = None,
    layer: Annotated[
        int | None,
        typer.Option(min=1, help="The layer that --attention draws.", show_default="the last"),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also draw who may attend to whom, as .svg or .png.", show_default=False)
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    offline: Annotated[bool, typer.Option("--offline", help="Ask no hub: use what is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything for programs.")] = False,
) -> None:  # fmt: skip
    """Say what a checkpoint is: its kind, size, who may attend to whom, what fits it, and what fine-tuning takes.

    That takes the configuration and the list of the weights; only --probe and --attention load the weights themselves.
    """
    import json
    import os
    import shutil

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from finetune.console import quiet_libraries
    from finetune.inspection import ask, picture
    from finetune.inspection.drawing import draws_blocks
    from finetune.inspection.heads import describe_heads
    from finetune.inspection.inspect import as_json as report_of
    from finetune.inspection.inspect import inspect_checkpoint
    from finetune.inspection.report import describe
    from finetune.runs.exports import check_target

    if layer is not None and attention is None:
        raise typer.BadParameter("--layer goes with --attention")
    check_target("--plot", plot, picture.ENDINGS)
    quiet_libraries()
    found = inspect_checkpoint(checkpoint, output_dir, revision)
    report = report_of(found, output_dir)
    if probe:
        report["probe"] = ask.ask_probe(found)
    if attention is not None:
        report["heads"] = ask.ask_heads(found, attention)
    if as_json:
        typer.echo(json.dumps(report, indent=None if attention else 2, ensure_ascii=False))
    else:
        blocks = draws_blocks(sys.stdout.encoding)
        typer.echo(describe(report, found.masks, blocks, shutil.get_terminal_size((100, 24)).columns))
        if attention is not None:
            typer.echo(f"\n{describe_heads(report['heads'], layer, blocks)}")
    if plot is not None:
        typer.echo(picture.write_picture(found, plot), err=True)
