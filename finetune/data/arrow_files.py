"""Read parquet and Arrow: files of either kind, and folders written by datasets' save_to_disk."""

from __future__ import annotations

import os
from itertools import chain
from typing import TYPE_CHECKING, Any

from finetune.data.raw import Part, RawSplit, class_names, memory_part, schema_class_names
from finetune.data.spool import spool_table
from finetune.data.text_files import read_error
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import pyarrow

_PIECE_ROWS = 8192


def read_parquet(path: Path) -> Part:
    """Open a parquet file; columns are read when asked for. Raises FinetuneError when it is damaged or empty."""
    import pyarrow
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.ParquetFile(path)
    except (ArrowException, OSError) as problem:
        raise _damaged(path, "parquet", problem) from problem
    schema = metadata.schema_arrow

    def read(columns: Sequence[str]) -> pyarrow.Table:
        wanted = pyarrow.schema([schema.field(name) for name in columns])
        return spool_table((batch.select(list(columns)) for batch in parquet_batches(path, columns)), wanted)

    types = {field.name: field.type for field in schema}
    part = Part(str(path), types, metadata.metadata.num_rows, read, class_names=schema_class_names(schema))
    return _checked(part, schema.names)


def parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[pyarrow.RecordBatch]:
    """Yield columns of a parquet file in pieces. Raises FinetuneError when it is damaged."""
    from pyarrow import ArrowException, parquet

    try:
        with parquet.ParquetFile(path, memory_map=True, pre_buffer=False) as file:
            yield from file.iter_batches(_PIECE_ROWS, columns=list(dict.fromkeys(columns)))
    except (ArrowException, OSError) as problem:
        raise _damaged(path, "parquet", problem) from problem


def read_arrow(path: Path) -> Part:
    """Map an Arrow IPC file or stream into memory. Raises FinetuneError when it is neither."""
    import pyarrow

    try:
        whole = pyarrow.memory_map(str(path)).read_buffer()
        batches = _ipc_batches(whole)
        first = next(batches, None)
        if first is None:
            table = pyarrow.table({})
        elif _lies_in(whole, first):
            table = pyarrow.Table.from_batches([first, *batches])
        else:  # compressed
            table = spool_table(chain([first], batches), first.schema)
    except (pyarrow.ArrowException, OSError) as problem:
        raise _damaged(path, "Arrow", problem) from problem
    part = memory_part(str(path), table, class_names=schema_class_names(table.schema))
    return _checked(part, table.column_names)


def _ipc_batches(whole: pyarrow.Buffer) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow
    from pyarrow import ipc

    try:
        file = ipc.open_file(whole)
    except pyarrow.ArrowInvalid:
        yield from ipc.open_stream(whole)
        return
    yield from (file.get_batch(place) for place in range(file.num_record_batches))


def _lies_in(whole: pyarrow.Buffer, batch: pyarrow.RecordBatch) -> bool:
    """Tell whether a batch is read where it stands in the file, which it is not when it is compressed."""
    buffers = (buffer for column in batch.columns for buffer in column.buffers() if buffer is not None and buffer.size)
    return all(whole.address <= buffer.address < whole.address + whole.size for buffer in buffers)


def is_saved_dataset(folder: Path) -> bool:
    """Tell whether a folder was written by datasets' save_to_disk."""
    return os.path.isfile(folder / "dataset_dict.json") or os.path.isfile(folder / "state.json")


def read_saved_dataset(folder: Path) -> dict[str, RawSplit]:
    """Open a save_to_disk folder; a single dataset becomes the split train."""
    import datasets
    from pyarrow import ArrowException

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (ArrowException, OSError, ValueError, KeyError) as problem:
        raise _damaged(folder, "save_to_disk", problem) from problem
    found = loaded if isinstance(loaded, datasets.DatasetDict) else {"train": loaded}
    return {
        name: RawSplit(name, (part_from_dataset(dataset, f"{folder} ({name})"),)) for name, dataset in found.items()
    }


def part_from_dataset(dataset: Any, where: str) -> Part:
    """Wrap a datasets.Dataset, memory-mapped as it is."""
    return memory_part(where, table_of(dataset), class_names=class_names(dataset.features.to_dict()))


def table_of(dataset: Any) -> pyarrow.Table:
    """Return the Arrow table of a datasets.Dataset; an index mapping (after select or shuffle) is read through."""
    return dataset.data.table if dataset._indices is None else dataset.with_format("arrow")[:]


def _checked(part: Part, names: list[str]) -> Part:
    twice = sorted({name for name in names if names.count(name) > 1})
    if part.rows == 0 or twice:
        problem = f"column {twice[0]!r} occurs twice" if twice else "holds no rows"
        raise FinetuneError(f"{part.where}: {problem}", "Write the file again.")
    return part


def _damaged(path: Path, kind: str, problem: Exception) -> FinetuneError:
    if isinstance(problem, OSError) and problem.strerror:
        return read_error(path, problem)  # the system refuses; the file may be well
    return FinetuneError(
        f"{path}: cannot be read as {kind}: {str(problem).splitlines()[0]}", "Download or write the file again."
    )
