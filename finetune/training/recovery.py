"""After a kill or a damaged disk: from which checkpoint a run goes on, and what is cleared away before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.files import drop_folder, half_written, remove_path
from finetune.training.checkpoints import (
    FOLDER,
    NEEDED,
    WEIGHTS,
    best_folders,
    best_step_of,
    find_best,
    read_state,
    saved_checkpoints,
)
from finetune.training.integrity import damage


@dataclass(frozen=True)
class Found:
    """The newest checkpoint that a run can go on from (None: it starts over), its state, and what was passed over."""

    checkpoint: Path | None
    state: dict[str, Any]
    notes: tuple[str, ...] = ()


def find_checkpoint(run_directory: Path, needs_best: bool) -> Found:
    """Return the newest checkpoint whose files, and with `needs_best` those of its best weights, are as written.

    Raises FinetuneError when there are checkpoints and all of them are damaged.
    """
    faults: list[str] = []
    for checkpoint in reversed(saved_checkpoints(run_directory)):
        fault = damage(checkpoint, NEEDED) or (needs_best and _damage_of_best(run_directory, checkpoint))
        if not fault:
            notes = tuple(f"{found}; going on from {checkpoint.name}" for found in faults)
            return Found(checkpoint, read_state(checkpoint), notes)
        faults.append(f"checkpoint {checkpoint.name} is damaged: {fault}")
    if faults:
        raise FinetuneError(
            f"{run_directory.name} has no checkpoint to continue from: {'; '.join(faults)}",
            f"Start a new run without --resume, or remove {run_directory / FOLDER} to start this one over.",
        )
    return Found(None, {})


def _damage_of_best(run_directory: Path, checkpoint: Path) -> str | None:
    step = best_step_of(checkpoint)
    if step is None:
        return None
    folder = find_best(run_directory, step)
    fault = "they are not there" if folder is None else damage(folder, (WEIGHTS,))
    return f"the best weights it goes with (step {step}): {fault}" if fault else None


def clear_leftovers(run_directory: Path, checkpoint: Path | None) -> None:
    """Remove what the lives of a run left behind that it will not go on from; for the process that has claimed it.

    Half-written files and folders, checkpoints after the one to go on from (they are damaged), and the weights of
    evaluations after it, which will be done again and on a GPU may come out otherwise. Raises OSError.
    """
    for folder in (run_directory, run_directory / FOLDER, run_directory / "model"):
        for path in half_written(folder):
            remove_path(path)
    for path in saved_checkpoints(run_directory):
        if checkpoint is None or path.name > checkpoint.name:
            drop_folder(path)
    best_step = best_step_of(checkpoint) if checkpoint else None
    for step, path in best_folders(run_directory).items():
        if best_step is None or step > best_step:
            drop_folder(path)
