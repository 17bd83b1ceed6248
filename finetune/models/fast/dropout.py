"""Dropout whose masks are drawn sixteen bits at a time.

torch draws the mask of a bfloat16 tensor element by element: 13 % of a training step on a processor. Here one 64-bit
draw decides over four elements. The rate is exact to 1/65,536, the scale is 1 / (1 - rate).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = 2**16
_BF16_ONE = 0x3F80  # the bit pattern of 1.0 in bfloat16

_thread = threading.local()


@contextmanager
def masks_from(generator: torch.Generator) -> Iterator[None]:
    """Draw this thread's masks from a generator of its own instead of torch's global one."""
    _thread.generator = generator
    try:
        yield
    finally:
        _thread.generator = None


def keep_mask(shape: torch.Size, rate: float) -> Tensor:
    """Return a bfloat16 tensor of 1.0 (keep) and 0.0 (drop), each element dropped with probability `rate`."""
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64)
    bits = words.random_(-(2**63), None, generator=getattr(_thread, "generator", None)).view(torch.int16)[:count]
    # Comparisons are not vectorised for int16; clamping to two neighbours is, and says the same. A draw is kept when it
    # is at least `first`, the lowest of the kept values.
    first = round(rate * _STEPS) - _STEPS // 2
    bits = bits.clamp_(first - 1, first).sub_(first - 1).mul_(_BF16_ONE)
    return bits.view(torch.bfloat16).view(shape)


def drop(values: Tensor, rate: float) -> Tensor:
    """Return `values` with elements dropped at `rate` and the rest scaled up, as torch's dropout in training."""
    if rate >= 1:
        return values * 0.0
    dropped: Tensor = _Drop.apply(values, rate)  # type: ignore[no-untyped-call]
    return dropped


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, rate: float) -> Tensor:
        kept = keep_mask(values.shape, rate)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - rate)
        return _masked(values, kept, ctx.scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        (kept,) = ctx.saved_tensors
        return _masked(gradient, kept, ctx.scale), None


def _masked(values: Tensor, kept: Tensor, scale: float) -> Tensor:
    return (values * kept.to(values.dtype)).mul_(scale)


class FastDropout(nn.Module):
    """In place of nn.Dropout, which has no weights and so leaves no trace in a saved model."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.p = rate

    def forward(self, values: Tensor) -> Tensor:
        """Drop in training, hand through in evaluation."""
        return drop(values, self.p) if self.training and self.p > 0 else values


def replace_dropout(model: nn.Module) -> None:
    """Replace every nn.Dropout of a model."""
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Dropout:
                setattr(parent, name, FastDropout(child.p).train(child.training))
