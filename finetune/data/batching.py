"""Batches of similar length: seeded, the same whatever the number of processes, and resumable at any step.

The unit is the global batch of one optimizer step. It is drawn first and only then dealt out to ranks and
micro-batches, so that 8×1, 2×4 and two ranks of 4×1 all train on the same rows in the same steps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from finetune.data.packing import packed_mask

if TYPE_CHECKING:
    import numpy

    from finetune.tasks import Context, Task

# The names of a batch's tensors that are handed to the model; all others are for the task.
INPUTS = (
    "input_ids", "attention_mask", "token_type_ids", "position_ids", "decoder_input_ids", "decoder_attention_mask",
)  # fmt: skip
# Those that are made of what is to be predicted.
TARGETS = ("labels", "decoder_input_ids", "decoder_attention_mask")

# Rows are sorted by length within pools of this many global batches: large enough to leave little padding
# (about 5 % on short messages), small enough that each epoch mixes the rows anew.
_POOL_BATCHES = 64
_SAMPLED_ROWS = 65_536
_NO_LIMIT = 1 << 30
_NO_PADS: Mapping[str, int | None] = MappingProxyType({})


@dataclass(frozen=True)
class EpochBatches(Sequence["numpy.ndarray"]):
    """The global batches of one epoch, each an array of row indices; they are cut out when asked for.

    `rows` is every row once, in the order of the pools; `order` says which batch comes when. That is 4 bytes a row.
    """

    rows: numpy.ndarray
    order: numpy.ndarray
    lengths: numpy.ndarray
    batch_size: int

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: Any) -> Any:
        """Return a batch, its rows from long to short."""
        import numpy

        if isinstance(place, slice):
            return EpochBatches(self.rows, self.order[place], self.lengths, self.batch_size)
        start = int(self.order[place]) * self.batch_size
        batch = self.rows[start : start + self.batch_size]
        return batch[numpy.argsort(-self.lengths[batch], kind="stable")]


def epoch_batches(
    lengths: Sequence[int] | numpy.ndarray, batch_size: int, strategy: str, seed: int, epoch: int, *window: int
) -> EpochBatches:
    """Return the global batches of one epoch as arrays of row indices; each row comes exactly once.

    strategy: random, sequential or group_by_length. Rows inside a batch are ordered from long to short, so
    that slices of it (ranks, micro-batches) are of similar length too. A ragged batch holds what is left over.
    `window` numbers the part of the epoch that the lengths are of, where they are not of all of it.
    """
    import numpy

    lengths = numpy.asarray(lengths, dtype=numpy.int32)
    rows = numpy.arange(len(lengths), dtype=numpy.int32 if len(lengths) < 2**31 else numpy.int64)
    order = numpy.arange(-(-len(rows) // batch_size))
    draw = numpy.random.default_rng([seed, epoch, *window])
    if strategy != "sequential":
        draw.shuffle(rows)
    if strategy == "group_by_length":
        for start in range(0, len(rows), batch_size * _POOL_BATCHES):
            pool = rows[start : start + batch_size * _POOL_BATCHES]
            pool[:] = pool[numpy.argsort(-lengths[pool], kind="stable")]
        order = draw.permutation(len(order))
    return EpochBatches(rows, order, lengths, batch_size)


def count_tokens(lengths: numpy.ndarray, together: int) -> tuple[int, int]:
    """Return the tokens of a batch without padding and with it; `lengths` go from long to short.

    `together` rows are padded to the longest of them: those of one micro-batch on all ranks, which deal the rows out
    like cards.
    """
    longest = lengths[::together].astype("int64")
    rest = (len(longest) * together - len(lengths)) * int(longest[-1])  # the last ones may be fewer
    return int(lengths.sum()), int(longest.sum()) * together - rest


def padding(lengths: numpy.ndarray, batch_size: int, together: int, strategy: str, seed: int) -> float:
    """Return how many tokens, padding too, the batches of an epoch hold for each token of the rows.

    Of more than 65,536 rows it is that of a sample.
    """
    sample = lengths[:: -(-len(lengths) // _SAMPLED_ROWS)]
    batches = epoch_batches(sample, batch_size, strategy, seed, 0)
    counts = [count_tokens(sample[batch], together) for batch in batches]
    return sum(padded for _, padded in counts) / sum(tokens for tokens, _ in counts)


def micro_batches(
    batch: numpy.ndarray, per_device_size: int, rank: int = 0, world: int = 1
) -> list[tuple[numpy.ndarray, bool]]:
    """Deal a global batch out: return this rank's micro-batches as (rows, counts).

    Every rank gets equally many, or the others would wait for it forever: where a ragged batch leaves a rank without,
    it gets the shortest row with counts=False, takes part in the exchange and adds nothing.
    """
    own = batch[rank::world]
    dealt = [(own[start : start + per_device_size], True) for start in range(0, len(own), per_device_size)]
    most = -(-len(batch[::world]) // per_device_size)
    return dealt + [(batch[-1:], False)] * (most - len(dealt))


def evaluation_batches(lengths: Sequence[int] | numpy.ndarray, batch_size: int) -> Iterator[numpy.ndarray]:
    """Yield row indices sorted from long to short: least padding, and a lack of memory shows in the first batch."""
    import numpy

    order = numpy.argsort(-numpy.asarray(lengths, dtype=numpy.int32), kind="stable")
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def collate(
    rows: dict[str, list[Any]], tokenizer: Any, max_length: int, device: str, pads: Mapping[str, int | None] = _NO_PADS
) -> dict[str, Any]:
    """Pad each token column to its longest row and make tensors (on the CPU).

    `pads` says which columns the task adds and what fills them up, one value a token; None: one value a row, as labels
    are where `pads` does not name them.
    For a GPU the width is a multiple of 8, as its matrix units want; on a processor that would only be more work: 15 %
    more tokens on the shipped messages, 22 % on BANKING77. No row is padded beyond `max_length`, the positions that
    the model has.
    """
    import numpy
    import torch

    multiple = 8 if device == "cuda" else 1
    fill = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id,
            "position_ids": 0}  # fmt: skip
    # Models count positions from the left: where each token has a label, it must stand where it does without padding.
    left = tokenizer.padding_side == "left" and pads.get("labels") is None
    tensors: dict[str, Any] = {}
    for name, value in {**fill, "labels": None, **pads}.items():
        if name not in rows:
            continue
        if value is None:
            tensors[name] = torch.tensor(numpy.asarray(rows[name]))
            continue
        longest = max(map(len, rows[name]))  # of targets another than of inputs
        width = max(longest, min(-(-longest // multiple) * multiple, max_length))
        padded = numpy.full((len(rows[name]), width), value, dtype=numpy.int64)
        for line, values in zip(padded, rows[name], strict=True):
            if left:
                line[width - len(values) :] = values
            else:
                line[: len(values)] = values
        tensors[name] = torch.from_numpy(padded)
    return tensors


def make_batch(features: dict[str, list[Any]], task: Task, context: Context, device: Any) -> dict[str, Any]:
    """Return the tensors of some features on a device, as the task lays them out; of those, INPUTS go to the model."""
    if task.redraw is not None:
        features = task.redraw(features, context)
    if task.collate is not None:
        batch = task.collate(features, context)
    else:
        batch = collate(features, context.tokenizer, context.max_length or _NO_LIMIT, device.type, task.pads)
    if "position_ids" in batch:
        batch["attention_mask"] = packed_mask(batch["position_ids"], context.kind == "decoder-only")
        batch["position_ids"] += context.first_position
    return {name: tensor.to(device) for name, tensor in batch.items()}


def model_inputs(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a batch the model takes."""
    return {name: batch[name] for name in INPUTS if name in batch}


def batch_columns(split: Any, task: Task) -> Any:
    """Return an encoded split with just the columns of a batch."""
    own = (*INPUTS, "labels", *task.pads)
    return split.select_columns([name for name in dict.fromkeys(own) if name in split.column_names])


def without_targets(split: Any) -> Any:
    """Return an encoded split as it is when predicting, where nobody knows the answers."""
    return split.remove_columns([name for name in TARGETS if name in split.column_names])
