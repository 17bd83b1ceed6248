"""The runs of a sweep or a study: found again by name and group, and the words that start or continue one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.runs.record import RECORD_NAME, Run, read_run, slug
from finetune.training.words import Request


def newest_member(folder: Path, name: str, group: str, known: str | None = None) -> Run | None:
    """Return the newest run of that name and group in a folder, None where there is none to be seen.

    `known` is the id of one that may have another name.
    """
    names = [known] if known else []
    names += [path.name for path in folder.glob(f"{slug(name)}-*T*Z-*")]
    runs = [_read(folder / name) for name in dict.fromkeys(names) if (folder / name / RECORD_NAME).is_file()]
    own = [run for run in runs if run is not None and run.group == group]
    return max(own, key=lambda run: (run.created_at or "", run.run_id), default=None)


def member_command(
    recipe: str, settings: Sequence[str], seed: int, group: str, run: Run | None, request: Request
) -> tuple[list[str], dict[str, object]]:
    """Return the words and options of the command that starts a run of a group, or continues `run`."""
    resumed = [str(run.directory)] if run is not None else []
    words = [recipe, *resumed, *settings, "training.seeds=null", f"training.seed={seed}"]
    return words, replace(request, resume=run is not None, group=None if run is not None else group).options()


def _read(directory: Path) -> Run | None:
    try:
        return read_run(directory)
    except FinetuneError:  # a record that nobody can read is no run; a new one is made
        return None
