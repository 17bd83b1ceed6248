"""finetune doctor."""

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    country: Annotated[
        str | None, typer.Option(help="Country where the machine stands, for its CO2e: three letters, as BRA.")
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the hub.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks for programs.")] = False,
) -> None:
    """Check this machine: software, devices, how energy will be measured, the hub; each ok, warn or fail.

    A warning says what would be better and how; after a failure the exit code is 1.
    """
    import json

    from finetune.doctor import check
    from finetune.doctor.examine import examine

    checks = examine(country, output_dir, offline)
    typer.echo(json.dumps(check.as_json(checks), indent=2, ensure_ascii=False) if as_json else check.as_text(checks))
    if not check.is_healthy(checks):
        raise typer.Exit(1)
