"""The room on the disk: what a run will need at most, what is free, and one clear error before the first step."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError
from finetune.models.adapters import has_adapters
from finetune.runs.formats import file_size
from finetune.text import plural
from finetune.training.checkpoints import FOLDER
from finetune.training.memory import BYTES, optimizer_bytes
from finetune.training.plan import Plan

if TYPE_CHECKING:
    from finetune.recipe.schema import Training
    from finetune.training.prepare import Prepared


_PROBE_BYTES = 32 << 20


@dataclass(frozen=True)
class DiskEstimate:
    """Bytes that a run will write at most, and what is free where it writes; free is None where nobody can tell."""

    place: Path
    checkpoints: int  # that lie on the disk at the same time
    checkpoint_bytes: int
    best_bytes: int
    model_bytes: int
    present_bytes: int  # what an earlier life of the run wrote, which is replaced rather than added to
    free_bytes: int | None

    @property
    def needed_bytes(self) -> int:
        """Return how many bytes more the run takes at its fullest moment."""
        whole = self.checkpoints * self.checkpoint_bytes + self.best_bytes + self.model_bytes
        return max(0, whole - self.present_bytes)

    def to_dict(self) -> dict[str, int | None]:
        """Return what a dry run tells."""
        return {"needed_bytes": self.needed_bytes, "free_bytes": self.free_bytes}


def disk_estimate(prepared: Prepared, directory: Path) -> DiskEstimate:
    """Return the bytes that a run in this directory needs.

    A checkpoint holds weights (with adapters those that are trained) and optimizer states, and one more than
    `save_total_limit` exists while it is built. The best weights and the saved model come on top; data, logs and
    predictions are small beside them and not counted.
    """
    training, parameters = prepared.recipe.training, list(prepared.bare_model.parameters())
    # A model that trains only the rows of its vocabulary that occur is smaller than the one that is saved in the end.
    weights = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    kept = trained * BYTES if has_adapters(prepared.bare_model) else weights
    return DiskEstimate(
        place=directory,
        checkpoints=checkpoints_at_once(prepared.plan, training.save_total_limit),
        checkpoint_bytes=kept + optimizer_bytes(trained, training.optim),
        best_bytes=kept if training.load_best_model_at_end else 0,
        model_bytes=max(weights, prepared.parameter_counts[0] * BYTES),
        present_bytes=_size_of(directory / FOLDER) + _size_of(directory / "model"),
        free_bytes=free_bytes(directory),
    )


def require_room(estimate: DiskEstimate, training: Training) -> None:
    """Raise FinetuneError when the disk has less room than a run needs; what is not known is no reason to refuse."""
    free = estimate.free_bytes
    if free is None or estimate.needed_bytes <= free:
        return
    parts = [f"{plural(estimate.checkpoints, 'checkpoint')} of {file_size(estimate.checkpoint_bytes)}"]
    parts += [f"the best weights {file_size(estimate.best_bytes)}"] if estimate.best_bytes else []
    parts += [f"the model {file_size(estimate.model_bytes)}"]
    changes = ["another output_dir"]
    if estimate.checkpoints > 1 and training.save_total_limit != 1:
        changes.insert(0, "training.save_total_limit=1")
    if estimate.checkpoints:
        changes.insert(-1, "training.save_strategy=no")
    raise FinetuneError(
        f"the disk is too small for this run: it needs about {file_size(estimate.needed_bytes)} "
        f"({', '.join(parts)}), and {file_size(free)} are free in {estimate.place}",
        f"Free some space (finetune clean removes old checkpoints), or set {' or '.join(changes)}.",
    )


def checkpoints_at_once(plan: Plan, keep: int | None) -> int:
    """Return how many checkpoints lie on the disk at the same time: those kept and the one that is being built."""
    if plan.save_every is None:
        return 0
    planned = (plan.total_steps - 1) // plan.save_every  # after the last step none is due
    return planned if keep is None else min(planned, keep + 1)


def free_bytes(directory: Path) -> int | None:
    """Return the bytes that may still be written under a folder, existing or not; None where that cannot be known."""
    existing = next((path for path in (directory, *directory.absolute().parents) if path.exists()), directory)
    try:
        usage = shutil.disk_usage(existing)
    except OSError:
        return None
    return usage.free if usage.total else None  # some network file systems answer 0 of 0


def _size_of(folder: Path) -> int:
    # Weights with two names lie on the disk once.
    found = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum({(status.st_dev, status.st_ino): status.st_size for status in found}.values())


def write_speed(directory: Path) -> float | None:
    """Return the bytes a second at which files are written, forced to the disk and checksummed, as checkpoints are.

    None where nothing can be written: whoever saves will say why.
    """
    content = os.urandom(_PROBE_BYTES)
    began = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=directory) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        return None
    zlib.crc32(content)
    return _PROBE_BYTES / (time.perf_counter() - began)
