"""The frozen part of a model: computed once for every row of a split, kept on disk, read again in every epoch.

Nothing of it changes from epoch to epoch: its weights are frozen and it runs without dropout. The records lie in a file
that is mapped into memory and has no name, so that it is gone with the process, however that ends.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.console import progress as show_progress
from finetune.console import say
from finetune.data.arrow_files import table_of
from finetune.data.batching import batch_columns, evaluation_batches, make_batch, model_inputs
from finetune.data.spool import as_array
from finetune.models.cut import Cut, NoCutError, States, find_cut, inputs_from, read_states, replayed
from finetune.models.freezing import frozen_modules
from finetune.text import plural

if TYPE_CHECKING:
    import numpy
    import torch

    from finetune.recipe.schema import Recipe
    from finetune.tasks import Context, Task
    from finetune.training.prepare import Prepared
    from finetune.training.session import Session

# Checkpoints and the saved model want room too.
_SHARE_OF_FREE_SPACE = 0.5
# The rows that show where the model can be cut: places among the rows sorted by length.
_PROBED = (0.0, 0.5, 0.9)
_TOKEN_BYTES = 4  # int32
# How ranks may be laid out for the model to be run in parts.
_WHOLE_MODELS = ("NO", "MULTI_CPU", "MULTI_GPU")


@dataclass(frozen=True)
class Record:
    """The states of a split on disk, as vectors: one a row, or one a token, where those of row r begin at starts[r].

    tokens: the tokens that they stand for where there is one a row.
    labels: the split with that one column, so that a step need not read the tokens.
    """

    values: torch.Tensor
    tokens: torch.Tensor | None
    starts: numpy.ndarray | None
    labels: Any


@dataclass(frozen=True)
class Frozen:
    """The frozen part of the model in training: what stays in evaluation mode, where it ends, what is recorded of it.

    A split whose states cannot be kept is recorded as None and computed anew in every epoch.
    """

    model: Any  # bare
    modules: tuple[Any, ...] = ()
    cut: Cut | None = None
    records: dict[str, Record | None] = field(default_factory=dict)

    @property
    def head_alone(self) -> bool:
        """Tell whether a step computes the head and nothing else, which is too little to share out."""
        return self.cut is not None and self.cut.output is not None


def find_frozen(
    model: Any, recipe: Recipe, split: Any, task: Task, context: Context, accelerator: Any
) -> tuple[Frozen, tuple[str, ...]]:
    """Return the frozen part of a bare model on its device, and notes for the user; `split`: the training rows."""
    import numpy

    what = recipe.model.freeze
    modules = frozen_modules(model, what)
    model.eval()  # from scratch it comes in training mode, which `start_training_mode` would take for its own work
    if what in ("none", "embeddings"):
        return Frozen(model, modules), ()
    try:
        if task.collate is not None or task.ask is not None or task.redraw is not None:
            raise NoCutError(f"the batches of {task.name} are more than rows of tokens")
        if recipe.preprocessing.packing:
            raise NoCutError("rows are packed (preprocessing.packing)")
        if recipe.training.torch_compile:
            raise NoCutError("the model is compiled as a whole (training.torch_compile)")
        if recipe.dataset.streaming:
            raise NoCutError("the training rows are streamed (dataset.streaming)")
        if accelerator.distributed_type.value not in _WHOLE_MODELS:
            raise NoCutError("the model is spread over several processes")
        order = numpy.argsort(as_array(table_of(split).column("length"), numpy.int64), kind="stable")
        chosen = [int(order[int(share * (len(order) - 1))]) for share in _PROBED]
        rows_of = batch_columns(split, task)
        batches = [
            model_inputs(make_batch(rows_of[rows], task, context, accelerator.device))
            for rows in (*([c] for c in chosen), chosen)
        ]
        cut = find_cut(model, what, batches[:-1], batches[-1])
    except NoCutError as reason:
        return Frozen(model, modules), (f"the frozen part is computed anew in every epoch: {reason}",)
    return Frozen(model, modules, cut), (
        "the frozen part runs without dropout; it is computed once for each row and kept",
    )


def start_training_mode(prepared: Prepared) -> None:
    """Put the model into training mode, its frozen modules into evaluation mode."""
    if prepared.frozen.model.training:
        return
    prepared.model.train()
    for module in prepared.frozen.modules:
        module.eval()


def record(prepared: Prepared, session: Session, name: str) -> float:
    """Run a split once through the frozen part, unless that is done; return the seconds that it took.

    Each process of a machine computes its share of the batches. Interrupts are checked between batches.
    """
    frozen = prepared.frozen
    if frozen.cut is None or name in frozen.records:
        return 0.0
    began = time.perf_counter()
    frozen.records[name] = _record(prepared, session, name, frozen.cut)
    return time.perf_counter() - began


def load_batch(prepared: Prepared, name: str, split: Any, rows: Any, step: int | None = None) -> dict[str, Any]:
    """Return the tensors of some rows of a split on the device, with `states` where the frozen part is left out.

    `step` is that of the training, where they are for one.
    """
    frozen, device = prepared.frozen, prepared.accelerator.device
    known = frozen.records.get(name)
    if known is not None and known.tokens is not None:
        return {name: tensor.to(device) for name, tensor in _short_batch(known, known.tokens, rows).items()}
    features = split[rows]
    if step is not None and prepared.task.redraw is not None:
        features["draw"] = [(prepared.recipe.training.seed, step, int(row)) for row in rows]
    batch = make_batch(features, prepared.task, prepared.context, device)
    if frozen.cut is None:
        return batch
    if known is not None:
        return {**batch, "states": _padded(known, batch["attention_mask"], rows)}
    whole = replace(frozen.cut, reads="tokens") if frozen.cut.reads == "places" else frozen.cut
    return {**batch, "states": read_states(whole, model_inputs(batch)).values}


def outputs_of(prepared: Prepared, batch: Mapping[str, Any]) -> Any:
    """Return the model's outputs for a batch of `load_batch`, from its states where it has some."""
    inputs = model_inputs(batch)
    if prepared.frozen.cut is None:
        return prepared.model(**inputs)
    with replayed(prepared.frozen.cut, batch["states"]):
        return prepared.model(**inputs)


