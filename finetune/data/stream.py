"""Training rows that are read while the model trains: looked through once, then cleaned and shuffled in windows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.data.cleaning import (
    Cleaned,
    Dropped,
    by_role,
    check_inputs,
    check_values,
    drop_unlabelled,
    dropped_notes,
    label_column,
    source_columns,
    with_text,
)
from finetune.data.fingerprint import ColumnDigest
from finetune.data.raw import cast_table
from finetune.data.spool import spool
from finetune.data.targets import Target, read_target
from finetune.errors import FinetuneError
from finetune.tasks import LabelScheme
from finetune.tasks.text_classification import SINGLE
from finetune.text import plural

if TYPE_CHECKING:
    import pyarrow

    from finetune.data.columns import ColumnMap
    from finetune.data.raw import RawSplit
    from finetune.tasks import Task

# Rows are shuffled within windows of at least so many: some megabytes of tokens, and few enough to begin at once.
WINDOW_ROWS = 16_384


def window_rows(batch_size: int) -> int:
    """Return how many rows a window holds: at least WINDOW_ROWS, and a whole number of batches."""
    return batch_size * max(1, -(-WINDOW_ROWS // batch_size))


@dataclass(frozen=True)
class Stream:
    """A training split whose rows are read anew whenever they are asked for.

    `labels` holds, for every row with text up to `limit`, what the model takes: null where the row has no label and is
    left out. It lies in a mapped file, as do the row numbers of `known` (row, target), the rows that are trained on.
    """

    split: RawSplit
    columns: ColumnMap
    task: Task
    limit: int | None
    labels: pyarrow.ChunkedArray
    known: pyarrow.Table

    @property
    def rows(self) -> int:
        """Return how many rows an epoch has."""
        return int(self.known.num_rows)

    def pieces(self, skip: int = 0) -> Iterator[pyarrow.RecordBatch]:
        """Yield rows by role, with the target and `row`, after the first `skip`; those are read and not looked at.

        Raises FinetuneError when the data is not what it was when it was looked through.
        """
        seen = 0
        for batch in texts(self.split, self.columns, self.task, Dropped(), self.limit):
            labels = self.labels.slice(seen, batch.num_rows).combine_chunks()
            if len(labels) < batch.num_rows:
                raise self._changed()
            seen += batch.num_rows
            roles = [name for name in batch.schema.names if not name.startswith(label_column(""))]
            whole = with_target(batch.select([*roles]), self.task, _flat(labels))
            if labels.null_count:
                whole = whole.filter(_flat(labels).is_valid())
            left_out = min(skip, whole.num_rows)
            skip -= left_out
            if whole.num_rows > left_out:
                yield whole.slice(left_out)
        if seen < len(self.labels):
            raise self._changed()

    def windows(self, rows: int, first: int = 0) -> Iterator[pyarrow.Table]:
        """Yield the rows of an epoch in windows of `rows` from window `first` on; the last may be smaller."""
        import pyarrow

        held: list[pyarrow.RecordBatch] = []
        count = 0
        for piece in self.pieces(first * rows):
            held.append(piece)
            count += piece.num_rows
            while count >= rows:
                table = pyarrow.Table.from_batches(held)
                yield table.slice(0, rows)
                held, count = table.slice(rows).to_batches(), count - rows
        if count:
            yield pyarrow.Table.from_batches(held)

    def _changed(self) -> FinetuneError:
        return FinetuneError(
            f"split {self.split.name} ({self.split.where}): the data has changed since the run began",
            "Start the run again.",
        )


def with_target(rows: Any, task: Task, values: Any) -> Any:
    """Return a table or a batch of rows with their targets, if the task has one."""
    return rows if task.target is None else rows.append_column(task.target, values)


def _flat(labels: Any) -> pyarrow.Array:
    import pyarrow

    return labels.combine_chunks() if isinstance(labels, pyarrow.ChunkedArray) else labels


def texts(
    split: RawSplit, columns: ColumnMap, task: Task, dropped: Dropped, limit: int | None
) -> Iterator[pyarrow.RecordBatch]:
    """Yield the rows with text by role, the first `limit` of them; raises FinetuneError where an input is no text."""
    left = limit
    raw = _checked(split, columns, task, dropped)
    for batch in with_text(by_role(raw, columns, task), columns, task, dropped):
        yield batch if left is None else batch.slice(0, left)
        if left is not None:
            left -= batch.num_rows
            if left <= 0:
                return


def _checked(split: RawSplit, columns: ColumnMap, task: Task, dropped: Dropped) -> Iterator[pyarrow.RecordBatch]:
    import pyarrow
    from pyarrow import types

    done = 0
    for batch in split.pieces(source_columns(columns)):
        unfit = {
            role: name
            for role, name in columns.items()
            if role != task.target and not types.is_null(batch.schema.field(str(name)).type)
        }
        for note in check_inputs(split, pyarrow.Table.from_batches([batch]), unfit, task, done):
            dropped.notes += [] if note in dropped.notes else [note]
        check_values(split, batch, unfit, task, done)
        done += batch.num_rows
        yield batch


@dataclass(frozen=True)
class Looked:
    """What one look through the rows gives: the stream, how targets are read, digests of the columns, notes."""

    stream: Stream
    target: Target
    digests: dict[str, ColumnDigest]
    dropped: int
    notes: tuple[str, ...]


def look_through(split: RawSplit, columns: ColumnMap, task: Task, forced: str, limit: int | None) -> Looked:
    """Read the rows that a run will need (the first `limit` with text) once, keeping of each its label and its number.

    `forced` is a problem type or auto. Every fault that reading, cleaning and labelling can find is found here.
    Raises FinetuneError.
    """
    dropped = Dropped()
    digests = {role: ColumnDigest() for role in columns if role != task.target}

    def labels_alone() -> Iterator[pyarrow.RecordBatch]:
        for batch in texts(split, columns, task, dropped, limit):
            for role, digest in digests.items():
                digest.add(batch.column(role))
            # Targets that belong to tokens are checked against them.
            yield batch if task.encodes_target else batch.select([n for n in batch.schema.names if n not in digests])

    table = _one_type(split, spool(labels_alone()))
    notes = [*dropped.notes, *dropped_notes(split, dropped)]
    target = read_target(task, split, table, columns, forced)
    labels = target.encode(split, table)
    cleaned, kept = drop_unlabelled(split, Cleaned(table, dropped.dropped, tuple(notes)), labels, task)
    known = with_target(cleaned.table.select(["row"]), task, kept)
    stream = Stream(split, columns, task, limit, labels, known)
    if len(kept) < len(labels):  # the digests must be of the rows that are left, as they are of data that is loaded
        digests = {role: ColumnDigest() for role in digests}
        for piece in stream.pieces():
            for role, digest in digests.items():
                digest.add(piece.column(role))
    if task.target is not None:
        digests[task.target] = ColumnDigest()
        for chunk in kept.chunks:
            digests[task.target].add(chunk)
    notes = [*cleaned.notes, *target.notes, *_order_note(stream, target.scheme)]
    return Looked(stream, target, digests, cleaned.dropped, tuple(notes))


def _one_type(split: RawSplit, batches: list[pyarrow.RecordBatch]) -> pyarrow.Table:
    """Put the pieces of the target together; raises FinetuneError when they hold values of types that do not mix."""
    import pyarrow

    if not batches:
        raise FinetuneError(f"split {split.name} ({split.where}): no row has a text", "Check dataset.columns.")
    try:
        schema = pyarrow.unify_schemas([batch.schema for batch in batches], promote_options="permissive")
    except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError) as problem:
        raise FinetuneError(
            f"split {split.name} ({split.where}): the rows do not agree on the type of a column: {problem}",
            "Give every row of the column the same type.",
        ) from problem
    tables = (cast_table(pyarrow.Table.from_batches([batch]), schema, safe=False) for batch in batches)
    same = all(batch.schema.types == schema.types for batch in batches)
    return pyarrow.Table.from_batches(batches if same else spool(b for table in tables for b in table.to_batches()))


def _order_note(stream: Stream, scheme: LabelScheme) -> list[str]:
    """Warn when the rows seem sorted by label, which shuffling within windows does not mend."""
    import pyarrow.compute as pc

    rows = window_rows(1)
    names = scheme.names
    if scheme.problem_type != SINGLE or stream.task.target is None or stream.rows <= rows:
        return []
    labels = stream.known.column(stream.task.target)
    first, all_labels = (len(pc.unique(part)) for part in (labels.slice(0, rows), labels))
    if 2 * first > all_labels or len(names) > rows:
        return []
    return [
        f"train: the first {rows:,} rows have {plural(first, 'label')} of {all_labels}: the rows seem sorted by label, "
        "and a stream is shuffled only within windows of so many. Shuffle the files first."
    ]
