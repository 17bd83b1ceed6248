"""Attention with dropout for short texts on a processor.

torch's fused kernel on processors has no dropout; with one it falls back to about twenty small operations with several
casts and copies. Here they are six, in float32, which is as fast as bfloat16 for texts of up to about 64 tokens, since
the products are tiny.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from finetune.models.fast.dropout import keep_mask

if TYPE_CHECKING:
    from torch import Tensor

NAME = "finetune_short"
_LONGEST_IN_FLOAT32 = 64
_NOT_HERE = ("position_bias", "cache", "softcap")
_VECTOR = 16  # torch takes the softmax of narrower rows element by element, at a tenth of the speed


def use_fast_attention(model: Any) -> None:
    """Let a model that computes attention through transformers' interface by sdpa do it here."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    if getattr(model.config, "_attn_implementation", None) != "sdpa":
        return
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Return softmax(query·key·scaling + mask), dropped, times value: (rows, tokens, heads, width of a head).

    The signature of transformers' attention functions; query, key and value are (rows, heads, tokens, width).
    """
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    rate = options.get("dropout", 0.0)
    if rate == 0 or any(options.get(name) is not None for name in _NOT_HERE):
        output: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return output
    groups = getattr(module, "num_key_value_groups", 1)
    if groups > 1:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    if attention_mask is None and causal and query.shape[2] > 1:
        square = query.shape[2], key.shape[2]
        attention_mask = torch.ones(square, dtype=torch.bool).tril()
    scaling = options.get("scaling") or query.shape[-1] ** -0.5
    attended: Tensor = _Attend.apply(query, key, value, attention_mask, rate, scaling)  # type: ignore[no-untyped-call]
    return attended, None


class _Attend(torch.autograd.Function):
    """Letters as usual: S scores, P their softmax, K the kept part, O the output, d… the gradient of each."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rate: float, scaling: float
    ) -> Tensor:
        short = max(query.shape[2], key.shape[2]) <= _LONGEST_IN_FLOAT32
        kind = torch.float32 if short else query.dtype
        with torch.autocast("cpu", enabled=False):
            q, k, v = _flat(query, kind), _wide(key, kind), _wide(value, kind)
            scores = torch.bmm(q, k.transpose(1, 2)).mul_(scaling)
            probabilities = _softmax(scores, mask, key.shape)
            kept = keep_mask(probabilities.shape, rate).to(kind).mul_(1 / (1 - rate))
            output = torch.bmm(probabilities.to(kind) * kept, v)
        ctx.save_for_backward(q, k, v, probabilities, kept)
        ctx.scaling, ctx.shape, ctx.key_shape, ctx.kind = scaling, query.shape, key.shape, query.dtype
        return (
            output.view(query.shape).transpose(1, 2).to(query.dtype, memory_format=torch.contiguous_format).contiguous()
        )

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        q, k, v, probabilities, kept = ctx.saved_tensors
        d_output = _flat(gradient.transpose(1, 2), q.dtype)
        d_value = torch.bmm((probabilities.to(q.dtype) * kept).transpose(1, 2), d_output)
        d_probabilities = torch.bmm(d_output, v.transpose(1, 2)).mul_(kept).to(probabilities.dtype)
        d_scores = torch._softmax_backward_data(d_probabilities, probabilities, -1, probabilities.dtype)
        d_scores = d_scores.mul_(ctx.scaling).to(q.dtype)
        d_query, d_key = torch.bmm(d_scores, k), torch.bmm(d_scores.transpose(1, 2), q)
        queries = d_query.view(ctx.shape).to(ctx.kind)
        rows, heads, tokens, width = ctx.key_shape
        keys, values = (part.view(rows, heads, -1, width)[:, :, :tokens].to(ctx.kind) for part in (d_key, d_value))
        return queries, keys, values, None, None, None


def _flat(heads: Tensor, kind: torch.dtype) -> Tensor:
    """Return (rows, heads, tokens, width) as a contiguous (rows·heads, tokens, width), cast and copied in one go."""
    return heads.to(kind, memory_format=torch.contiguous_format).contiguous().view(-1, *heads.shape[2:])


def _wide(heads: Tensor, kind: torch.dtype) -> Tensor:
    """Return what `_flat` does, with zeros behind the last token up to a multiple of the vector width."""
    rows, count, tokens, width = heads.shape
    wide = torch.zeros(rows, count, -(-tokens // _VECTOR) * _VECTOR, width, dtype=kind)
    wide[:, :, :tokens] = heads
    return wide.view(-1, *wide.shape[2:])


def _softmax(scores: Tensor, mask: Tensor | None, key_shape: torch.Size) -> Tensor:
    """Return the softmax of the scores over the keys in float32; the keys that only fill up the width get nothing."""
    rows, heads, tokens, _ = key_shape
    scores = scores.float().view(rows, heads, *scores.shape[1:])
    if mask is not None:
        part = scores[..., :tokens]
        part.masked_fill_(~mask, torch.finfo(scores.dtype).min) if mask.dtype == torch.bool else part.add_(mask)
    scores[..., tokens:] = -torch.inf
    return torch.softmax(scores, -1).flatten(0, 1)
