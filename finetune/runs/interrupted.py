"""What is known of a run that died: its energy, from the journal that it left behind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from pathlib import Path

    from finetune.runs.record import Run

# What no journal holds stays as the record last had it.
_ONLY_IN_RECORD = ("wh_per_1000_predictions", "forecasts")


def with_journal(run: Run, directory: Path) -> Run:
    """Return the run with its energy read from its journals; unchanged when they hold nothing.

    Raises FinetuneError when a journal is there and cannot be read.
    """
    from finetune.emissions.journal import read_journal
    from finetune.emissions.ledger import summarize

    try:
        lives = read_journal(directory)
    except OSError as error:
        raise FinetuneError(
            f"{directory}: the energy journal cannot be read: {error.strerror}",
            f"See its permissions: ls -l {directory}",
        ) from error
    if not lives:
        return run
    kept = {name: run.emissions[name] for name in _ONLY_IN_RECORD if name in run.emissions}
    read = summarize(lives)
    # The journal alone cannot tell a last segment that goes on from one that was killed.
    segments = [{**segment, "reason_ended": segment["reason_ended"] or "died"} for segment in read["segments"]]
    return replace(run, emissions={**run.emissions, **read, **kept, "segments": segments})
