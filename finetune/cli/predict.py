"""finetune predict."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def predict(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run id, the beginning or the last part of one, a name, or a folder (finetune list names them).",
        ),
    ],
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="csv, tsv, json, jsonl, parquet, arrow, conll or txt; a folder: every such file in it; "
            "- is a pipe: a text, or a JSON object, a line.",
        ),
    ] = "-",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write instead of stdout; for a folder, a folder.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="jsonl or csv; without it the ending of --output tells, else jsonl.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE=NAME", help="Column of an input, such as text=body; may be given several times."),
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Rows computed at once; without it as in the run's evaluations.")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Answers to each row, the likeliest first: labels, or tokens for a mask.",
            show_default="all labels, 5 tokens",
        ),
    ] = None,
    country: Annotated[
        str | None,
        typer.Option(help="Country of the machine: three letters, as BRA.", show_default="the run's"),
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="State or province of that country, or gcp:REGION of Google Cloud.")
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
) -> None:
    """Predict with the model of a finished run, for rows of a file, a folder or a pipe.

    One line a row, in order: its number, its text, the prediction and its probability. Rows without text get null.

    Answers to a folder go beside its files, as FILE.predictions.jsonl.

    At the end it says rows a second and energy, on stderr.
    """
    from finetune.console import quiet_libraries

    quiet_libraries()
    from finetune.using.predict import Request
    from finetune.using.predict import predict as predict_rows

    predict_rows(Request(run, file, output_dir, output, format, batch_size, column or (), top_k, country, region))
