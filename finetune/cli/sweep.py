"""finetune sweep."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_sweep


def sweep(
    sweep: Annotated[
        str,
        typer.Argument(
            metavar="SWEEP",
            help="A sweep file (a recipe, a space, an objective), or the name of a shipped one.",
            autocompletion=complete_sweep,
        ),
    ],
    allow_shared: Annotated[
        bool,
        typer.Option(
            "--allow-shared",
            help="Train beside other runs on this machine, without waiting; each trial then counts the whole "
            "machine's energy, also where energy is the objective.",
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
    as_json: Annotated[bool, typer.Option("--json", help="Print the sweep for programs.")] = False,
) -> None:
    """Search for the settings of a recipe with the best score, or the best score for its energy.

    Each trial is an ordinary run, judged by validation; the test split stays unseen.

    The same command goes on where a sweep was stopped. In another terminal, or on another machine, it joins in.
    """
    import os

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from finetune.recipe.shipped import find_sweep
    from finetune.sweep.start import SweepRequest, start
    from finetune.training.words import Request

    of_runs = Request((), country=country, region=region, output_dir=output_dir, num_processes=num_processes)
    code = start(SweepRequest(find_sweep(sweep), of_runs, allow_shared), as_json)
    if code:
        raise typer.Exit(code)