def recorded_outputs(prepared: Prepared, name: str, rows: Any) -> tuple[Any, dict[str, Any]]:
    """Return the model's outputs for some rows of a recorded split, and their batch."""
    import torch

    columns = batch_columns(prepared.encoded.splits[name], prepared.task)
    batch = load_batch(prepared, name, columns, rows)
    with torch.no_grad(), prepared.accelerator.autocast():
        return outputs_of(prepared, batch), batch


def _record(prepared: Prepared, session: Session, name: str, cut: Cut) -> Record | None:
    import numpy

    split, accelerator = batch_columns(prepared.encoded.splits[name], prepared.task), prepared.accelerator
    lengths = as_array(table_of(prepared.encoded.splits[name]).column("length"), numpy.int64)
    batches = list(evaluation_batches(lengths, prepared.recipe.training.per_device_eval_batch_size))
    place, processes = accelerator.local_process_index, ranks.local_size()
    rounds = ranks.largest(-(-len(batches) // processes))
    known: Record | None = None
    with show_progress(f"{name} through the frozen part", len(batches)) as advance:
        # Every process takes part in every round, whether or not it has a batch left, so that they stay in step.
        for first in range(0, rounds * processes, processes):
            session.check()
            rows = batches[min(first + place, len(batches) - 1)]
            if first == 0 or known is not None:
                batch = make_batch(split[rows], prepared.task, prepared.context, accelerator.device)
                states = _states_or_none(cut, batch)
                if first == 0:
                    known = _allocate(prepared, session.directory, name, states, lengths)
                if known is not None and states is not None:
                    _write(known, states, batch["attention_mask"], rows)
                else:
                    known = None
            advance(min(first + processes, len(batches)), "")
    return None if ranks.largest(known is None) else known


def _states_or_none(cut: Cut, batch: Mapping[str, Any]) -> States | None:
    try:
        return read_states(cut, model_inputs(batch))
    except NoCutError as problem:
        say(f"note: the frozen part is computed anew in every epoch: {problem}")
        return None


def _allocate(
    prepared: Prepared, directory: Path, name: str, states: States | None, lengths: numpy.ndarray
) -> Record | None:
    """Return an empty record in a file that all processes of this machine map, None when there is no room for it."""
    import numpy
    import torch

    accelerator, processes = prepared.accelerator, ranks.local_size()
    path = directory / f"features-{name}-{accelerator.process_index // processes}"
    rows = len(lengths)
    if states is None:
        size = 0
    else:
        values = states.values
        one_a_row = states.tokens is not None
        count, width = rows if one_a_row else int(lengths.sum()), values.shape[-1]
        head = -(-rows * _TOKEN_BYTES // 64) * 64 if one_a_row else 0  # values begin where a cache line does
        size = head + count * width * values.element_size()
        if accelerator.is_local_main_process:
            _make_file(path, size, name, rows)
    accelerator.wait_for_everyone()
    mapped = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8) if size and path.exists() else None
    accelerator.wait_for_everyone()
    # Windows cannot remove the name of a file that is mapped; there it goes with the run directory.
    if accelerator.is_local_main_process and os.name != "nt":
        path.unlink(missing_ok=True)
    if mapped is None or states is None:
        return None
    return Record(
        values=mapped[head:].view(values.dtype).view(count, width),
        tokens=mapped[: rows * _TOKEN_BYTES].view(torch.int32) if one_a_row else None,
        starts=None if one_a_row else lengths.cumsum(dtype=numpy.int64) - lengths,
        labels=prepared.encoded.splits[name].select_columns(["labels"]),
    )


def _make_file(path: Path, size: int, name: str, rows: int) -> None:
    """Reserve the space of a record, or say why there is none; a hole would kill the process when the disk is full."""
    words = f"the frozen part's output for {plural(rows, 'row')} of {name}: {size / 1e6:,.1f} MB"
    free = shutil.disk_usage(path.parent).free
    path.unlink(missing_ok=True)
    if not _fits(size, free):
        say(f"note: {words} are not kept, as {free / 1e6:,.1f} MB are free; it is computed anew in every epoch")
        return
    try:
        with path.open("wb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
    except OSError as problem:
        path.unlink(missing_ok=True)
        say(f"note: {words} cannot be kept ({problem.strerror or problem}); it is computed anew in every epoch")
        return
    say(f"{words} are kept until the run ends")


def _fits(size: int, free: int) -> bool:
    """Tell whether a record may take so many of the bytes that are free."""
    return size <= free * _SHARE_OF_FREE_SPACE


def _write(known: Record, states: States, attention_mask: Any, rows: numpy.ndarray) -> None:
    import torch

    if known.tokens is not None and states.tokens is not None:
        places = torch.from_numpy(rows)
        known.values[places] = states.values.cpu()
        known.tokens[places] = states.tokens.to("cpu", torch.int32)
        return
    real = attention_mask.bool()
    known.values[_token_places(known, attention_mask, rows)] = states.values[real].cpu()


def _token_places(known: Record, attention_mask: Any, rows: numpy.ndarray) -> torch.Tensor:
    """Return where the tokens of some rows lie in a record, row after row."""
    import numpy
    import torch

    lengths = attention_mask.sum(1).cpu().numpy()
    assert known.starts is not None
    starts = known.starts[rows]
    return torch.from_numpy(
        numpy.concatenate([numpy.arange(n) + start for n, start in zip(lengths, starts, strict=True)])
    )


def _short_batch(known: Record, tokens: torch.Tensor, rows: numpy.ndarray) -> dict[str, Any]:
    """Return the batch of rows of which one vector each is read: a vector, a token and a label."""
    import numpy
    import torch

    places = torch.from_numpy(rows)
    states = States(known.values[places], tokens[places])
    labels = torch.tensor(numpy.asarray(known.labels[rows]["labels"]))
    return {**inputs_from(states, {}), "states": states.values, "labels": labels}


def _padded(known: Record, attention_mask: Any, rows: numpy.ndarray) -> torch.Tensor:
    """Return the states of rows as their padded batch has them: rows × tokens × width, zeros where there is padding."""
    flat = known.values[_token_places(known, attention_mask, rows)].to(attention_mask.device)
    values = flat.new_zeros((*attention_mask.shape, flat.shape[-1]))
    values[attention_mask.bool()] = flat
    return values
