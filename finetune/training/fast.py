"""What makes a step fast on a processor, switched on where it changes nothing but the time.

Each part is plain mathematics done another way; models/fast holds them, benchmarks/README.md says what they bring.
"""

from __future__ import annotations

import ctypes
import platform
from typing import TYPE_CHECKING, Any

from finetune.data.batching import make_batch, model_inputs
from finetune.models.fast.attention import use_fast_attention
from finetune.models.fast.dropout import masks_from, replace_dropout
from finetune.models.fast.first_token import keep_first_token
from finetune.models.fast.vocabulary import narrow_vocabulary
from finetune.training.gradients import Threads, start_threads

if TYPE_CHECKING:
    from accelerate import Accelerator

    from finetune.recipe.schema import Recipe
    from finetune.tasks import Context, Task

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # malloc.h
_LARGEST = 2**31 - 1
# Without a gradient these two leave a row alone but for its decay; adafactor looks at the whole table.
_DECAY_ONLY = ("adamw_torch", "adamw_torch_fused", "sgd")


def keep_freed_memory() -> None:
    """Let the C library keep the memory of freed tensors, which every step would else map and clear anew (glibc)."""
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(_M_TRIM_THRESHOLD, _LARGEST)
        library.mallopt(_M_ARENA_MAX, 1)  # the arenas of threads give their memory back whatever the thresholds say


def speed_up_model(model: Any, recipe: Recipe, train: Any | None) -> None:
    """Give a model on the processor faster parts of the same mathematics; before the optimizer sees its parameters.

    `train` are all training rows, None where they are not known beforehand.
    With gradient checkpointing torch draws dropout masks a second time from its own generator, and torch.compile sees
    through its own modules only: there the plain ones stay.
    """
    keep_freed_memory()
    if train is not None and recipe.training.optim in _DECAY_ONLY:
        narrow_vocabulary(model, _used_ids(train, model.get_input_embeddings().num_embeddings))
    if recipe.training.gradient_checkpointing or recipe.training.torch_compile:
        return
    replace_dropout(model)
    if recipe.model.attn_implementation is None:
        use_fast_attention(model)
        keep_first_token(model)


def open_threads(
    model: Any, accelerator: Accelerator, recipe: Recipe, task: Task, context: Context, train: Any
) -> Threads | None:
    """Return the threads that share out a step; None where Accelerate's own way is right.

    That is on a GPU, with several processes, and for models that draw dropout masks from torch's global generator,
    whose order threads would mix up.
    """
    plain = recipe.training.gradient_checkpointing or recipe.training.torch_compile
    if accelerator.device.type != "cpu" or accelerator.num_processes > 1 or plain:
        return None
    if _draws_global_masks(model, model_inputs(make_batch(train[:2], task, context, accelerator.device))):
        return None
    return start_threads(model, recipe.training.per_device_train_batch_size, accelerator.mixed_precision)


def _used_ids(train: Any, vocabulary: int) -> Any:
    """Return the token ids that occur in the training rows, ascending."""
    import numpy
    import torch

    seen = numpy.zeros(vocabulary, dtype=bool)
    for name in ("input_ids", "decoder_input_ids"):
        for chunk in train.data.column(name).chunks if name in train.column_names else ():
            seen[chunk.flatten().to_numpy(zero_copy_only=False)] = True
    return torch.from_numpy(numpy.flatnonzero(seen))


def _draws_global_masks(model: Any, rows: dict[str, Any]) -> bool:
    import torch

    before, training = torch.get_rng_state(), model.training
    model.train()
    with torch.no_grad(), masks_from(torch.Generator()):
        model(**rows)
    model.train(training)
    drawn = not torch.equal(before, torch.get_rng_state())
    torch.set_rng_state(before)
    return drawn
