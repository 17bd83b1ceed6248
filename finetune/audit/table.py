"""The files of the probes as texts by column, read by the readers of the data room."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.data.files import read_file
from finetune.data.raw import Part, RawSplit
from finetune.errors import FinetuneError
from finetune.text import did_you_mean


@dataclass(frozen=True)
class Table:
    """A file with its columns as found."""

    path: Path
    part: Part

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def shown_columns(self) -> str:
        """Return the names of the columns for a message."""
        return ", ".join(map(repr, self.part.columns[:20]))

    def find(self, role: str, columns: Mapping[str, str], usual: Sequence[str]) -> str | None:
        """Return the column of a role: the one that `columns` names, else the first usual name that is there.

        Raises FinetuneError when the named one is not there.
        """
        if role in columns and columns[role] not in self.part.columns:
            near = did_you_mean(columns[role], self.part.columns)
            raise FinetuneError(
                f"{self.path}: no column {columns[role]!r} (for {role}); it has {self.shown_columns}",
                f"Did you mean {near!r}?" if near else "Name one of them.",
            )
        by_name = {name.casefold(): name for name in reversed(self.part.columns)}
        return columns.get(role) or next((by_name[name] for name in usual if name in by_name), None)

    def texts(self, column: str) -> list[str]:
        """Return a column as texts; what is null is empty. Raises FinetuneError for lists and mixed types."""
        values = RawSplit(self.path.name, (self.part,)).read([column]).column(column).to_pylist()
        odd = next((at for at, value in enumerate(values) if isinstance(value, list | dict)), None)
        if odd is not None:
            raise FinetuneError(f"{self.part.place(odd)}: column {column!r} holds no text", "Name a column of texts.")
        return ["" if value is None else str(value) for value in values]


def read_table(path: Path) -> Table:
    """Open a csv, tsv, json, jsonl, parquet or Arrow file; raises FinetuneError when it cannot be read."""
    return Table(path, read_file(path))
