"""A task that points at its answers, asked in words: a model writes them, on the forward path that evaluations take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from finetune.models.generation import generate_texts, generation_config
from finetune.tasks import Context, Task
from finetune.zero_shot.choosing import no_loss

if TYPE_CHECKING:
    from finetune.models.build import Checkpoint

_MOST_TOKENS = 30


def writing(task: Task) -> Task:
    """Return a task whose features are prompts, put in the place of its first input, and whose answers are texts."""
    assert task.from_text is not None
    role, read = task.inputs[0].role, task.from_text

    def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
        encoded = context.tokenizer(rows[role])
        return {name: encoded[name] for name in ("input_ids", "attention_mask")}

    def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return {"prediction": [read(text) for text in outputs.texts]}

    return replace(
        task, encode=encode, pads={}, ask=_ask, loss=no_loss, loss_weight=no_loss, reduce=reduce, answer=None
    )


def _ask(model: Any, batch: Mapping[str, Any], context: Context) -> Any:
    return SimpleNamespace(texts=generate_texts(model, batch, context))


def most_tokens(context: Context) -> int:
    """Return how many tokens an answer may have: preprocessing.max_answer_length, else 30."""
    return int(context.settings.get("max_answer_length") or _MOST_TOKENS)


def writing_config(checkpoint: Checkpoint, context: Context) -> Any:
    """Return how answers are written (a GenerationConfig): the likeliest token each time, and no longer than one is."""
    plain = {"do_sample": False, "num_beams": 1, "min_length": 0, "max_new_tokens": most_tokens(context)}
    return generation_config(
        checkpoint.source, checkpoint.revision, checkpoint.config, checkpoint.tokenizer, plain, derived={}
    )
