"""finetune push."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def push(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run id, the beginning or the last part of one, a name, or a folder (finetune list names them).",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="OWNER/NAME", help="Repository; a name alone is one of yours.",
            show_default="hub.hub_model_id of the recipe, else the run's name",
        ),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(metavar="BRANCH", help="Branch, made where there is none.", show_default="main")
    ] = None,
    public: Annotated[
        bool | None,
        typer.Option(
            "--public/--private", show_default="hub.hub_private_repo",
            help="Who may see a new repository; one that is public takes a model only with --public.",
        ),
    ] = None,
    merged: Annotated[
        bool, typer.Option("--merged", help="Upload the whole model of a run with adapters, not the adapter alone.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace files that another run or somebody else has put there.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be uploaded, and whether it may be.")
    ] = False,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print what was uploaded for programs.")] = False,
) -> None:  # fmt: skip
    """Upload a run's model and its card to the hub: private unless asked otherwise, never over other work.

    Log in first: hf auth login. After a push that broke off, push again: what is there already is not sent twice.
    """
    import json

    from finetune.console import quiet_libraries

    quiet_libraries()
    from finetune.using import push as pushing

    request = pushing.Request(run, output_dir, to, revision, public, force, merged, dry_run)
    done = pushing.push(request)
    if as_json:
        typer.echo(json.dumps(done, indent=2))
    elif done["uploaded"]:
        typer.echo(done["url"])
