"""Tokenise the splits once, keep them in a cache of our own, and say how long the rows are."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.fingerprint import add_columns, digest_table
from finetune.data.spool import as_array
from finetune.data.token_cache import FORMAT_VERSION, cache_directory, find_entry, tokenizer_hash, write_entry
from finetune.emissions.host import usable_processors
from finetune.errors import FinetuneError
from finetune.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy
    import pyarrow

    from finetune.tasks import Context, Task

_BATCH_ROWS = 1000
FULL_LENGTH = "full_length"
SOURCE = "source"
CUT = "cut"
LONGEST = "longest"  # a task's own name for what is compared with the limit
# A worker takes 2 to 3 s to start; a short row takes 0.1 ms, of which the threads of fast tokenisers share out a third.
_PARALLEL_FROM_ROWS = 100_000


@dataclass(frozen=True)
class EncodedData:
    """Tokenised splits, unpadded.

    Columns: input_ids, attention_mask, token_type_ids (if the tokenizer gives them), length, row, labels, and what
    else the task makes. `length` counts the tokens that are kept. `sources`: by split the place of each feature's row,
    ascending; None where the features are the rows one by one. The statistics are of train's rows, in tokens before
    truncation: the 50th and 95th percentile, the longest, the share of rows that lost tokens at the limit, and the
    share that it made into several features (windows, blocks).
    """

    splits: dict[str, Any]
    sources: dict[str, Any]
    length_p50: int
    length_p95: int
    length_max: int
    truncated_fraction: float
    divided_fraction: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Encoder:
    """All that a worker process needs to tokenise a batch of rows."""

    task: Task
    context: Context

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Return the features of some rows; `full_length`: the tokens of the row they are of, before it was cut.

        `source` says which of the rows that is, 0-based, `cut` (0 or 1) whether the row lost tokens. Rows are encoded
        untruncated, then those beyond the limit once more: so lengths stay honest, and cheap.
        """
        limit = self.context.max_length
        with _no_length_warning(self.context.tokenizer):
            encoded = _with_length(self.task.encode(rows, replace(self.context, truncation=False)))
            encoded[FULL_LENGTH] = encoded.pop(LONGEST, list(encoded["length"]))
            encoded[SOURCE] = list(range(len(encoded["length"])))
            encoded.setdefault(CUT, [0] * len(encoded["length"]))
            long = [i for i, length in enumerate(encoded[FULL_LENGTH]) if limit is not None and length > limit]
            if long and self.context.truncation:
                cut_rows = {role: [values[i] for i in long] for role, values in rows.items()}
                cut = _with_length(self.task.encode(cut_rows, replace(self.context, truncation=True)))
                encoded = _replaced(encoded, long, cut)
        return encoded

    def batch(self, rows: dict[str, list[Any]]) -> pyarrow.RecordBatch:
        """Encode rows and put them as they are stored, which also travels well between processes."""
        return _to_batch(self(rows))


def _with_length(encoded: Mapping[str, Any]) -> dict[str, list[Any]]:
    lists = {name: list(values) for name, values in encoded.items()}
    return {"length": [len(ids) for ids in lists["input_ids"]]} | lists


