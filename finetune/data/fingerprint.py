"""What identifies a dataset: a hash of its content, whatever files it came in."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import pyarrow


class ColumnDigest:
    """A hash of a column that comes in pieces; how it is cut does not matter."""

    def __init__(self) -> None:
        self._rows = 0
        self._lengths = hashlib.sha256()
        self._values = hashlib.sha256()

    def add(self, values: pyarrow.Array) -> None:
        """Add a piece: texts, numbers, or lists of either."""
        self._rows += len(values)
        self._add(values)

    def _add(self, values: pyarrow.Array) -> None:
        import pyarrow
        import pyarrow.compute as pc

        if pyarrow.types.is_string(values.type) or pyarrow.types.is_large_string(values.type):
            texts = values.cast(pyarrow.large_binary())
            self._lengths.update(pc.binary_length(texts).to_numpy().astype("<i8").tobytes())
            self._values.update(_content(texts))
        elif pyarrow.types.is_struct(values.type):
            for field in values.flatten():
                self._add(field)
        elif pyarrow.types.is_nested(values.type):
            self._lengths.update(values.value_lengths().to_numpy(zero_copy_only=False).astype("<i8").tobytes())
            self._add(values.flatten())
        else:
            self._values.update(values.to_numpy(zero_copy_only=False).astype("<f8").tobytes())

    def digest(self) -> bytes:
        """Return what identifies everything added so far."""
        return self._rows.to_bytes(8, "little") + self._lengths.digest() + self._values.digest()


def fingerprint_splits(splits: Mapping[str, Mapping[str, ColumnDigest]], labels: Iterable[str] = ()) -> str:
    """Return the sha256 of the digests of the splits' columns and of the label names."""
    digest = hashlib.sha256()
    for label in labels:
        _add(digest, label.encode())
    for name in sorted(splits):
        _add(digest, f"split {name}".encode())
        add_columns(digest, splits[name])
    return digest.hexdigest()


def fingerprint_each(splits: Mapping[str, Mapping[str, ColumnDigest]], labels: Iterable[str] = ()) -> dict[str, str]:
    """Return the fingerprint of each split alone, with the label names.

    Runs that share that of the split they are scored on have answered the same questions, whatever they trained on.
    """
    names = list(labels)
    return {name: fingerprint_splits({name: columns}, names) for name, columns in splits.items()}


def digest_table(table: pyarrow.Table) -> dict[str, ColumnDigest]:
    """Return the digests of a table's columns.

    Row numbers are left out: they say where a row stood, not what it is.
    """
    digests = {name: ColumnDigest() for name in table.column_names if name != "row"}
    for name, digest in digests.items():
        for chunk in table.column(name).chunks:
            digest.add(chunk)
    return digests


def add_columns(digest: Any, columns: Mapping[str, ColumnDigest]) -> None:
    """Feed columns, by name, to a hash."""
    for name in sorted(columns):
        _add(digest, name.encode())
        _add(digest, columns[name].digest())


def _content(texts: pyarrow.LargeBinaryArray) -> memoryview:
    """Return the bytes of texts as they stand one after the other in memory."""
    import numpy

    _, offsets, data = texts.buffers()
    if data is None:
        return memoryview(b"")
    ends = numpy.frombuffer(offsets, numpy.int64)[[texts.offset, texts.offset + len(texts)]]
    return memoryview(data)[ends[0] : ends[1]]


def _add(digest: Any, content: bytes) -> None:
    digest.update(len(content).to_bytes(8, "little"))
    digest.update(content)
