"""The last layer for the first token alone, where the head reads no other.

BERT and its relatives classify a text by its first token. What the last layer makes of the others is thrown away:
of its products only keys and values need them. The same numbers come out of a sixth of that layer's work.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from finetune.models.fast.attention import attend

if TYPE_CHECKING:
    from torch import Tensor


def keep_first_token(model: Any) -> None:
    """Let the last layer of a model compute its first token only, if its head is known to read that alone."""
    body = model.base_model
    if type(model).__name__ == "DistilBertForSequenceClassification":
        layer = body.transformer.layer[-1]
        layer.forward = partial(_distilbert_layer, layer)
    elif type(model).__name__ in _LIKE_BERT and not model.config.is_decoder:
        layer = body.encoder.layer[-1]
        layer.forward = partial(_bert_layer, layer)


_LIKE_BERT = frozenset(
    f"{family}ForSequenceClassification" for family in ("Bert", "Roberta", "XLMRoberta", "Camembert", "Electra")
)


def _bert_layer(layer: Any, states: Tensor, attention_mask: Tensor | None = None, *_: Any, **_options: Any) -> Tensor:
    """Return the state of the first token (rows, 1, width)."""
    attention, first = layer.attention.self, states[:, :1]
    projections = attention.query(first), attention.key(states), attention.value(states)
    attended = layer.attention.output(_attended(attention, projections, attention_mask), first)
    result: Tensor = layer.feed_forward_chunk(attended)
    return result


def _distilbert_layer(layer: Any, states: Tensor, attention_mask: Tensor | None = None, **_options: Any) -> Tensor:
    """Return the state of the first token (rows, 1, width)."""
    attention, first = layer.attention, states[:, :1]
    projections = attention.q_lin(first), attention.k_lin(states), attention.v_lin(states)
    attended = layer.sa_layer_norm(attention.out_lin(_attended(attention, projections, attention_mask)) + first)
    result: Tensor = layer.output_layer_norm(layer.ffn(attended) + attended)
    return result


def _attended(attention: Any, projections: tuple[Tensor, ...], mask: Tensor | None) -> Tensor:
    query, key, value = (
        part.view(*part.shape[:2], -1, attention.attention_head_size).transpose(1, 2) for part in projections
    )
    rate = attention.dropout.p if attention.training else 0.0
    first = None if mask is None else mask[:, :, :1]
    output, _ = attend(attention, query, key, value, first, dropout=rate, scaling=attention.scaling)
    return output.flatten(2)
