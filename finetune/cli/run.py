"""finetune run."""

from pathlib import Path
from typing import Annotated

import typer

from finetune.cli.completion import complete_recipe


def run(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            autocompletion=complete_recipe,
            metavar="RECIPE KEY=VALUE",
            help="A recipe file or the name of a shipped recipe, then settings that override it: training.seed=7. "
            "With --resume, the run to continue may be named too, or instead.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the newest unfinished run of the recipe, or the run named, exactly."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Do everything up to the first step and say what was found.")
    ] = False,
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Try the recipe in seconds: a tiny random model of its kind, few rows, two steps."
        ),
    ] = False,
    num_processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Train in N processes on this machine: one a GPU, or several on its processors. "
            "The rows of a step are N times those of one process.",
        ),
    ] = None,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name for runs that belong together, kept in their records.",
            show_default="none, or new",
        ),
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="Country where the machine stands, for its CO2e: three letters, as BRA.")
    ] = None,
    region: Annotated[
        str | None, typer.Option(help="State or province of that country, or gcp:REGION of Google Cloud.")
    ] = None,
    max_emissions: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Carbon budget, in mg, g or kg: 50g. Wins over emissions.max_emissions_g."),
    ] = None,
    max_energy: Annotated[
        str | None,
        typer.Option(metavar="AMOUNT", help="Energy budget, in Wh or kWh: 0.2kWh. Wins over emissions.max_energy_kwh."),
    ] = None,
    idle_baseline: Annotated[
        float | None,
        typer.Option(
            min=1,
            metavar="SECONDS",
            help="First measure the resting machine for so long (30 is enough), and say what the run used above that; "
            "not part of its energy.",
        ),
    ] = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="Folder of the run directories, instead of the recipe's.")
    ] = None,
    trial: Annotated[str | None, typer.Option(hidden=True, help="What finetune sweep starts its trials with.")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no hub: use what is on this machine.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the run record instead of the closing lines.")] = False,
) -> None:
    """Fine-tune as a recipe says, and report energy and CO2e beside the scores.

    With training.seeds it trains each seed, one run after the other, and reports their mean and its interval.

    With a budget it stops in time to evaluate and save within it.

    Ctrl-C, SIGTERM and SIGHUP save a checkpoint first; --resume goes on from there as if it had never stopped.
    """
    import os

    if resume and (dry_run or smoke):
        raise typer.BadParameter("--resume goes with neither --dry-run nor --smoke")
    if resume and group:
        raise typer.BadParameter("--group is for new runs; one that is resumed keeps its group")
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported
    from finetune import ranks
    from finetune.console import quiet_libraries
    from finetune.emissions.budget import parse_budget
    from finetune.training.seeds import run_each_seed
    from finetune.training.words import Request

    of_sweep = None
    if trial is not None:
        from finetune.sweep.asking import as_trial

        of_sweep = as_trial(trial)
    budget = parse_budget(max_energy, max_emissions)
    words = arguments or []
    request = Request(
        words, resume, dry_run, smoke, country, region, output_dir, num_processes, idle_baseline, budget, group,
        of_sweep,
    )  # fmt: skip
    code = run_each_seed(request, as_json)
    if code is not None:
        raise typer.Exit(code)
    if request.processes and not (dry_run or ranks.are_launched()):
        from finetune.training.launch import launch

        raise typer.Exit(launch(request.words, request.options() | {"json": as_json}, request.processes))
    quiet_libraries()  # torch reads one of its settings when it is imported
    from finetune.training.start import start

    result = start(request)
    code = result.print(as_json)
    if code:
        raise typer.Exit(code)
    if trial is None and ranks.is_main():
        from finetune.using.push import push_as_recipe_says

        push_as_recipe_says(result.run)