def _replaced(encoded: dict[str, list[Any]], long: list[int], cut: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Put the features of the rows that were cut in the place of the long ones."""
    sources = cut.pop(SOURCE, list(range(len(long))))
    cut.pop(LONGEST, None)
    parts = Counter(sources)  # of a row that became several features nothing is lost, unless the task says so
    lost = cut.get(CUT, [0] * len(sources))
    cut[CUT] = [int(own or parts[source] == 1) for own, source in zip(lost, sources, strict=True)]
    cut[SOURCE] = [long[source] for source in sources]
    cut[FULL_LENGTH] = [encoded[FULL_LENGTH][place] for place in cut[SOURCE]]
    if sources == list(range(len(long))):
        for name, values in cut.items():
            for place, value in zip(long, values, strict=True):
                encoded[name][place] = value
        return encoded
    is_long = set(long)
    kept = [place for place in range(len(encoded["length"])) if place not in is_long]
    joined = {name: [values[place] for place in kept] + cut[name] for name, values in encoded.items()}
    order = sorted(range(len(joined[SOURCE])), key=joined[SOURCE].__getitem__)
    return {name: [values[place] for place in order] for name, values in joined.items()}


def encode_rows(rows: dict[str, list[Any]], task: Task, context: Context) -> dict[str, list[Any]]:
    """Return the features of some rows by role, unpadded: `source` is the place of each one's row among them."""
    return _Encoder(task, context)(rows)


def encode_data(
    splits: Mapping[str, Any],
    task: Task,
    context: Context,
    num_proc: int | None = None,
    cache_dir: Path | None = None,
    streamed: bool = False,
) -> EncodedData:
    """Tokenise every split, or take it from the cache.

    `cache_dir` None is the user's cache. An entry is found by the texts, the tokenizer, the task and the settings that
    matter. `streamed`: train is the beginning of a stream. Raises FinetuneError when a row is too long and truncation
    is off, when a row gives no token, or when the cache cannot be written.
    """
    import numpy

    encoded: dict[str, Any] = {}
    sources: dict[str, Any] = {}
    notes = []
    for name, split in splits.items():
        own_context = replace(context, writes=False, single=streamed) if name == "train" else context
        encoded[name], sources[name], table, note = _encoded(name, split, task, own_context, num_proc, cache_dir)
        if note is not None:
            notes.append(note)
        if name == "train":
            lengths, cut = (as_array(table.column(column), numpy.int32) for column in (FULL_LENGTH, CUT))
            divided = numpy.zeros(1, bool)
            if sources[name] is not None:  # of each row once
                _, firsts, parts = numpy.unique(sources[name], return_index=True, return_counts=True)
                lengths, cut, divided = lengths[firsts], cut[firsts], parts > 1
    p50, p95 = _percentiles(lengths)
    return EncodedData(
        splits=encoded,
        sources=sources,
        length_p50=p50,
        length_p95=p95,
        length_max=int(lengths.max()),
        truncated_fraction=float(cut.mean()),
        divided_fraction=float(divided.mean()),
        notes=tuple(notes),
    )


def encode_split(
    name: str, split: Any, task: Task, context: Context, num_proc: int | None = None, cache_dir: Path | None = None
) -> tuple[Any, numpy.ndarray | None]:
    """Tokenise one split, or take it from the cache: its features, and its entry of `EncodedData.sources`.

    Raises FinetuneError as `encode_data`.
    """
    return _encoded(name, split, task, context, num_proc, cache_dir)[:2]


def _encoded(
    name: str, split: Any, task: Task, context: Context, num_proc: int | None, cache_dir: Path | None
) -> tuple[Any, numpy.ndarray | None, pyarrow.Table, str | None]:
    """Return the features of a split, their sources, the table in the cache, and a note on it."""
    folder = (cache_dir or cache_directory()) / "tokens"
    encoder, source = _Encoder(task, context), table_of(split)
    inputs = _inputs(source, task)
    digest = hashlib.sha256(_identity(task, context).encode())
    add_columns(digest, digest_table(inputs))
    table, note = find_entry(folder, digest.hexdigest())
    if table is None:
        batches = _encoded_batches(inputs, encoder, num_proc or _processes(inputs.num_rows))
        table = write_entry(folder, digest.hexdigest(), batches)
    own = hashlib.sha256(f"{digest.hexdigest()} {split._fingerprint}".encode()).hexdigest()
    features, sources = _checked(name, table, source, encoder, own)
    return features, sources, table, note


def encode_window(source: pyarrow.Table, task: Task, context: Context) -> Any:
    """Tokenise some training rows that are streamed, as a datasets.Dataset; nothing is kept on disk.

    Raises FinetuneError as `encode_data`.
    """
    import pyarrow

    encoder = _Encoder(task, replace(context, single=True))
    table = pyarrow.Table.from_batches(_encoded_batches(_inputs(source, task), encoder, 1))
    return _checked("train", table, source, encoder, "window")[0]


def _identity(task: Task, context: Context) -> str:
    """Return, besides the texts, everything that changes what becomes of them."""
    labels = [context.labels.problem_type, *context.labels.names] if task.encodes_target else []
    decoder = [getattr(context.config, name, None) for name in ("model_type", "decoder_start_token_id")]
    return json.dumps(
        [FORMAT_VERSION, task.name, tokenizer_hash(context.tokenizer), context.max_length, context.truncation,
         context.doc_stride, context.kind, dict(sorted(context.settings.items())), labels, context.single,
         context.writes, decoder if context.kind == "encoder-decoder" else None]
    )  # fmt: skip


def _inputs(source: pyarrow.Table, task: Task) -> pyarrow.Table:
    """Return the columns that are encoded: all but the target, unless the tokens carry it, and the row number."""
    left_out = ("row",) if task.encodes_target else ("row", task.target)
    return source.select([column for column in source.column_names if column not in left_out])


def _percentiles(lengths: Any) -> tuple[int, int]:
    import numpy

    # A length that occurs, not one between two rows.
    p50, p95 = numpy.percentile(lengths, [50, 95], method="higher")
    return int(p50), int(p95)


def _processes(rows: int) -> int:
    """Return how many processes tokenise when the recipe does not say."""
    if rows < _PARALLEL_FROM_ROWS:
        return 1
    return usable_processors()


def _one_thread() -> None:
    """Keep the tokeniser of a worker from starting a thread for every core, as each worker would."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


def _encoded_batches(inputs: pyarrow.Table, encoder: _Encoder, processes: int) -> Iterator[pyarrow.RecordBatch]:
    """Yield the features in the order of their rows, from this process or from several."""
    starts = range(0, inputs.num_rows, _BATCH_ROWS)
    chunks = (inputs.slice(start, _BATCH_ROWS).to_pydict() for start in starts)
    if processes == 1 or inputs.num_rows <= _BATCH_ROWS:
        for start, chunk in zip(starts, chunks, strict=True):
            yield _placed(encoder.batch(chunk), start)
        return
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    # Spawned, since a fork of a process in which torch has started threads may hang.
    with ProcessPoolExecutor(processes, get_context("spawn"), _one_thread) as pool:
        waiting: deque[Any] = deque()
        for start, chunk in zip(starts, chunks, strict=True):
            waiting.append((start, pool.submit(encoder.batch, chunk)))
            if len(waiting) > 2 * processes:
                yield _finished(*waiting.popleft())
        while waiting:
            yield _finished(*waiting.popleft())


def _finished(start: int, waiting: Any) -> pyarrow.RecordBatch:
    return _placed(waiting.result(), start)


def _placed(batch: pyarrow.RecordBatch, start: int) -> pyarrow.RecordBatch:
    """Let `source` count from the first row of the split, not of the batch."""
    import pyarrow
    import pyarrow.compute as pc

    place = batch.schema.get_field_index(SOURCE)
    sources = pc.add(batch.column(place), pyarrow.scalar(start, pyarrow.int64()))
    return batch.set_column(place, SOURCE, sources)


def _to_batch(encoded: dict[str, list[Any]]) -> pyarrow.RecordBatch:
    import pyarrow

    small, ids = pyarrow.list_(pyarrow.int8()), pyarrow.list_(pyarrow.int32())
    kinds = {"length": pyarrow.int32(), FULL_LENGTH: pyarrow.int32(), SOURCE: pyarrow.int64(), CUT: pyarrow.int8()}
    kinds |= {"input_ids": ids, "attention_mask": small, "token_type_ids": small}
    first = next(iter(encoded["input_ids"]), None)
    if first and isinstance(first[0], list):  # a row of several inputs: one more level
        kinds |= {name: pyarrow.list_(kinds[name]) for name in ("input_ids", "attention_mask", "token_type_ids")}
    arrays = {name: pyarrow.array(values, kinds.get(name)) for name, values in encoded.items()}
    return pyarrow.RecordBatch.from_pydict(arrays)


def _checked(
    name: str, table: pyarrow.Table, source: pyarrow.Table, encoder: _Encoder, fingerprint: str
) -> tuple[Any, numpy.ndarray | None]:
    """Return an encoded split and the place of each feature's row in it; None: they are the rows one by one."""
    import numpy

    _check_rows(name, table, source, encoder)
    sources = None if _one_by_one(table) else as_array(table.column(SOURCE), numpy.int64)
    return _with_labels(table, source, encoder.task, sources, fingerprint), sources


def _one_by_one(table: pyarrow.Table) -> bool:
    import numpy

    start = 0
    for chunk in table.column(SOURCE).chunks:
        if not numpy.array_equal(chunk.to_numpy(), numpy.arange(start, start + len(chunk))):
            return False
        start += len(chunk)
    return True


def _check_rows(name: str, table: pyarrow.Table, source: pyarrow.Table, encoder: _Encoder) -> None:
    import numpy

    lengths = as_array(table.column(FULL_LENGTH), numpy.int32)
    limit = encoder.context.max_length

    def row_of(place: int) -> int:
        return int(source.column("row")[table.column(SOURCE)[place].as_py()].as_py())

    if (lengths == 0).any():
        row = row_of(int(numpy.argmax(lengths == 0)))
        raise FinetuneError(f"split {name}, row {row}: the tokenizer makes no token of its text", "Remove the row.")
    if limit is not None and not encoder.context.truncation and (lengths > limit).any():
        long = lengths > limit
        first = int(numpy.argmax(long))
        raise FinetuneError(
            f"split {name}, row {row_of(first)}: {lengths[first]:,} tokens, where {limit:,} is the limit "
            f"({plural(int(long.sum()), 'row')} too long)",
            "Let them be cut (preprocessing.truncation: true), raise preprocessing.max_length if the model can take "
            "more, or shorten the texts.",
        )


def _with_labels(
    table: pyarrow.Table, source: pyarrow.Table, task: Task, sources: numpy.ndarray | None, fingerprint: str
) -> Any:
    """Join the tokens with labels and row numbers, which are not in the cache: they do not change the tokens."""
    import datasets

    rows = source if sources is None else source.select(["row"]).take(sources)
    table = table.drop_columns([FULL_LENGTH, SOURCE, CUT]).append_column("row", rows.column("row"))
    if "labels" not in table.column_names and task.target in rows.column_names:
        table = table.append_column("labels", rows.column(task.target))
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
