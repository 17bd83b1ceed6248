"""Tokenise the splits once, keep them in a cache of our own, and say how long the rows are."""

from __future__ import annotations

import hashlib
import json
import os
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.fingerprint import add_columns, digest_table
from finetune.data.spool import as_array
from finetune.data.token_cache import FORMAT_VERSION, cache_directory, find_entry, tokenizer_hash, write_entry
from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import pyarrow

    from finetune.tasks import Task

_BATCH_ROWS = 1000
_FULL_LENGTH = "full_length"
# A worker takes 2 to 3 s to start; a short row takes 0.1 ms, of which the threads of fast tokenisers share out a third.
_PARALLEL_FROM_ROWS = 100_000


@dataclass(frozen=True)
class EncodedData:
    """Tokenised splits, unpadded.

    Columns: input_ids, attention_mask, token_type_ids (if the tokenizer gives them), length, row, labels.
    `length` counts the tokens that are kept. The statistics are of train, in tokens before truncation: the 50th
    and 95th percentile, the longest, and the share of rows that are longer than the limit and so cut.
    """

    splits: dict[str, Any]
    length_p50: int
    length_p95: int
    length_max: int
    truncated_fraction: float
    cache_hit: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Encoder:
    """All that a worker process needs to tokenise a batch of rows."""

    task: Task
    tokenizer: Any
    max_length: int | None
    truncation: bool

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Encode rows untruncated, then those beyond the limit once more: `full_length` stays honest and cheap."""
        with _no_length_warning(self.tokenizer):
            encoded = self.task.encode(rows, self.tokenizer, self.max_length, False)
            encoded = {name: list(values) for name, values in encoded.items()}
            lengths = [len(ids) for ids in encoded["input_ids"]]
            encoded[_FULL_LENGTH] = list(lengths)
            long = [i for i, length in enumerate(lengths) if self.max_length is not None and length > self.max_length]
            if long and self.truncation:
                cut_rows = {role: [values[i] for i in long] for role, values in rows.items()}
                cut = self.task.encode(cut_rows, self.tokenizer, self.max_length, True)
                for name, values in cut.items():
                    for place, value in zip(long, values, strict=True):
                        encoded[name][place] = value
        encoded["length"] = [len(ids) for ids in encoded["input_ids"]]
        return encoded

    def batch(self, rows: dict[str, list[Any]]) -> pyarrow.RecordBatch:
        """Encode rows and put them as they are stored, which also travels well between processes."""
        return _to_batch(self(rows))


def encode_data(
    splits: Mapping[str, Any],
    tokenizer: Any,
    task: Task,
    preprocessing: Any,
    max_length: int | None,
    cache_dir: Path | None = None,
) -> EncodedData:
    """Tokenise every split, or take it from the cache.

    `max_length` is the limit in tokens that holds (None: no limit); `cache_dir` None is the user's cache. An entry is
    found by the texts, the tokenizer, the task and the settings that matter. Raises FinetuneError when a row
    is too long and truncation is off, when a row gives no token, or when the cache cannot be written.
    """
    import numpy

    folder = (cache_dir or cache_directory()) / "tokens"
    encoder = _Encoder(task, tokenizer, max_length, preprocessing.truncation)
    base = json.dumps(
        [FORMAT_VERSION, task.name, tokenizer_hash(tokenizer), max_length, preprocessing.truncation,
         preprocessing.doc_stride, preprocessing.packing]
    )  # fmt: skip
    encoded, notes, hits = {}, [], []
    for name, split in splits.items():
        source = table_of(split)
        inputs = _inputs(source, task)
        digest = hashlib.sha256(base.encode())
        add_columns(digest, digest_table(inputs))
        table, note = find_entry(folder, digest.hexdigest())
        hits.append(table is not None)
        if note is not None:
            notes.append(note)
        if table is None:
            batches = _encoded_batches(inputs, encoder, preprocessing.num_proc or _processes(inputs.num_rows))
            table = write_entry(folder, digest.hexdigest(), batches)
        _check_rows(name, table, source, encoder)
        own = hashlib.sha256(f"{digest.hexdigest()} {split._fingerprint}".encode()).hexdigest()
        encoded[name] = _with_labels(table, source, task.target, own)
        if name == "train":
            lengths = as_array(table.column(_FULL_LENGTH), numpy.int32)
    p50, p95 = _percentiles(lengths)
    return EncodedData(
        splits=encoded,
        length_p50=p50,
        length_p95=p95,
        length_max=int(lengths.max()),
        truncated_fraction=0.0 if max_length is None else float((lengths > max_length).mean()),
        cache_hit=all(hits),
        notes=tuple(notes),
    )


def encode_window(source: pyarrow.Table, tokenizer: Any, task: Task, preprocessing: Any, max_length: int | None) -> Any:
    """Tokenise some training rows that are streamed, as a datasets.Dataset; nothing is kept on disk.

    Raises FinetuneError as `encode_data`.
    """
    import pyarrow

    encoder = _Encoder(task, tokenizer, max_length, preprocessing.truncation)
    table = pyarrow.Table.from_batches(_encoded_batches(_inputs(source, task), encoder, 1))
    _check_rows("train", table, source, encoder)
    return _with_labels(table, source, task.target, "window")


def _inputs(source: pyarrow.Table, task: Task) -> pyarrow.Table:
    return source.select([column for column in source.column_names if column not in (task.target, "row")])


def _percentiles(lengths: Any) -> tuple[int, int]:
    import numpy

    # A length that occurs, not one between two rows.
    p50, p95 = numpy.percentile(lengths, [50, 95], method="higher")
    return int(p50), int(p95)


def _processes(rows: int) -> int:
    """Return how many processes tokenise when the recipe does not say."""
    if rows < _PARALLEL_FROM_ROWS:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _one_thread() -> None:
    """Keep the tokeniser of a worker from starting a thread for every core, as each worker would."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _encoded_batches(inputs: pyarrow.Table, encoder: _Encoder, processes: int) -> Iterator[pyarrow.RecordBatch]:
    """Yield the encoded rows in order, from this process or from several."""
    chunks = (inputs.slice(start, _BATCH_ROWS).to_pydict() for start in range(0, inputs.num_rows, _BATCH_ROWS))
    if processes == 1 or inputs.num_rows <= _BATCH_ROWS:
        for chunk in chunks:
            yield encoder.batch(chunk)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Spawned, since a fork of a process in which torch has started threads may hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), _one_thread) as pool:
        waiting: deque[Any] = deque()
        for chunk in chunks:
            waiting.append(pool.submit(encoder.batch, chunk))
            if len(waiting) > 2 * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _to_batch(encoded: dict[str, list[Any]]) -> pyarrow.RecordBatch:
    import pyarrow

    kinds = {"length": pyarrow.int32(), _FULL_LENGTH: pyarrow.int32(), "input_ids": pyarrow.list_(pyarrow.int32())}
    small = pyarrow.list_(pyarrow.int8())
    kinds |= {"attention_mask": small, "token_type_ids": small}
    arrays = {name: pyarrow.array(values, kinds.get(name)) for name, values in encoded.items()}
    return pyarrow.RecordBatch.from_pydict(arrays)


