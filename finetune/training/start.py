"""From the words of the command line to a run: which recipe, new or resumed, real, dry or smoke."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from finetune import ranks
from finetune.console import say
from finetune.emissions.budget import Budget
from finetune.errors import FinetuneError
from finetune.hub import require_login
from finetune.recipe.schema import Recipe
from finetune.runs.record import Run, run_to_json
from finetune.runs.report import closing_panel
from finetune.text import plural
from finetune.training.dry_run import describe_dry_run, dry_run
from finetune.training.endings import together
from finetune.training.interrupts import Interrupted
from finetune.training.launched import check_launch
from finetune.training.loop import run
from finetune.training.options import SMOKE_TAG, Resumption, RunOptions
from finetune.training.resume import find_resumable
from finetune.training.words import Request, read_words, recipe_name, tell

_SMOKE_ROWS = 64


@dataclass(frozen=True)
class Result:
    """What came of a request: a run record, or the report of a dry run, or the signal that stopped it."""

    run: Run | None = None
    report: dict[str, Any] | None = None
    stopped_by: int | None = None
    next_command: str | None = None

    def print(self, as_json: bool) -> int:
        """Print the result on stdout (the first process of a run does) and return the exit code."""
        if self.stopped_by is not None:
            goes_on = f": the state is saved. Continue with: {self.next_command}" if self.next_command else ""
            say(signal.Signals(self.stopped_by).name + goes_on)
            return 128 + self.stopped_by
        if not ranks.is_main():
            return 0
        if self.run is not None:
            print(json.dumps(run_to_json(self.run), indent=2) if as_json else closing_panel(self.run))
        if self.report is not None:
            print(json.dumps(self.report, indent=2) if as_json else describe_dry_run(self.report))
        return 0


def start(request: Request) -> Result:
    """Carry out a request; raises FinetuneError for everything that the user can mend."""
    check_launch(os.environ)
    with together(None if request.dry_run else request.num_processes):
        options, resumption = ranks.on_main(lambda: _chosen(request))
        _go_offline_together()
        if options.recipe.hub.push_to_hub and options.trial is None and not options.smoke:
            ranks.on_main(require_login)  # now, not after hours of training
        if request.dry_run:
            return Result(report=dry_run(options, request.num_processes or ranks.size()))
        return _run(options, resumption, request.num_processes)


def _chosen(request: Request) -> tuple[RunOptions, Resumption | None]:
    """Return what is to be run, and the run that it continues, if any."""
    loaded, reference = read_words(request)
    if loaded is not None:
        tell(loaded)
        loaded = replace(loaded, recipe=_one_seed(loaded.recipe, request))
    if request.resume:
        if loaded is None and any("=" in word for word in request.words):
            raise FinetuneError(
                "settings go with a recipe; a run that is named alone is continued as it was started",
                "finetune run RECIPE --resume RUN KEY=VALUE says which recipe is meant.",
            )
        default = request.output_dir or Path(os.environ.get("FINETUNE_OUTPUT_DIR") or "runs")
        output_dir = Path(loaded.recipe.output_dir) if loaded else default
        recipe, resumption = find_resumable(loaded.recipe if loaded else None, output_dir, reference)
        smoke = SMOKE_TAG in resumption.run.tags
        return _options(request, within(recipe, request.budget), resumption.run.name, smoke), resumption
    if loaded is None:
        raise FinetuneError("no recipe is named", "finetune recipes lists the shipped ones; finetune init writes one.")
    name = recipe_name(loaded)
    recipe = within(smoke_recipe(loaded.recipe) if request.smoke else loaded.recipe, request.budget)
    name = f"{name}-smoke" if request.smoke else name
    return _options(request, recipe, name, request.smoke), None


def _options(request: Request, recipe: Recipe, name: str, smoke: bool) -> RunOptions:
    return RunOptions(
        recipe,
        name,
        smoke,
        request.country,
        request.region,
        request.idle_baseline_s,
        request.group,
        request.trial,
    )


def _one_seed(recipe: Recipe, request: Request) -> Recipe:
    """Return the recipe of one run; one with several seeds is only looked at here, with its first seed."""
    seeds = recipe.training.seeds
    if seeds is None:
        return recipe
    if not (request.dry_run or request.smoke):
        raise FinetuneError(
            f"training.seeds asks for {plural(len(seeds), 'run')}, one after the other, and a launcher has started the "
            "processes of one",
            f"Launch each by itself: training.seeds=null training.seed={seeds[0]} --group NAME; or let finetune run "
            "--num-processes start them all.",
        )
    if request.smoke:
        say(f"note: only the first of {plural(len(seeds), 'seed')} is tried: {seeds[0]}")
    # A dry run tells how many runs there would be.
    training = recipe.training.model_copy(update={"seed": seeds[0], "seeds": None if request.smoke else seeds})
    return recipe.model_copy(update={"training": training})


def _go_offline_together() -> None:
    offline = ranks.on_main(lambda: os.environ.get("HF_HUB_OFFLINE"))
    if offline is not None:
        os.environ["HF_HUB_OFFLINE"] = offline


def _run(options: RunOptions, resumption: Resumption | None, num_processes: int | None) -> Result:
    try:
        return Result(run=run(options, resumption))
    except Interrupted as interrupted:
        # Without a directory nothing had begun; without a checkpoint the resumed run starts over, and says so.
        directory = interrupted.directory
        command = f"finetune run --resume {directory}"
        if num_processes:
            command += f" --num-processes {num_processes}"
        return Result(stopped_by=interrupted.signum, next_command=command if directory else None)


def within(recipe: Recipe, budget: Budget) -> Recipe:
    """Return the recipe with the budget of the command line, where it names one."""
    limits = {"max_energy_kwh": budget.energy_kwh, "max_emissions_g": budget.emissions_g}
    given = {key: value for key, value in limits.items() if value is not None}
    return recipe.model_copy(update={"emissions": recipe.emissions.model_copy(update=given)})


def smoke_recipe(recipe: Recipe) -> Recipe:
    """Return the recipe cut down to seconds: few rows, two steps, one evaluation, one checkpoint at most."""
    dataset = recipe.dataset.model_copy(
        update={
            # Of a stream no more rows are read than two steps take.
            "max_train_samples": None
            if recipe.dataset.streaming
            else min(recipe.dataset.max_train_samples or _SMOKE_ROWS, _SMOKE_ROWS),
            "max_eval_samples": min(recipe.dataset.max_eval_samples or _SMOKE_ROWS, _SMOKE_ROWS),
        }
    )
    training = recipe.training.model_copy(
        update={"max_steps": 2, "logging_steps": 1, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1}
    )
    tags = [*recipe.tags, SMOKE_TAG]
    model = recipe.model.model_copy(update={"init": "scratch"})  # no weights are fetched to be thrown away
    return recipe.model_copy(update={"model": model, "dataset": dataset, "training": training, "tags": tags})
