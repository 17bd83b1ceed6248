"""Train only the embedding rows that the training data uses.

A vocabulary has some 30,000 rows and a fine-tuning dataset uses a tenth of them. The gradient of the others is zero in
every step, yet a plain embedding fills, clips and updates them all: a quarter of a step of a small model. Without a
gradient AdamW and SGD do one thing to a row, weight decay, which is the same factor for all. So the rows in use become
the parameter, and one row of ones at its end is decayed along with them: it holds that factor for all the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

_WORTH_IT = 0.8  # of the vocabulary


class UsedRows(nn.Module):
    """In place of nn.Embedding: `weight` holds the rows `used` (ids, ascending) and the row of ones."""

    used: Tensor
    place: Tensor

    def __init__(self, whole: nn.Embedding, used: Tensor) -> None:
        super().__init__()
        self.whole = [whole]  # in a list, so that its weight is no parameter of the model
        ones = whole.weight.new_ones(1, whole.embedding_dim)
        self.weight = nn.Parameter(torch.cat([whole.weight.detach()[used], ones]))
        place = torch.full((whole.num_embeddings,), len(used))
        place[used] = torch.arange(len(used))
        self.register_buffer("used", used, persistent=False)
        self.register_buffer("place", place, persistent=False)
        self.padding_idx = None if whole.padding_idx is None else int(place[whole.padding_idx])

    def forward(self, ids: Tensor) -> Tensor:
        """Return the rows of the ids; in evaluation also of those that training never sees."""
        places = self.place[ids]
        rows = functional.embedding(places, self.weight, self.padding_idx)
        if self.training:
            return rows
        last = len(self.used)
        others = functional.embedding(ids, self.whole[0].weight) * self.weight[last, 0]
        return torch.where((places == last).unsqueeze(-1), others, rows)

    def widened(self) -> nn.Embedding:
        """Return the whole embedding with what was learned."""
        learned = self.weight.detach()
        weight = self.whole[0].weight.detach() * learned[-1, 0]
        weight[self.used] = learned[:-1]
        rows, width = weight.shape
        return nn.Embedding(rows, width, padding_idx=self.whole[0].padding_idx, _weight=weight)


def narrow_vocabulary(model: Any, used: Tensor) -> bool:
    """Replace the input embedding by its rows `used`, where nothing else reads or trains the whole table.

    The padding row is kept with them. Returns whether it was done.
    """
    embedding = model.get_input_embeddings()
    if type(embedding) is not nn.Embedding or not embedding.weight.requires_grad or embedding.max_norm is not None:
        return False
    holders = [module for module in model.modules() if getattr(module, "weight", None) is embedding.weight]
    if len(holders) > 1 or len(used) > _WORTH_IT * embedding.num_embeddings:
        return False
    if embedding.padding_idx is not None:
        used = torch.unique(torch.cat([used, used.new_tensor([embedding.padding_idx])]))
    _swap(model, embedding, UsedRows(embedding, used))
    return True


@contextmanager
def whole_vocabulary(model: Any) -> Iterator[None]:
    """Let a model have its whole embedding inside, with what was learned so far."""
    narrow = next((module for module in model.modules() if isinstance(module, UsedRows)), None)
    if narrow is None:
        yield
        return
    whole = narrow.widened()
    _swap(model, narrow, whole)
    try:
        yield
    finally:
        _swap(model, whole, narrow)


def _swap(model: Any, old: nn.Module, new: nn.Module) -> None:
    new.train(old.training)
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is old:
                setattr(parent, name, new)
