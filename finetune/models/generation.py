"""Text from a model: how it is generated, and the one path on which it is (beam search or sampling, batched)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.models.architecture import ENCODER_DECODER, max_positions

if TYPE_CHECKING:
    import torch

    from finetune.tasks import Context

# Without a length of its own a checkpoint would stop after 20 tokens, in the middle of a sentence.
DEFAULT_NEW_TOKENS = 128
# The settings that do something only where texts are drawn at random, or where several are followed at once.
OF_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
OF_BEAMS = ("early_stopping", "length_penalty")
_SAMPLING = Lock()


def generation_config(
    source: str,
    revision: str | None,
    config: Any,
    tokenizer: Any,
    wanted: Mapping[str, Any],
    derived: Mapping[str, Any],
) -> Any:
    """Return the GenerationConfig of a run: the checkpoint's own, what the task derives, and what the recipe wants.

    It ends at an end of text and has a length: the recipe's, the checkpoint's own, else 128 tokens, or what the model
    has positions for. It is saved with the model, which so generates alike elsewhere.
    Raises FinetuneError where the settings contradict each other, before any weights are loaded.
    """
    chosen = _own_config(source, revision, config)
    for name, value in {**derived, **wanted}.items():
        setattr(chosen, name, value)
    if "max_new_tokens" in wanted:
        chosen.max_length = None
    if "max_length" in wanted:
        chosen.max_new_tokens = None
    _forget_unused(chosen, wanted)
    chosen.use_cache = True
    chosen.pad_token_id = tokenizer.pad_token_id
    if chosen.eos_token_id is None:
        chosen.eos_token_id = tokenizer.eos_token_id
    _fit_length(chosen, max_positions(config.to_dict()), wanted)
    _fit_vocabulary(wanted, len(tokenizer))
    try:
        chosen.validate(strict=True)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise FinetuneError(f"generation: {reason}", "Leave one of the two out, or change it.") from error
    return chosen


def _own_config(source: str, revision: str | None, config: Any) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(source, revision=revision or "main")
    except OSError:  # most checkpoints that were never meant to generate have none
        return GenerationConfig.from_model_config(config)


def without_effect(name: str) -> str:
    """Return why a setting of sampling or of beams does nothing."""
    needed = "do_sample: true" if name in OF_SAMPLING else "num_beams: 2 or more"
    return f"has no effect without generation.{needed}; add that, or leave it out"


def _forget_unused(chosen: Any, wanted: Mapping[str, Any]) -> None:
    """Drop the checkpoint's settings of sampling or beams where neither is done; those of the recipe are faults."""
    unused = (() if chosen.do_sample else OF_SAMPLING) + (() if (chosen.num_beams or 1) > 1 else OF_BEAMS)
    if idle := [name for name in unused if name in wanted]:
        raise FinetuneError(f"generation.{idle[0]}: {without_effect(idle[0])}", "Or leave out the section generation.")
    for name in unused:
        setattr(chosen, name, None)


def _fit_vocabulary(wanted: Mapping[str, Any], size: int) -> None:
    """Raise FinetuneError for the id of a token that the tokenizer does not have."""
    for name, value in wanted.items():
        ids = _numbers(value) if name.endswith(("_token_id", "_ids", "_tokens")) and "new" not in name else []
        if far := [number for number in ids if number >= size]:
            raise FinetuneError(
                f"generation.{name}: there is no token {far[0]}, as the vocabulary has {size:,}",
                f"Token ids go from 0 to {size - 1}.",
            )


def _numbers(value: Any) -> list[int]:
    return [number for part in value for number in _numbers(part)] if isinstance(value, list) else [value]


def _fit_length(chosen: Any, positions: int | None, wanted: Mapping[str, Any]) -> None:
    most = None if positions is None else positions - 1  # one is that of the start
    if wanted.get("max_length") == 1:
        raise FinetuneError(
            "generation.max_length: 1 is the token that a text starts with, which leaves none to write",
            "Set it to 2 or more, or set generation.max_new_tokens instead.",
        )
    for name in ("max_new_tokens", "max_length"):
        if most is not None and wanted.get(name, 0) > most:
            raise FinetuneError(
                f"generation.{name}: {wanted[name]}, where the model can take {most}",
                f"Set generation.{name} to {most} or less.",
            )
    if chosen.max_new_tokens is None and chosen.max_length is None:
        chosen.max_new_tokens = min(DEFAULT_NEW_TOKENS, most or DEFAULT_NEW_TOKENS)


def generate_texts(model: Any, batch: Mapping[str, Any], context: Context) -> list[str]:
    """Return what a model writes for each row of a batch (input_ids, attention_mask), without special tokens.

    How it is written stands in the model's own generation_config. Prompts of decoder-only models may be padded on
    either side; the text is what comes after them. Samples are drawn with a seed that the batch itself gives, so that
    the same batch gives the same texts in any thread.
    """
    bare = bare_model(model)
    ids, mask = batch["input_ids"], batch["attention_mask"]
    before = 0
    if context.kind != ENCODER_DECODER:
        ids, mask = padded_left(ids, mask)
        before = ids.shape[1]
    with _seeded(ids, bool(bare.generation_config.do_sample)):
        written = bare.generate(input_ids=ids, attention_mask=mask, synced_gpus=_is_sharded(bare))
    texts: list[str] = context.tokenizer.batch_decode(written[:, before:], skip_special_tokens=True)
    return texts


def padded_left(ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch with its padding moved to the left, where generation goes on at the end of every row."""
    import torch

    order = torch.argsort(mask, dim=1, stable=True)
    return ids.gather(1, order), mask.gather(1, order)


def bare_model(model: Any) -> Any:
    """Return a model without what spreads it over processes."""
    from accelerate.utils import extract_model_from_parallel

    return extract_model_from_parallel(model, keep_fp32_wrapper=True)


def _is_sharded(model: Any) -> bool:
    """Tell whether ranks hold parts of the weights, so that all of them must take as many steps."""
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


@contextmanager
def _seeded(ids: torch.Tensor, samples: bool) -> Iterator[None]:
    """Draw from a generator of the batch's own; one thread at a time, since torch has one for the whole process."""
    import torch

    if not samples:
        yield
        return
    devices = [ids.device] if ids.device.type == "cuda" else []
    with _SAMPLING, torch.random.fork_rng(devices=devices):
        torch.manual_seed(zlib.crc32(ids.cpu().numpy().tobytes()))
        yield
