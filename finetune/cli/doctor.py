"""finetune doctor."""

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks for programs.")] = False,
) -> None:
    """Check this machine."""
    raise typer.Exit(2)
