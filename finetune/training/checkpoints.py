"""Checkpoints: saved whole or not at all, restored exactly, the last few and the best kept.

A checkpoint is written under a temporary name, flushed to disk and renamed, with a seal that finds later damage.
Weights of the best evaluation lie apart, as best-<step>: those of the best so far, and those that a kept checkpoint
would go on with. torch.load runs with weights_only=True: no pickled code is ever executed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.models.adapters import has_adapters, load_trained_tensors, trained_tensors
from finetune.runs.files import drop_folder, make_readable, whole_folder
from finetune.training.integrity import STATE, damage, read_sealed_state, write_sealed_state
from finetune.training.memory import disk_full_words, is_disk_full

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
WEIGHTS = "model.safetensors"
NEEDED = (WEIGHTS, "optimizer.pt", "random.pt", "schedule.pt")


@dataclass(frozen=True)
class Trainable:
    """The live objects whose state a checkpoint holds."""

    model: torch.nn.Module
    optimizer: Any
    schedule: Any
    scaler: Any = None


def save_checkpoint(
    run_directory: Path, step: int, objects: Trainable, state: dict[str, Any], random_states: list[dict[str, Any]]
) -> Path:
    """Write checkpoints/step-<n> atomically and return it; one that is there already is the same and stays.

    `random_states` holds one for each rank. Raises FinetuneError when the disk is full; the checkpoints before it stay
    whole.
    """
    import torch

    target = run_directory / FOLDER / f"step-{step:08d}"
    if (target / STATE).is_file():
        return target
    try:
        with whole_folder(target) as building:
            if not _linked(best_folder(run_directory, step) / WEIGHTS, building / WEIGHTS):
                _save_weights(objects.model, building / WEIGHTS)
            torch.save(objects.optimizer.state_dict(), building / "optimizer.pt")
            torch.save(random_states, building / "random.pt")
            schedule = {"schedule": objects.schedule.state_dict(), "scaler": _scaler_state(objects.scaler)}
            torch.save(schedule, building / "schedule.pt")
            write_sealed_state(building, state)
    except Exception as error:  # safetensors and torch raise classes of their own for a full disk
        if not (isinstance(error, OSError) or is_disk_full(error)):
            raise
        before = saved_checkpoints(run_directory)
        kept = f"that of step {step_of(before[-1])} is whole" if before else "there is none before it"
        raise FinetuneError(
            f"the checkpoint of step {step} could not be saved ({kept}): {disk_full_words(error)}",
            "Free some disk space, then continue with --resume.",
        ) from error
    return target


def save_best(run_directory: Path, step: int, model: torch.nn.Module) -> None:
    """Keep the weights of the best evaluation so far under checkpoints/best-<n>."""
    with whole_folder(best_folder(run_directory, step)) as building:
        _save_weights(model, building / WEIGHTS)
        write_sealed_state(building, {"step": step})
    _drop_unneeded_best(run_directory)


def whole_best(run_directory: Path, step: int) -> Path:
    """Return the folder with the best weights, those after a step; raises FinetuneError when they are damaged."""
    folder = find_best(run_directory, step)
    wrong = "they are not there" if folder is None else damage(folder, (WEIGHTS,))
    if folder is None or wrong:
        raise FinetuneError(
            f"the weights of the best evaluation (step {step}) cannot be loaded: {wrong}",
            "Continue with --resume: what can be trained again from an earlier checkpoint will be.",
        )
    return folder


def load_best(folder: Path, model: torch.nn.Module) -> None:
    """Put the weights of a folder of best weights into the model."""
    _load_weights(model, folder / WEIGHTS)


def best_folder(run_directory: Path, step: int) -> Path:
    """Return where the weights of the best evaluation lie when it was after this step."""
    return run_directory / FOLDER / f"best-{step:08d}"


def best_folders(run_directory: Path) -> dict[int, Path]:
    """Return the folders with weights of best evaluations, by step."""
    found = {}
    for path in (run_directory / FOLDER).glob("best*"):
        # Runs of earlier versions have one folder, called best, whose state tells the step.
        if path.suffix != ".tmp" and (step := step_of(path)) is not None:
            found[step] = path
    return found


def find_best(run_directory: Path, step: int) -> Path | None:
    """Return the folder with the weights of the best evaluation after this step, None when there is none."""
    return best_folders(run_directory).get(step)


def saved_checkpoints(run_directory: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first, damaged ones too; half-written ones have another name."""
    return sorted(path for path in (run_directory / FOLDER).glob("step-*") if path.suffix != ".tmp")


