"""Memory and disk: what a run will need, and one clear error when there is not enough."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.text import first_line, plural

if TYPE_CHECKING:
    from finetune.recipe.schema import Training

_SIGNS = ("out of memory", "can't allocate memory", "defaultcpuallocator", "cannot allocate memory")
# safetensors quotes the system's error; torch only finds its archive shorter than it wrote ("unexpected pos").
_FULL_DISK_SIGNS = ("No space left on device", "os error 28", "Disk quota exceeded", "unexpected pos")
_ADAM_STATES = 2
BYTES = 4  # weights, gradients and optimizer states are held in float32


def explain_shortage(error: BaseException, training: Training, phase: str) -> BaseException:
    """Return a FinetuneError when the memory or the disk was too small in a phase, any other error as it is."""
    if is_disk_full(error):
        return FinetuneError(
            f"the disk is full: {disk_full_words(error)}",
            "Free some space (finetune clean removes old checkpoints), then continue with --resume.",
        )
    is_short = isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(sign in str(error).lower() for sign in _SIGNS)
    )
    if not is_short:
        return error
    batch, accumulation = training.per_device_train_batch_size, training.gradient_accumulation_steps
    reason = first_line(error)
    if phase in ("baseline", "evaluate", "audit", "other"):
        batch = training.per_device_eval_batch_size
        hint = f"Same result with less memory: training.per_device_eval_batch_size={max(1, batch // 2)}"
    elif batch == 1:
        hint = "Try training.gradient_checkpointing=true, or a smaller preprocessing.max_length."
    else:
        half, double = batch // 2, accumulation * 2
        same = "Same result" if 2 * half == batch else "Nearly the same"
        hint = (
            f"{same} with less memory: training.per_device_train_batch_size={half} "
            f"training.gradient_accumulation_steps={double}"
        )
    return FinetuneError(f"out of memory ({phase}) with batches of {plural(batch, 'row')}: {reason}", hint)


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error means that the disk is full; safetensors and torch wrap it in classes of their own."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return isinstance(error, Exception) and any(sign in str(error) for sign in _FULL_DISK_SIGNS)


def disk_full_words(error: BaseException) -> str:
    """Return a full disk's error in words; torch tells only that its file is shorter than what it wrote."""
    return "No space left on device" if "unexpected pos" in str(error) else str(error)


def memory_estimate(model: Any, optim: str, batch_size: int, length: int, mixed_precision: str) -> dict[str, int]:
    """Return bytes needed for training, by use.

    Weights, gradients and optimizer states are counted exactly; activations are an estimate.
    """
    parameters = list(model.parameters())
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    config = model.config
    layers = config.num_hidden_layers + (getattr(config, "decoder_layers", 0) if config.is_encoder_decoder else 0)
    each_layer = activation_bytes(batch_size, length, config.hidden_size, config.num_attention_heads, mixed_precision)
    return {
        "weights_bytes": sum(parameter.numel() * parameter.element_size() for parameter in parameters),
        "gradients_bytes": trained * BYTES,
        "optimizer_bytes": optimizer_bytes(trained, optim),
        "activations_estimate_bytes": each_layer * layers,
    }


def activation_bytes(rows: int, length: int, width: int, heads: int, mixed_precision: str) -> int:
    """Return the bytes that a layer keeps for the backward pass.

    The estimate of Korthikanti et al. 2022 (arXiv:2205.05198, eq. 2): rows × length × width × (34 + 5 × heads × length
    / width) in 16 bits, twice that in 32; an upper bound where attention never stores its matrix.
    """
    return int(rows * length * width * (34 + 5 * heads * length / width)) * (2 if mixed_precision == "no" else 1)


def optimizer_bytes(trained: int, optim: str) -> int:
    """Return the bytes of the optimizer's states: two a trained parameter with Adam, next to none with the others."""
    return trained * {"sgd": 0, "adafactor": 0}.get(optim, _ADAM_STATES) * BYTES


def peak_memory() -> dict[str, int | None]:
    """Return the most memory that this process has had so far, and the most of its GPU, in bytes; None: not known."""
    import sys

    import torch

    try:
        import resource
    except ImportError:  # Windows
        ram = None
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        ram = peak if sys.platform == "darwin" else peak * 1024
    gpu = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else None
    return {"peak_ram_bytes": ram, "peak_gpu_bytes": gpu}
