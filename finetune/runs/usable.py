"""What a run must be before something is done with it: ended, with a model."""

from pathlib import Path

from finetune.errors import FinetuneError
from finetune.runs.record import Run


def require_ended(run: Run) -> None:
    """Raise FinetuneError when a living process holds the run."""
    if run.is_alive:
        raise FinetuneError(f"{run.run_id} is still running", "Wait for it, or stop its process first.")


def model_folder(run: Run) -> Path:
    """Return the folder of the model that a run has saved; raises FinetuneError when it has none, and says why."""
    if run.directory is not None and (run.directory / "model" / "config.json").is_file():
        return run.directory / "model"
    place = run.directory or run.run_id
    if "scored" in run.prompted:
        raise FinetuneError(
            f"{run.run_id}: the run only asked its checkpoint, and trained no model",
            f"finetune run {place}/recipe.yaml trains it.",
        )
    if run.status == "running":
        raise FinetuneError(f"{run.run_id}: the run is still alive and has no model yet", "Wait for it to end.")
    if run.is_finished:
        raise FinetuneError(
            f"{run.run_id}: the run is {run.status}, but its model is gone (model/config.json)",
            f"finetune run {place}/recipe.yaml trains it again.",
        )
    raise FinetuneError(
        f"{run.run_id}: the run is {run.status} and has no model yet", f"finetune run --resume {place} goes on with it."
    )
