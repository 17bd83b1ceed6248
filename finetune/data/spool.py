"""Tables on their way: small ones stay in memory, larger ones go through a nameless file and are mapped."""

from __future__ import annotations

import mmap
import os
import tempfile
from itertools import chain, groupby
from typing import IO, TYPE_CHECKING, Any

from finetune.data.token_cache import cache_directory
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import numpy
    import pyarrow

# What stays in memory: little enough that nobody misses it, enough that small data needs no disk.
_IN_MEMORY_BYTES = 1 << 20
_ALIGNMENT = 64


def spool(batches: Iterable[pyarrow.RecordBatch]) -> list[pyarrow.RecordBatch]:
    """Return record batches as they came; when they are large, out of a mapped file instead of memory.

    The file has no name in its folder (the cache), so it goes with the process, however that ends. The batches may
    differ in their schemas. Raises FinetuneError when it cannot be written.
    """
    held: list[pyarrow.RecordBatch] = []
    size = 0
    rest = iter(batches)
    for batch in rest:
        held.append(batch)
        size += batch.nbytes
        if size > _IN_MEMORY_BYTES:
            return _through_file(chain(held, rest))
    return held


def spool_table(batches: Iterable[pyarrow.RecordBatch], schema: pyarrow.Schema) -> pyarrow.Table:
    """Return record batches of one schema as a table, mapped when it is large."""
    import pyarrow

    return pyarrow.Table.from_batches(spool(batches), schema)


def take_rows(table: pyarrow.Table, mask: numpy.ndarray) -> pyarrow.Table:
    """Return the rows of a table for which the mask (bool, one a row) is set, without holding them in memory."""
    import pyarrow

    def chosen() -> Iterator[pyarrow.RecordBatch]:
        start = 0
        for batch in table.to_batches():
            part = mask[start : start + batch.num_rows]
            if part.any():
                yield batch if part.all() else batch.filter(pyarrow.array(part))
            start += batch.num_rows

    return table if mask.all() else spool_table(chosen(), table.schema)


def as_array(column: pyarrow.ChunkedArray, dtype: Any) -> numpy.ndarray:
    """Return a column without nulls as one array, copied piece by piece."""
    import numpy

    array = numpy.empty(len(column), dtype)
    start = 0
    for chunk in column.chunks:
        array[start : start + len(chunk)] = chunk.to_numpy(zero_copy_only=False)
        start += len(chunk)
    return array


def scratch_array(shape: tuple[int, ...], dtype: Any) -> numpy.ndarray:
    """Return an array of zeros to be filled; a large one lies in a mapped nameless file.

    Raises FinetuneError when the disk has no room for it.
    """
    import numpy

    size = int(numpy.prod(shape)) * numpy.dtype(dtype).itemsize
    if size <= _IN_MEMORY_BYTES:
        return numpy.zeros(shape, dtype)
    with _nameless_file() as file:
        try:
            _reserve(file, size)
        except OSError as problem:
            raise _cannot_write(problem) from problem
        return numpy.frombuffer(mmap.mmap(file.fileno(), size), dtype).reshape(shape)


class Blob:
    """Pieces of bytes one after the other: few in memory, many in a nameless file."""

    def __init__(self) -> None:
        self._file: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(_cache_folder()))  # noqa: SIM115
        self._end = 0

    def add(self, content: bytes) -> tuple[int, int]:
        """Append a piece and return where it begins and ends; raises FinetuneError when the disk is full."""
        try:
            self._file.seek(self._end)
            self._file.write(content)
        except OSError as problem:
            raise _cannot_write(problem) from problem
        begin, self._end = self._end, self._end + len(content)
        return begin, self._end

    def read(self, begin: int, end: int) -> bytes:
        """Return a piece."""
        self._file.seek(begin)
        return bytes(self._file.read(end - begin))


def _reserve(file: IO[bytes], size: int) -> None:
    # Really taken, not only promised: writing to a mapped hole on a full disk would kill the process.
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.write(bytes(size))
        file.flush()


def _through_file(batches: Iterator[pyarrow.RecordBatch]) -> list[pyarrow.RecordBatch]:
    import pyarrow

    starts = []
    with _nameless_file() as file:
        try:
            for schema, run in groupby(batches, key=lambda batch: batch.schema):
                file.write(bytes(-file.tell() % _ALIGNMENT))
                starts.append(file.tell())
                with pyarrow.ipc.new_stream(file, schema) as writer:
                    for batch in run:
                        writer.write_batch(batch)
            file.flush()
        except OSError as problem:  # those of reading are FinetuneErrors by now
            raise _cannot_write(problem) from problem
        whole = pyarrow.py_buffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return [batch for start in starts for batch in pyarrow.ipc.open_stream(whole.slice(start))]


def _nameless_file() -> IO[bytes]:
    folder = _cache_folder()
    try:
        return tempfile.TemporaryFile(dir=folder)
    except OSError as problem:
        raise _cannot_write(problem) from problem


def _cache_folder() -> Path:
    folder = cache_directory()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise _cannot_write(problem) from problem
    return folder


def _cannot_write(problem: OSError) -> FinetuneError:
    return FinetuneError(
        f"{cache_directory()}: data on its way cannot be kept there ({problem.strerror or problem})",
        "Free some space, or set FINETUNE_CACHE to a folder that can be written.",
    )
