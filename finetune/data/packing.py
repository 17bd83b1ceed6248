"""Short features joined into full rows for training, each with positions and attention of its own.

A packed row is a row of several texts that do not see each other: `position_ids` begin anew at each, and the mask of
`packed_mask` keeps attention inside them. So the model says the same of every token as if each text stood alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.spool import as_array, spool_table
from finetune.text import plural

if TYPE_CHECKING:
    import numpy
    import pyarrow

    from finetune.data.encoding import EncodedData

_ROWS_AT_ONCE = 1000


def pack_train(encoded: EncodedData, limit: int) -> EncodedData:
    """Return encoded data with the training features packed, and a note on how full the rows are."""
    import numpy

    short = encoded.splits["train"]
    packed = pack(short, limit)
    full = as_array(table_of(packed).column("length"), numpy.int64).sum() / (limit * len(packed))
    note = (
        f"train: {plural(len(short), 'text')} packed into {plural(len(packed), 'row')} of up to {limit:,} tokens, "
        f"{full:.0%} full."
    )
    return replace(encoded, splits=encoded.splits | {"train": packed}, notes=(*encoded.notes, note))


def pack(split: Any, limit: int) -> Any:
    """Return an encoded split (datasets.Dataset) with its features joined into rows of at most `limit` tokens.

    Every feature is in one row, whole. Columns: those with a value a token, `position_ids`, `length`, and the `row` of
    the first feature; the attention mask is left out, since `packed_mask` takes its place.
    """
    import datasets
    import numpy

    table = table_of(split)
    lengths = as_array(table.column("length"), numpy.int32)
    bins = best_fit(lengths, limit)
    rows = spool_table(_packed(table, lengths, bins), next(_packed(table, lengths, bins[:1])).schema)
    return datasets.Dataset(rows, fingerprint=f"{split._fingerprint[:40]}-packed")


def best_fit(lengths: numpy.ndarray, limit: int) -> list[list[int]]:
    """Return which features share a row: from the longest on, each goes where the least room is left over.

    Rows of one length keep their order. Best-fit decreasing takes at most 11/9 of the fewest rows, and one more.
    """
    import numpy

    bins: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms = 0  # bit r is set where a row has room for r tokens
    for place in numpy.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[place])
        fitting = rooms >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1
            chosen = by_room[room].pop()
            if not by_room[room]:
                rooms &= ~(1 << room)
        else:
            room, chosen = limit, len(bins)
            bins.append([])
        bins[chosen].append(place)
        if room > length:
            by_room.setdefault(room - length, []).append(chosen)
            rooms |= 1 << (room - length)
    return bins


def _packed(table: pyarrow.Table, lengths: numpy.ndarray, bins: list[list[int]]) -> Iterator[pyarrow.RecordBatch]:
    import numpy
    import pyarrow

    names = [
        name
        for name in table.column_names
        if pyarrow.types.is_list(table.schema.field(name).type) and name != "attention_mask"
    ]
    for start in range(0, len(bins), _ROWS_AT_ONCE):
        chosen = bins[start : start + _ROWS_AT_ONCE]
        order = numpy.concatenate([numpy.asarray(places) for places in chosen])
        taken = table.select([*names, "row"]).take(pyarrow.array(order)).combine_chunks()
        totals = numpy.array([int(lengths[places].sum()) for places in chosen], dtype=numpy.int32)
        ends = pyarrow.array(numpy.concatenate([[0], numpy.cumsum(totals)]).astype(numpy.int32))

        def joined(values: Any, ends: Any = ends) -> Any:
            return pyarrow.ListArray.from_arrays(ends, values)

        columns = {name: joined(taken.column(name).combine_chunks().flatten()) for name in names}
        places = numpy.concatenate([numpy.arange(length) for length in lengths[order]]).astype(numpy.int32)
        columns["position_ids"] = joined(pyarrow.array(places))
        columns["length"] = pyarrow.array(totals)
        firsts = numpy.concatenate([[0], numpy.cumsum([len(places) for places in chosen])[:-1]])
        columns["row"] = taken.column("row").combine_chunks().take(pyarrow.array(firsts))
        yield pyarrow.RecordBatch.from_pydict(columns)


def unpacked(row: dict[str, list[int]]) -> dict[str, list[list[int]]]:
    """Return the features of a packed row, as they were."""
    starts = [place for place, position in enumerate(row["position_ids"]) if position == 0]
    bounds = list(pairwise([*starts, len(row["position_ids"])]))
    features = {
        name: [values[start:end] for start, end in bounds] for name, values in row.items() if name != "position_ids"
    }
    return {**features, "attention_mask": [[1] * (end - start) for start, end in bounds]}


def packed_mask(position_ids: Any, causal: bool) -> Any:
    """Return the mask that is added to the attention scores (rows × 1 × tokens × tokens): 0 inside a text, else least.

    A text begins where positions begin. Padding has position 0, so that each of it sees itself alone.
    """
    import torch

    texts = (position_ids == 0).cumsum(1)
    apart = texts[:, :, None] != texts[:, None, :]
    if causal:
        apart = apart | torch.ones(apart.shape[1:], dtype=torch.bool).triu(1)
    return torch.zeros(apart.shape).masked_fill(apart, torch.finfo(torch.float32).min).unsqueeze(1)