def step_of(folder: Path) -> int | None:
    """Return the step that a folder was written after, None when neither its name nor its state tells."""
    number = folder.name.rpartition("-")[2]
    if number.isdecimal():
        return int(number)
    try:
        return int(read_state(folder)["step"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the plain data of a checkpoint; raises OSError or ValueError when it cannot be read."""
    return read_sealed_state(checkpoint)


def best_step_of(checkpoint: Path) -> int | None:
    """Return after which step the best evaluation was when a checkpoint was written; None when that cannot be read."""
    try:
        progress = read_state(checkpoint).get("progress")
    except (OSError, ValueError):
        return None
    step = progress.get("best_step") if isinstance(progress, dict) else None
    return step if isinstance(step, int) else None


def load_checkpoint(checkpoint: Path, objects: Trainable, rank: int = 0) -> dict[str, Any]:
    """Restore model, optimizer, schedule and scaler; return a rank's random state, to be set before the next step."""
    import torch

    _load_weights(objects.model, checkpoint / "model.safetensors")
    objects.optimizer.load_state_dict(torch.load(checkpoint / "optimizer.pt", weights_only=True))
    saved = torch.load(checkpoint / "schedule.pt", weights_only=True)
    objects.schedule.load_state_dict(saved["schedule"])
    if objects.scaler is not None and saved["scaler"]:
        objects.scaler.load_state_dict(saved["scaler"])
    random_states: list[dict[str, Any]] = torch.load(checkpoint / "random.pt", weights_only=True)
    return random_states[rank]


def drop_old_checkpoints(run_directory: Path, keep: int | None) -> None:
    """Remove all but the newest `keep` checkpoints (None keeps all), and the best weights that no kept one needs."""
    for path in saved_checkpoints(run_directory)[: -keep if keep else 0]:
        drop_folder(path)
    _drop_unneeded_best(run_directory)


def _drop_unneeded_best(run_directory: Path) -> None:
    """Keep the newest best weights, and those that were the best when a checkpoint was written.

    A run that goes on from that checkpoint needs them, unless a better evaluation follows; on a GPU it need not.
    """
    folders = best_folders(run_directory)
    needed = set(map(best_step_of, saved_checkpoints(run_directory)))
    for step in sorted(folders)[:-1]:
        if step not in needed:
            drop_folder(folders[step])


def _linked(existing: Path, new: Path) -> bool:
    """Give weights that lie on the disk already a second name; False when that cannot be."""
    try:
        os.link(existing, new)
    except OSError:  # not there, or a file system without links
        return False
    return True


def _save_weights(model: torch.nn.Module, path: Path) -> None:
    from safetensors.torch import save_file, save_model

    if has_adapters(model):
        save_file(trained_tensors(model), str(path))  # the frozen rest is that of the model's own checkpoint
    else:
        save_model(model, str(path))  # writes tied weights once
    make_readable(path)


def _load_weights(model: torch.nn.Module, path: Path) -> None:
    from safetensors.torch import load_file, load_model

    if has_adapters(model):
        load_trained_tensors(model, load_file(path))
    else:
        load_model(model, str(path))


def _scaler_state(scaler: Any) -> dict[str, Any]:
    return scaler.state_dict() if scaler is not None else {}
