"""Old checkpoints: which may go, and how much room that frees."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.runs.liveness import is_alive
from finetune.runs.record import Run

FOLDER = "checkpoints"
BEST = "best"


@dataclass(frozen=True)
class Removable:
    """Folders of one run that are not needed any more, and their size in bytes."""

    run: Run
    folders: tuple[Path, ...]
    size: int


def removable_checkpoints(
    runs: Sequence[Run], keep_best: bool = False, unfinished_too: bool = False
) -> tuple[tuple[Removable, ...], tuple[str, ...]]:
    """Return what may be removed, with notes on the runs whose checkpoints stay.

    Runs that can still be resumed keep theirs, unless `unfinished_too`; a run that is alive always does. The saved
    model is never touched.
    """
    found, notes = [], []
    for run in runs:
        if run.directory is None:
            continue
        try:
            folders = _folders(run.directory / FOLDER, keep_best)
        except OSError as error:
            notes.append(f"{run.directory / FOLDER}: cannot be read: {error.strerror}")
            continue
        if not folders:
            continue
        if is_alive(run.directory):
            notes.append(f"{run.run_id} is alive: its checkpoints stay")
        elif not run.is_finished and not unfinished_too:
            notes.append(f"{run.run_id} is {run.status} and can be resumed: its checkpoints stay (--all removes them)")
        else:
            found.append(Removable(run, folders, sum(map(_size, folders))))
    return tuple(found), tuple(notes)


def remove(removable: Removable) -> None:
    """Remove the folders. Raises FinetuneError when one cannot be removed."""
    for folder in removable.folders:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise FinetuneError(f"{folder}: cannot be removed: {error.strerror or error}") from error


def _folders(checkpoints: Path, keep_best: bool) -> tuple[Path, ...]:
    # A link leads out of the run directory; what lies behind it is not ours to remove.
    if checkpoints.is_symlink() or not checkpoints.is_dir():
        return ()
    if not keep_best:
        return (checkpoints,)
    children = sorted(path for path in checkpoints.iterdir() if path.is_dir() and not path.is_symlink())
    return tuple(path for path in children if path.name != BEST)


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
