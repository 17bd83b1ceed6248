"""Read parquet and Arrow: files of either kind, and folders written by datasets' save_to_disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from finetune.data.raw import Part, RawSplit, class_names, memory_part, schema_class_names
from finetune.data.text_files import read_error
from finetune.errors import FinetuneError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pyarrow


def read_parquet(path: Path) -> Part:
    """Open a parquet file; columns are read when asked for. Raises FinetuneError when it is damaged or empty."""
    from pyarrow import ArrowException, parquet

    try:
        metadata = parquet.ParquetFile(path)
    except (ArrowException, OSError) as problem:
        raise _damaged(path, "parquet", problem) from problem
    schema = metadata.schema_arrow

    def read(columns: Sequence[str]) -> pyarrow.Table:
        try:
            return parquet.read_table(path, columns=list(columns), partitioning=None)
        except (ArrowException, OSError) as problem:
            raise _damaged(path, "parquet", problem) from problem

    types = {field.name: field.type for field in schema}
    part = Part(str(path), types, metadata.metadata.num_rows, read, class_names=schema_class_names(schema))
    return _checked(part, schema.names)


def read_arrow(path: Path) -> Part:
    """Map an Arrow IPC file or stream into memory. Raises FinetuneError when it is neither."""
    import pyarrow
    from pyarrow import ipc

    try:
        source = pyarrow.memory_map(str(path))
        try:
            table = ipc.open_file(source).read_all()
        except pyarrow.ArrowInvalid:
            source.seek(0)
            table = ipc.open_stream(source).read_all()
    except (pyarrow.ArrowException, OSError) as problem:
        raise _damaged(path, "Arrow", problem) from problem
    part = memory_part(str(path), table, class_names=schema_class_names(table.schema))
    return _checked(part, table.column_names)


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
