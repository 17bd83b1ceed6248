"""Continue an unfinished run exactly where its newest checkpoint left it."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finetune import ranks
from finetune.console import say
from finetune.errors import FinetuneError
from finetune.recipe.load import load_recipe
from finetune.recipe.schema import Recipe
from finetune.runs.files import write_atomically
from finetune.runs.record import Run, find_run, list_runs, read_run
from finetune.runs.usable import require_ended
from finetune.training.checkpoints import load_checkpoint
from finetune.training.machines import Machines
from finetune.training.options import Resumption
from finetune.training.prepare import Prepared
from finetune.training.progress import Progress
from finetune.training.random_state import restore_random_state
from finetune.training.recorded import UNFINISHED, all_changes, changed_keys, recipe_as_recorded
from finetune.training.recovery import find_checkpoint
from finetune.training.sharding import to_be_filled


def find_resumable(recipe: Recipe | None, output_dir: Path, reference: str | None) -> tuple[Recipe, Resumption]:
    """Return the run to continue and its recipe: the run named, else the newest unfinished one of this recipe.

    Raises FinetuneError when there is none, when it is finished or alive, when the recipe has changed, or when all of
    its checkpoints are damaged.
    """
    if reference:
        directory = find_run(reference, output_dir)
        run = read_run(directory)
        if run.status not in UNFINISHED:
            raise FinetuneError(
                f"{run.run_id} is {run.status}: there is nothing to resume", "finetune list shows the runs."
            )
        if "scored" in run.prompted:
            raise FinetuneError(
                f"{run.run_id} only asks a checkpoint: there is nothing to resume", "Start it again: finetune evaluate"
            )
    else:
        run, directory = _newest_unfinished(recipe, output_dir)
    require_ended(run)
    recipe = recipe or load_recipe(directory / "recipe.yaml").recipe
    now = recipe_as_recorded(recipe, directory)
    changed = changed_keys(run.recipe, now)
    if changed:
        raise FinetuneError(
            f"{run.run_id} was started with another recipe; it differs in: {', '.join(changed)}",
            "Resume with the recipe as it was, or start a new run without --resume.",
        )
    harmless = [key for key in all_changes(run.recipe, now) if key != "output_dir"]
    if harmless:
        say(f"note: changed since the run began, without effect on the training: {', '.join(harmless)}")
    found = find_checkpoint(directory, needs_best=bool(recipe.training.load_best_model_at_end))
    for note in found.notes:
        say(f"note: {note}")
    return recipe, Resumption(run, directory, found.checkpoint, found.state)


def _newest_unfinished(recipe: Recipe | None, output_dir: Path) -> tuple[Run, Path]:
    runs, _ = list_runs(output_dir)
    open_runs = [
        run for run in runs if run.status in UNFINISHED and run.directory is not None and "scored" not in run.prompted
    ]
    same = [
        run
        for run in open_runs
        if recipe is None or not changed_keys(run.recipe, recipe_as_recorded(recipe, run.directory or output_dir))
    ]
    if not same:
        others = ", ".join(run.run_id for run in open_runs[:3])
        raise FinetuneError(
            f"no unfinished run of this recipe in {output_dir}",
            f"Unfinished runs of other recipes: {others}." if others else "Start it without --resume.",
        )
    newest = max(same, key=lambda run: run.created_at or "")
    assert newest.directory is not None
    return newest, newest.directory


def identity(prepared: Prepared) -> dict[str, Any]:
    """Return what must be the same for a run to continue exactly."""
    return {
        "data_fingerprint": prepared.data.fingerprint,
        "model_revision": prepared.checkpoint.revision,
        "frozen_weights": prepared.frozen_weights,
        "num_processes": prepared.hardware.num_processes,
        "mixed_precision": prepared.hardware.mixed_precision,
        "device": prepared.hardware.device,
        "threads": prepared.hardware.threads,
        "torch": version("torch"),
    }


_EXPLAINED = {
    "data_fingerprint": "the data has changed since",
    "model_revision": "the checkpoint on the hub has another revision now",
    "frozen_weights": "the weights under the adapters are others now",
    "num_processes": "it ran on another number of processes",
    "mixed_precision": "it computed in another precision",
    "device": "it ran on another kind of device",
    "threads": "it computed with another number of threads, whose sums round otherwise; OMP_NUM_THREADS sets it",
    "torch": "it ran with another version of torch",
}


def resume_into(prepared: Prepared, resumption: Resumption, machines: Machines) -> Progress:
    """Restore the newest checkpoint into the prepared objects and return how far it had come.

    Raises FinetuneError when data, model or hardware are not what the checkpoint was written with.
    """
    if resumption.checkpoint is None:
        _cut_log(resumption.directory, 0)
        say("no checkpoint was saved yet: the run starts over in its folder")
        return Progress()
    here = identity(prepared)
    differs = [key for key, value in here.items() if resumption.state.get(key) != value]
    if differs:
        raise FinetuneError(
            f"{resumption.run.run_id} cannot be continued exactly: "
            + "; ".join(f"{_EXPLAINED[key]} ({resumption.state.get(key)} then, {here[key]} now)" for key in differs),
            "Bring back what it was started with, or start a new run without --resume.",
        )
    with machines.at_hand(resumption.checkpoint), to_be_filled(prepared.trainable, prepared.frame) as whole:
        random_state = load_checkpoint(resumption.checkpoint, whole, ranks.rank())
    progress = Progress(**resumption.state["progress"])
    _cut_log(resumption.directory, progress.step)
    restore_random_state(random_state)
    say(f"resuming {resumption.run.run_id} after step {progress.step} of {prepared.plan.total_steps}")
    return progress


def _cut_log(directory: Path, step: int) -> None:
    """Drop the lines of steps that will be done again, and one torn by a kill."""
    path = directory / "log.jsonl"
    if not (ranks.is_main() and path.exists()):
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            done = json.loads(line)["step"]
        except ValueError:
            continue
        if done <= step:
            kept.append(line + "\n")
    write_atomically(path, "".join(kept))
