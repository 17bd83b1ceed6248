"""Which runs of a folder are meant: by pattern, tag, date, dataset, or how new they are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from fnmatch import fnmatchcase

from finetune.errors import FinetuneError
from finetune.runs.record import Run
from finetune.text import plural


@dataclass(frozen=True)
class Selection:
    """What runs must have to be taken; None and empty ask for nothing.

    `tags`: all of them. `since`: a date or time in UTC. `dataset`: its path, name or last part, or a pattern. `last`:
    so many of the newest that the rest leaves.
    """

    tags: tuple[str, ...] = ()
    since: str | None = None
    dataset: str | None = None
    last: int | None = None


def is_pattern(reference: str) -> bool:
    """Tell whether a reference is a pattern with *, ? or [...] rather than the name of a run."""
    return re.search(r"[*?\[]", reference) is not None


def selected(runs: Sequence[Run], selection: Selection) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Return the runs (oldest first) that a selection asks for, with notes. Raises FinetuneError for a bad date."""
    since = _utc(selection.since) if selection.since is not None else ""
    found = [
        run
        for run in runs
        if set(selection.tags) <= set(run.tags)
        and (run.created_at or "") >= since
        and (selection.dataset is None or _is_of(run, selection.dataset))
    ]
    if selection.last is None:
        return tuple(found), ()
    short = selection.last > len(found)
    notes = (f"--last {selection.last}: there are only {plural(len(found), 'finished run')}",) if short else ()
    return tuple(found[-selection.last :]), notes


def matching(runs: Sequence[Run], reference: str) -> tuple[Run, ...]:
    """Return the runs whose name or id fits a pattern, or whose group is, or fits, the reference."""
    return tuple(
        run for run in runs if any(name and fnmatchcase(name, reference) for name in (run.name, run.run_id, run.group))
    )


def _utc(since: str) -> str:
    """Return a date or time as records write it."""
    try:
        if len(since) == len("2026-11-01"):
            return f"{date.fromisoformat(since).isoformat()}T00:00:00Z"
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise FinetuneError(f"--since {since}: no date", "Write 2026-11-01 or 2026-11-01T08:00 (UTC).") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _is_of(run: Run, dataset: str) -> bool:
    path, name = str(run.dataset.get("path") or ""), str(run.dataset.get("name") or "")
    return any(
        fnmatchcase(part, dataset) for part in (path, name, path.rstrip("/").rpartition("/")[2], f"{path}/{name}")
    )
