"""finetune clean."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def clean(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            autocompletion=complete_run,
            metavar="RUN",
            help="Ids, names or folders of runs; without any, all of the folder.",
        ),
    ] = None,
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    keep_best: Annotated[bool, typer.Option("--keep-best", help="Keep the weights of the best evaluation.")] = False,
    unfinished_too: Annotated[
        bool, typer.Option("--all", help="Also take the checkpoints of runs that could still be resumed.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove the checkpoints of finished runs; their models, records and predictions stay.

    Runs that can be resumed keep theirs unless --all is given; a run that is alive always does.

    What killed runs left half written goes too.
    """
    from finetune.runs.cleaning import never_began, removable_checkpoints, remove
    from finetune.runs.formats import file_size
    from finetune.runs.record import find_run, list_runs, read_run
    from finetune.runs.tables import one_line
    from finetune.text import plural

    if runs:
        chosen = tuple(read_run(directory) for directory in dict.fromkeys(find_run(run, output_dir) for run in runs))
    else:
        chosen, _ = list_runs(output_dir)
    found, notes = removable_checkpoints(chosen, keep_best, unfinished_too)
    if not runs:
        found += never_began(output_dir)
    for note in notes:
        typer.echo(one_line(f"note: {note}"), err=True)
    for entry in found:
        typer.echo(one_line(f"{entry.run_id}  {file_size(entry.size)}"))
    size = file_size(sum(entry.size for entry in found))
    if not found:
        typer.echo("Nothing to remove.")
    elif dry_run:
        typer.echo(f"Would free {size} in {plural(len(found), 'run')}.")
    elif yes or _agreed(f"Remove these files ({size})?"):
        for entry in found:
            remove(entry)
        typer.echo(f"Freed {size} in {plural(len(found), 'run')}.")
    else:
        typer.echo("Nothing was removed.")


def _agreed(question: str) -> bool:
    import sys

    from finetune.errors import FinetuneError

    if not sys.stdin.isatty():
        raise FinetuneError(
            "nobody is there to ask before checkpoints are removed", "Add --yes, or --dry-run to look first."
        )
    return typer.confirm(question, default=False, err=True)
