"""bfloat16 copies of the weights that autocast would cast again and again.

Autocast casts each weight of a matrix product in every forward pass of every micro-batch, and its gradient back. With
copies in their place the weights are cast once a step, and gradients stay bfloat16 until they are summed in float32:
the same roundings in the same places.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Shadow:
    """One parameter of a module, and its bfloat16 copy."""

    module: nn.Module
    name: str
    parameter: nn.Parameter
    copy: Tensor


def cast_shadows(model: nn.Module) -> list[Shadow]:
    """Return copies of the weights and biases of a model's linear layers; those that several modules share stay out."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    holders = Counter(id(parameter) for module in model.modules() for parameter in module.parameters(recurse=False))
    return [
        Shadow(module, name, parameter, parameter.detach().bfloat16().requires_grad_(parameter.requires_grad))
        for module in model.modules()
        if type(module) in (nn.Linear, Conv1D)
        for name, parameter in module.named_parameters(recurse=False)
        if holders[id(parameter)] == 1
    ]


@contextmanager
def shadows_in_place(shadows: list[Shadow]) -> Iterator[None]:
    """Bring the copies of the trained weights up to date, and let the model compute with all copies inside."""
    trained = [shadow for shadow in shadows if shadow.parameter.requires_grad]
    if trained:
        with torch.no_grad():
            torch._foreach_copy_([shadow.copy for shadow in trained], [shadow.parameter for shadow in trained])
    for shadow in shadows:
        shadow.module._parameters[shadow.name] = shadow.copy  # type: ignore[assignment]
    try:
        yield
    finally:
        for shadow in shadows:
            shadow.module._parameters[shadow.name] = shadow.parameter
