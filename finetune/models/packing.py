"""Whether a model keeps texts that share a row apart: tried with a few, not told by its name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from finetune.data.batching import batch_columns, make_batch, model_inputs
from finetune.data.packing import unpacked
from finetune.errors import FinetuneError
from finetune.text import first_line

if TYPE_CHECKING:
    from finetune.tasks import Context, Task

_TRIED = 3
_LAST = 20
_TOLERANCE = 1e-3  # of the largest logit; rounding makes a hundredth of that, a neighbour's influence far more


def packing_context(model: Any, split: Any, task: Task, context: Context) -> Context:
    """Return the context in which packed rows say what their texts say alone, tried with one row of a packed split.

    RoBERTa's kin count positions from their padding token on, all others from 0.
    Raises FinetuneError for a model whose attention would mix the texts.
    """
    import torch

    row = _tried(batch_columns(split, task))
    packed = {name: [values] for name, values in row.items()}
    training = model.training
    model.eval()
    reason = "what it says of a text changes with the texts beside it"
    try:
        with torch.no_grad():
            apart = [
                _logits(model, {name: [value] for name, value in zip(features, values, strict=True)}, task, context)
                for features in [unpacked(row)]
                for values in zip(*features.values(), strict=True)
            ]
            expected = torch.cat(apart)
            for first in (0, (context.tokenizer.pad_token_id or 0) + 1):
                tried = replace(context, first_position=first)
                found = _logits(model, packed, task, tried)
                if (found - expected).abs().max() <= _TOLERANCE * expected.abs().max():
                    return tried
    except (RuntimeError, ValueError, TypeError, IndexError) as problem:  # each family has its own way to refuse a mask
        reason = first_line(problem)
    finally:
        model.train(training)
    raise FinetuneError(
        f"preprocessing.packing: {model.config.model_type} cannot keep texts apart that share a row ({reason})",
        "Leave it out; rows of similar length share a batch anyway (training.train_sampling_strategy).",
    )


def _tried(rows: Any) -> dict[str, list[int]]:
    """Return the first texts of the row with the most of them among the last rows, which hold the shortest ones."""
    last = rows[max(0, len(rows) - _LAST) :]
    most = max(range(len(last["position_ids"])), key=lambda place: last["position_ids"][place].count(0))
    starts = [place for place, position in enumerate(last["position_ids"][most]) if position == 0]
    end = starts[_TRIED] if len(starts) > _TRIED else None
    return {name: values[most][:end] for name, values in last.items()}


def _logits(model: Any, features: dict[str, list[Any]], task: Task, context: Context) -> Any:
    """Return the logits of a row, token by token."""
    import torch

    context = replace(context, predicting=True)  # with every token as it is
    return model(**model_inputs(make_batch(features, task, context, torch.device("cpu")))).logits[0].float()
