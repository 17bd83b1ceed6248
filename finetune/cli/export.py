"""finetune export."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def export(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run id, the beginning or the last part of one, a name, or a folder (finetune list names them).",
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder to write, which must be new or empty.")],
    format: Annotated[
        str,
        typer.Option(
            help="safetensors (or merged): the whole model, adapters merged; adapter: the adapter alone, for peft."
        ),
    ] = "safetensors",
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
) -> None:
    """Write a run's model, tokenizer and card into a folder that plain transformers opens."""
    from finetune.using.export import export as write_model

    typer.echo(write_model(run, output_dir, to, format))
