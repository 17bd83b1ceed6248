"""The rows of each step: drawn from all that are there, or from a stream, window by window."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.arrow_files import table_of
from finetune.data.batching import batch_columns, count_tokens, epoch_batches
from finetune.data.encoding import encode_window
from finetune.data.spool import as_array
from finetune.data.stream import Stream, window_rows

if TYPE_CHECKING:
    from finetune.training.prepare import Prepared


def train_batches(prepared: Prepared, start: int) -> Iterator[tuple[int, Any, Any, tuple[int, int]]]:
    """Yield (step, encoded rows, which of them, their tokens) for every step after `start`, until the plan ends.

    Tokens are counted without padding and with it.

    The batch is that of all ranks, and depends on nothing but the seed, the step and the data.
    """
    if prepared.data.stream is not None:
        yield from _streamed(prepared, prepared.data.stream, start)
        return
    plan, training = prepared.plan, prepared.recipe.training
    lengths = row_lengths(prepared.encoded.splits["train"])
    step = start
    while step < plan.total_steps:
        epoch, done = divmod(step, plan.steps_per_epoch)
        order = epoch_batches(lengths, plan.global_batch_size, training.train_sampling_strategy, training.seed, epoch)
        for batch in order[done : done + plan.total_steps - step]:
            step += 1
            yield step, prepared.train_rows, batch, count_tokens(lengths[batch], rows_together(prepared))


def _streamed(prepared: Prepared, stream: Stream, start: int) -> Iterator[tuple[int, Any, Any, tuple[int, int]]]:
    plan, training, size = prepared.plan, prepared.recipe.training, prepared.plan.global_batch_size
    rows = window_rows(size)
    step = start
    while step < plan.total_steps:
        epoch, done = divmod(step, plan.steps_per_epoch)
        number, done = divmod(done, rows // size)
        for window in _one_ahead(_encoded_windows(prepared, stream, rows, number)):
            lengths = row_lengths(window)
            order = epoch_batches(lengths, size, training.train_sampling_strategy, training.seed, epoch, number)
            columns = batch_columns(window, prepared.task)
            for batch in order[done : done + plan.total_steps - step]:
                step += 1
                yield step, columns, batch, count_tokens(lengths[batch], rows_together(prepared))
            if step == plan.total_steps:
                return
            number, done = number + 1, 0


def rows_together(prepared: Prepared) -> int:
    """Return how many rows of a step, on all ranks, are padded to about the same length."""
    return prepared.rows_at_once * ranks.size()


def _encoded_windows(prepared: Prepared, stream: Stream, rows: int, first: int) -> Iterator[Any]:
    for window in stream.windows(rows, first):
        yield encode_window(window, prepared.task, prepared.context)


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """Yield the items while a thread makes the next one: tokenisers leave the interpreter to the training meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def row_lengths(split: Any) -> Any:
    """Return the tokens of each row of an encoded split (int32)."""
    import numpy

    return as_array(table_of(split).column("length"), numpy.int32)
