"""What may go from the folders of runs: old checkpoints, and what a kill left half written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.runs.files import half_written, remove_path
from finetune.runs.liveness import is_alive
from finetune.runs.record import RECORD_NAME, Run

FOLDER = "checkpoints"
BEST = "best"
# What a run writes before its first record.
_BEFORE_THE_RECORD = re.compile(r"alive\.json|recipe\.yaml|energy(-\d+)?\.jsonl|\..+\.tmp")
_RUN_ID = re.compile(r".+-\d{8}T\d{6}Z-[0-9a-f]{6}")


@dataclass(frozen=True)
class Removable:
    """Folders and files of one run that are not needed any more, and their size in bytes."""

    run_id: str
    paths: tuple[Path, ...]
    size: int


def removable_checkpoints(
    runs: Sequence[Run], keep_best: bool = False, unfinished_too: bool = False
) -> tuple[tuple[Removable, ...], tuple[str, ...]]:
    """Return what may be removed, with notes on the runs whose checkpoints stay.

    Runs that can still be resumed keep their checkpoints, unless `unfinished_too`; a run that is alive keeps
    everything. Half-written files of dead runs always go; the saved model is never touched.
    """
    found, notes = [], []
    for run in runs:
        if run.directory is None:
            continue
        try:
            checkpoints = _checkpoints(run.directory / FOLDER, keep_best)
            leftovers = _leftovers(run.directory)
        except OSError as error:
            notes.append(f"{run.directory / FOLDER}: cannot be read: {error.strerror}")
            continue
        if not checkpoints and not leftovers:
            continue
        if is_alive(run.directory):
            notes.append(f"{run.run_id} is alive: its checkpoints stay")
            continue
        if not run.is_finished and not unfinished_too:
            if checkpoints:
                notes.append(
                    f"{run.run_id} is {run.status} and can be resumed: its checkpoints stay (--all removes them)"
                )
            checkpoints = ()
        paths = (*checkpoints, *(path for path in leftovers if path.parent not in checkpoints))
        if paths:
            found.append(Removable(run.run_id, paths, sum(map(_size, paths))))
    return tuple(found), tuple(notes)


def never_began(output_dir: Path) -> tuple[Removable, ...]:
    """Return the folders of runs that were killed before their first record; they hold nothing to resume.

    Raises FinetuneError when the folder cannot be read.
    """
    try:
        folders = [path for path in sorted(output_dir.iterdir()) if path.is_dir() and not path.is_symlink()]
        return tuple(Removable(path.name, (path,), _size(path)) for path in folders if _never_began(path))
    except OSError as error:
        raise FinetuneError(
            f"{output_dir}: cannot be read: {error.strerror}", f"See its permissions: ls -l {output_dir}"
        ) from error


def _never_began(folder: Path) -> bool:
    if not _RUN_ID.fullmatch(folder.name) or (folder / RECORD_NAME).exists() or is_alive(folder):
        return False
    return all(_BEFORE_THE_RECORD.fullmatch(path.name) and not path.is_dir() for path in folder.iterdir())


def remove(removable: Removable) -> None:
    """Remove the folders and files. Raises FinetuneError when one cannot be removed."""
    for path in removable.paths:
        try:
            remove_path(path)
        except OSError as error:
            raise FinetuneError(
                f"{path}: cannot be removed: {error.strerror or error}",
                f"See its permissions: ls -ld {path.parent}. Then again: finetune clean",
            ) from error


def _checkpoints(checkpoints: Path, keep_best: bool) -> tuple[Path, ...]:
    # A link leads out of the run directory; what lies behind it is not ours to remove.
    if checkpoints.is_symlink() or not checkpoints.is_dir():
        return ()
    if not keep_best:
        return (checkpoints,)
    children = sorted(path for path in checkpoints.iterdir() if path.is_dir() and not path.is_symlink())
    children = [path for path in children if path.suffix != ".tmp"]
    best = [path for path in children if path.name.startswith(BEST)]
    return tuple(path for path in children if path not in best[-1:])


def _leftovers(directory: Path) -> tuple[Path, ...]:
    return tuple(path for name in ("", FOLDER, "model") for path in half_written(directory / name))


def _size(path: Path) -> int:
    found = [path, *path.rglob("*")] if path.is_dir() else [path]
    files = [file.lstat() for file in found if file.is_file() and not file.is_symlink()]
    # The weights of a checkpoint and of the best evaluation may be one file with two names.
    return sum({(status.st_dev, status.st_ino): status.st_size for status in files}.values())
