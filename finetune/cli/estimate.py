"""finetune estimate."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_recipe


def estimate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            autocompletion=complete_recipe,
            help="A recipe file, or the name of a shipped recipe (finetune recipes lists them).",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Settings that override it: training.num_train_epochs=2."),
    ] = None,
    no_probe: Annotated[
        bool,
        typer.Option("--no-probe", help="Train no step: tell from past runs in the output folder, or from arithmetic."),
    ] = False,
    country: Annotated[
        str | None, typer.Option(help="Country where the machine stands, for its CO2e: three letters, as BRA.")
    ] = None,
    region: Annotated[str | None, typer.Option(help="State or province of that country.")] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run directories, instead of the recipe's.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no hub: use what is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the estimate for programs.")] = False,
) -> None:
    """Forecast time, memory, energy and CO2e of a run, from some real steps on this machine.

    The probe reads the data, loads the model, trains for half a minute in one process, and leaves no run behind.
    """
    import json
    import os

    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from finetune.estimate.estimate import Request
    from finetune.estimate.estimate import estimate as forecast
    from finetune.estimate.report import describe

    report = forecast(Request(recipe, tuple(overrides or ()), not no_probe, country, region, output_dir))
    typer.echo(json.dumps(report, indent=2, ensure_ascii=False) if as_json else describe(report))
