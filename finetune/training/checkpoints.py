"""Checkpoints: saved whole or not at all, restored exactly, the last few and the best kept.

A checkpoint is written under a temporary name, flushed to disk and renamed; a folder without its state.json
never carries a checkpoint's name. torch.load runs with weights_only=True: no pickled code is ever executed.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.models.adapters import has_adapters, load_trained_tensors, trained_tensors
from finetune.runs.files import make_readable, write_atomically
from finetune.training.memory import is_disk_full

if TYPE_CHECKING:
    import torch

FOLDER = "checkpoints"
BEST = "best"
_STATE = "state.json"


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
    if (target / _STATE).is_file():
        return target
    building = target.with_name(f"{target.name}.tmp")
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        _save_weights(objects.model, building / "model.safetensors")
        torch.save(objects.optimizer.state_dict(), building / "optimizer.pt")
        torch.save(random_states, building / "random.pt")
        schedule = {"schedule": objects.schedule.state_dict(), "scaler": _scaler_state(objects.scaler)}
        torch.save(schedule, building / "schedule.pt")
        write_atomically(building / _STATE, json.dumps(state))
        _flush(building)
        building.rename(target)
    except Exception as error:  # safetensors and torch raise classes of their own for a full disk
        shutil.rmtree(building, ignore_errors=True)
        if not (isinstance(error, OSError) or is_disk_full(error)):
            raise
        raise FinetuneError(
            f"the checkpoint of step {step} could not be saved: {error}",
            "Free some disk space, then continue with --resume; earlier checkpoints are whole.",
        ) from error
    return target


def save_best(run_directory: Path, step: int, model: torch.nn.Module) -> None:
    """Keep the weights of the best evaluation so far under checkpoints/best, replacing the former ones."""
    target = run_directory / FOLDER / BEST
    building, old = target.with_name("best.tmp"), target.with_name("best.old")
    for left_over in (building, old):
        shutil.rmtree(left_over, ignore_errors=True)
    building.mkdir(parents=True)
    _save_weights(model, building / "model.safetensors")
    write_atomically(building / _STATE, json.dumps({"step": step}))
    _flush(building)
    if target.exists():
        target.rename(old)
    building.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def load_best(run_directory: Path, model: torch.nn.Module) -> None:
    """Put the weights of the best evaluation into the model."""
    folder = next(path for path in best_folders(run_directory) if (path / _STATE).exists())
    _load_weights(model, folder / "model.safetensors")


def best_folders(run_directory: Path) -> tuple[Path, ...]:
    """Return where the best weights lie: killed between the two renames of save_best, they are still in the second."""
    return run_directory / FOLDER / BEST, run_directory / FOLDER / "best.old"


def newest_checkpoint(run_directory: Path) -> Path | None:
    """Return the checkpoint of the highest step, None when there is none; half-written folders do not count."""
    found = sorted((run_directory / FOLDER).glob("step-*"))
    whole = [path for path in found if path.suffix != ".tmp" and (path / _STATE).is_file()]
    return whole[-1] if whole else None


def read_state(checkpoint: Path) -> dict[str, Any]:
    """Return the plain data of a checkpoint."""
    state: dict[str, Any] = json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))
    return state


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
    """Remove all but the newest `keep` checkpoints (None keeps all); the best weights are apart and stay."""
    found = sorted(path for path in (run_directory / FOLDER).glob("step-*") if path.suffix != ".tmp")
    for path in found[: -keep if keep else 0]:
        shutil.rmtree(path, ignore_errors=True)


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


def _flush(folder: Path) -> None:
    """Force a folder and its files onto the disk, so that a rename never names half a checkpoint."""
    if os.name == "nt":  # Windows flushes neither folders nor files that are open for reading
        return
    for path in [*folder.iterdir(), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
