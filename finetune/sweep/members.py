"""The runs of a sweep or a study: found again by name and group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.runs.record import RECORD_NAME, Run, read_run, slug


def newest_member(
    folder: Path, name: str, group: str, known: str | None = None, is_own: Callable[[Run], bool] = lambda run: True
) -> Run | None:
    """Return the newest run of that name and group in a folder, None where there is none to be seen.

    `known` is the id of one that may have another name; of the others only those count that `is_own` accepts.
    """
    names = [known] if known else []
    names += [path.name for path in folder.glob(f"{slug(name)}-*T*Z-*")]
    runs = [_read(folder / name) for name in dict.fromkeys(names) if (folder / name / RECORD_NAME).is_file()]
    named = [run for run in runs if run is not None and run.group == group]
    own = [run for run in named if run.run_id == known or is_own(run)]
    return max(own, key=lambda run: (run.created_at or "", run.run_id), default=None)


def _read(directory: Path) -> Run | None:
    try:
        return read_run(directory)
    except FinetuneError:  # a record that nobody can read is no run; a new one is made
        return None