def _check_rows(name: str, table: pyarrow.Table, source: pyarrow.Table, encoder: _Encoder) -> None:
    import numpy

    lengths = as_array(table.column(_FULL_LENGTH), numpy.int32)
    rows = source.column("row")
    limit = encoder.max_length
    if (lengths == 0).any():
        row = rows[int(numpy.argmax(lengths == 0))].as_py()
        raise FinetuneError(f"split {name}, row {row}: the tokenizer makes no token of its text", "Remove the row.")
    if limit is not None and not encoder.truncation and (lengths > limit).any():
        long = lengths > limit
        first = int(numpy.argmax(long))
        raise FinetuneError(
            f"split {name}, row {rows[first].as_py()}: {lengths[first]:,} tokens, where {limit:,} is the limit "
            f"({plural(int(long.sum()), 'row')} too long)",
            "Let them be cut (preprocessing.truncation: true), raise preprocessing.max_length if the model can take "
            "more, or shorten the texts.",
        )


def _with_labels(table: pyarrow.Table, source: pyarrow.Table, target: str, fingerprint: str) -> Any:
    """Join the tokens with labels and row numbers, which are not in the cache: they do not change the tokens."""
    import datasets

    table = table.drop_columns([_FULL_LENGTH]).append_column("row", source.column("row"))
    if "labels" not in table.column_names and target in source.column_names:
        table = table.append_column("labels", source.column(target))
    return datasets.Dataset(table, fingerprint=fingerprint)


@contextmanager
def _no_length_warning(tokenizer: Any) -> Iterator[None]:
    """Keep transformers from warning about long rows, which are counted and cut here."""
    said = getattr(tokenizer, "deprecation_warnings", {})
    key = "sequence-length-is-longer-than-the-specified-maximum"
    before = said.get(key, False)
    said[key] = True
    try:
        yield
    finally:
        said[key] = before
