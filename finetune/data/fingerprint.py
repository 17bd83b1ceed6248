"""What identifies a dataset: a hash of its content, whatever files it came in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow

_ROWS = 10_000


def fingerprint_splits(tables: Mapping[str, pyarrow.Table], labels: Iterable[str] = ()) -> str:
    """Return the sha256 of the splits' columns and the label names.

    Row numbers are left out: they say where a row stood, not what it is.
    """
    digest = hashlib.sha256()
    for label in labels:
        _add(digest, label.encode())
    for name in sorted(tables):
        _add(digest, f"split {name}".encode())
        add_table(digest, tables[name])
    return digest.hexdigest()


def add_table(digest: Any, table: pyarrow.Table) -> None:
    """Feed the columns of a table, except `row`, to a hash; how the table is cut into chunks does not matter."""
    import pyarrow

    for name in sorted(set(table.column_names) - {"row"}):
        column = table.column(name)
        _add(digest, f"column {name} {len(column)}".encode())
        for start in range(0, len(column), _ROWS):
            values = column.slice(start, _ROWS)
            if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
                texts = [value.encode() for value in values.to_pylist()]
                _add(digest, " ".join(str(len(text)) for text in texts).encode())
                _add(digest, b"".join(texts))
            elif pyarrow.types.is_nested(values.type):
                flat = values.combine_chunks()
                _add(digest, flat.value_lengths().to_numpy(zero_copy_only=False).astype("<i8").tobytes())
                _add(digest, flat.flatten().to_numpy(zero_copy_only=False).astype("<f8").tobytes())
            else:
                _add(digest, values.to_numpy().astype("<f8").tobytes())


def _add(digest: Any, content: bytes) -> None:
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)
