"""finetune list."""

from pathlib import Path
from typing import Annotated

import typer


def list_(
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    total: Annotated[
        bool,
        typer.Option(
            "--total",
            help="Add up the energy of all runs, failed ones too; each second of a machine counts once.",
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print {runs, notes, total} for programs.")] = False,
) -> None:
    """List the runs of a folder, oldest first, with status, score, energy and CO2e.

    A run whose process died shows as interrupted, with the energy it had used.

    "–" is what was not measured.
    """
    import json
    import shutil

    from finetune.runs.record import list_runs, run_to_json
    from finetune.runs.report import list_table
    from finetune.runs.total import total_energy, total_lines

    runs, notes = list_runs(output_dir)
    if as_json:
        content = {"runs": [run_to_json(run) for run in runs], "notes": list(notes), "total": total_energy(runs)}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
        return
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if not runs:
        typer.echo(f"No runs in {output_dir}. finetune run quickstart makes the first.", err=True)
        return
    typer.echo(list_table(runs, shutil.get_terminal_size((100, 24)).columns))
    if total:
        typer.echo("\n" + "\n".join(total_lines(runs)))
