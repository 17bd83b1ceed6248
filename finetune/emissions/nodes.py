"""What the first machine of a run keeps of the others: their journals, where they cannot write into its folder."""

from collections.abc import Iterable
from pathlib import Path

from finetune.emissions.journal import Journal, journal_path, read_journal, timestamp
from finetune.emissions.ledger import IDLE, Life, merge


class Copies:
    """Copies of other nodes' journals, written from what those nodes tell.

    After a crash the record is made from the journals in its folder. With a folder that all nodes share they are there
    anyway; without one these copies are, up to the last time the nodes were in step.
    """

    def __init__(self, run_directory: Path) -> None:
        self._directory = run_directory
        self._kept = {(life.node, life.segment): life for life in read_journal(run_directory)}
        self._journals: dict[tuple[int, int], Journal] = {}

    def keep(self, lives: Iterable[Life]) -> None:
        """Write what is new in the lives of other nodes."""
        for life in lives:
            key = (life.node, life.segment)
            known = self._kept.get(key)
            if known is None or merge([life], [known])[0] is life:
                self._write(key, life, known)
                self._kept[key] = life

    def _write(self, key: tuple[int, int], life: Life, known: Life | None) -> None:
        journal = self._journals.get(key)
        if journal is None:
            journal = self._journals[key] = Journal(journal_path(self._directory, life.node))
        if known is None:
            journal.open_segment(life, {"copied": True})
        if life.components and (known is None or known.components != life.components):
            journal.components(life)
        phases = [*life.microseconds, *([IDLE] if life.idle_microseconds else [])]
        journal.tick(life, phases, timestamp(), sync=True)
        if life.reason_ended is not None:
            journal.end(life, timestamp())
