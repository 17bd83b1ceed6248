"""finetune check."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_run


def check(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN",
            autocompletion=complete_run,
            help="Run id, the beginning or the last part of one, a name, or a folder (finetune list names them).",
        ),
    ],
    conditions: Annotated[
        list[str],
        typer.Argument(
            metavar="CONDITION", help="Name, operator (>= <= > < ==) and number: 'accuracy>=0.9'. Quote it."
        ),
    ],
    output_dir: Annotated[
        Path, typer.Option(envvar="FINETUNE_OUTPUT_DIR", help="Folder of the run directories.")
    ] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print {run_id, passed, conditions} for programs.")] = False,
) -> None:
    """Hold a run against conditions and exit with 3 when one does not hold: a gate for CI pipelines.

    Example: finetune check quickstart 'accuracy>=0.9' 'emissions_g<=50'

    Scores: score (the main metric), or any metric, of the test split where there is one; validation.f1_macro.

    Costs: emissions_g, energy_kwh, duration_s, phases.train.energy_kwh.

    What was not measured fails, and so does a run that did not finish.
    """
    import json
    from dataclasses import asdict

    from finetune.runs.conditions import check_run, outcome_line, parse_condition
    from finetune.runs.record import find_run, read_run

    try:
        parsed = [parse_condition(condition) for condition in conditions]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    found = read_run(find_run(run, output_dir))
    outcomes = check_run(found, parsed)
    passed = all(outcome.holds for outcome in outcomes)
    if as_json:
        content = {"run_id": found.run_id, "passed": passed, "conditions": [asdict(outcome) for outcome in outcomes]}
        typer.echo(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        typer.echo("\n".join(outcome_line(outcome) for outcome in outcomes))
    if not passed:
        raise typer.Exit(3)
