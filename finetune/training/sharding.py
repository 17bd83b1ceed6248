"""FSDP2: weights, gradients and optimizer state cut up over the ranks, and put together to be written or read.

A checkpoint of a sharded run has the same files as any other. To write one, rank 0 gets the whole model beside its own
part of it; to read one, every rank reads the whole and keeps its part.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.errors import FinetuneError
from finetune.models.adapters import has_adapters
from finetune.recipe.schema import Training
from finetune.training.checkpoints import Trainable
from finetune.training.hardware import wrap_model
from finetune.training.optimization import build_optimizer

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass
class _Held:
    """The whole state of an optimizer, in the place of the optimizer."""

    state: dict[str, Any] = field(default_factory=dict)

    def state_dict(self) -> dict[str, Any]:
        return self.state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.state = state


def distribute(accelerator: Accelerator, model: Any, training: Training) -> tuple[Any, Any, Any]:
    """Return model and optimizer as Accelerate wraps them, and the frame of a model that is cut up (else None).

    Raises FinetuneError for what cannot be cut up: adapters, whose frozen rest no checkpoint holds, and layers that
    learn only later.
    """
    if not accelerator.is_fsdp2:
        model = wrap_model(accelerator, model)
        optimizer = build_optimizer(accelerator.unwrap_model(model), training)
        return model, accelerator.prepare_optimizer(optimizer), None
    for key, asked in (
        ("peft", has_adapters(model)),
        ("training.gradual_unfreezing", training.gradual_unfreezing is not None),
    ):
        if asked:
            raise FinetuneError(
                f"{key}: not available with FSDP", f"Start it without FSDP (--num-processes), or leave out {key}."
            )
    _require_untied(model)
    frame = _without_numbers(model)
    model, optimizer = accelerator.prepare(model, build_optimizer(model, training))
    return model, optimizer, frame


def trained_parameters(model: Any, optimizer: Any, frame: Any) -> list[Any]:
    """Return the parameters that the optimizer changes, in the order of the model."""
    optimized = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    if frame is not None:  # an evaluation leaves layers put together, under other parameters than the optimizer's
        return optimized
    wanted = {id(parameter) for parameter in optimized}
    return [parameter for parameter in model.parameters() if id(parameter) in wanted]


def _require_untied(model: Any) -> None:
    """Refuse what torch refuses at its first forward pass: one weight in several modules, such as T5's embedding."""
    holders = Counter(id(weight) for module in model.modules() for weight in module.parameters(recurse=False))
    if max(holders.values(), default=1) > 1:
        raise FinetuneError(
            f"FSDP: {type(model).__name__} has a weight that several of its modules share, which cannot be cut up",
            "Start it without FSDP: finetune run RECIPE --num-processes N keeps the whole model in each process.",
        )


def gathered(objects: Trainable, frame: Any) -> Trainable:
    """Return the objects with the whole model and optimizer state on rank 0; all ranks call it."""
    if frame is None:
        return objects
    whole, state = gathered_model(objects.model, frame), objects.optimizer.state_dict()
    moments = {
        index: {name: _put_together(value) for name, value in of_parameter.items()}
        for index, of_parameter in state["state"].items()
    }
    return Trainable(whole, _Held({**state, "state": moments}), objects.schedule, objects.scaler)


def gathered_model(model: Any, frame: Any) -> Any:
    """Return the whole model on rank 0; all ranks call it."""
    if frame is None:
        return model
    weights = {name: _put_together(tensor) for name, tensor in model.state_dict().items()}
    if not ranks.is_main():
        return None
    whole = copy.deepcopy(frame)
    whole.load_state_dict(weights, assign=True)
    whole.tie_weights()
    return whole


@contextmanager
def to_be_filled(objects: Trainable, frame: Any) -> Iterator[Trainable]:
    """Yield whole objects to read a checkpoint into, and keep each rank's part of them afterwards."""
    if frame is None:
        yield objects
        return
    import torch

    whole, held = copy.deepcopy(frame).to_empty(device="cpu"), _Held()
    whole.tie_weights()
    yield Trainable(whole, held, objects.schedule, objects.scaler)
    filled = whole.state_dict()
    with torch.no_grad():
        for name, part in objects.model.state_dict().items():
            part.copy_(_part_of(filled[name], part))
    if held.state:
        parameters = [tensor for group in objects.optimizer.param_groups for tensor in group["params"]]
        moments = {
            index: {name: _part_of(value, parameters[index]) for name, value in of_parameter.items()}
            for index, of_parameter in held.state["state"].items()
        }
        objects.optimizer.load_state_dict({**held.state, "state": moments})


def _put_together(value: Any) -> Any:
    """Return the whole of a tensor that is cut up, on rank 0; every rank calls it for the same tensors."""
    from torch.distributed.tensor import DTensor

    if isinstance(value, DTensor):
        value = value.full_tensor()
    if not ranks.is_main():
        return None
    return value.cpu() if hasattr(value, "cpu") else value


def _part_of(value: Any, like: Any) -> Any:
    """Return this rank's part of a tensor, cut as `like` is; numbers and tensors of another shape stay whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(like, DTensor) or getattr(value, "shape", None) != like.shape:
        return value
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def _without_numbers(model: Any) -> Any:
    """Return a copy of a model whose parameters and buffers take no memory."""
    import torch

    empty: dict[int, Any] = {}
    for tensor in chain(model.parameters(), model.buffers()):
        place = torch.empty_like(tensor, device="meta")
        is_parameter = isinstance(tensor, torch.nn.Parameter)
        empty[id(tensor)] = torch.nn.Parameter(place, tensor.requires_grad) if is_parameter else place
    return copy.deepcopy(model, empty)
