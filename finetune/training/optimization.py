"""The optimizer and its learning-rate schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from finetune.recipe.schema import Training


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: matrices decay, biases and norm scales (vectors) do not."""
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the trainable parameters."""
    import torch

    groups = parameter_groups(model, training.weight_decay)
    if training.optim == "sgd":
        return torch.optim.SGD(groups, lr=training.learning_rate)
    if training.optim == "adafactor":
        return torch.optim.Adafactor(groups, lr=training.learning_rate)
    return torch.optim.AdamW(groups, lr=training.learning_rate, fused=training.optim == "adamw_torch_fused")


def build_schedule(optimizer: torch.optim.Optimizer, training: Training, total_steps: int) -> Any:
    """Return the learning-rate schedule, counted in optimizer steps (not micro-batches, not ranks)."""
    from transformers import get_scheduler

    return get_scheduler(
        training.lr_scheduler_type,
        optimizer=optimizer,
        num_warmup_steps=warmup_steps(training.warmup_steps, total_steps),
        num_training_steps=total_steps,
    )


def warmup_steps(wanted: float, total_steps: int) -> int:
    """Return the number of warm-up steps: the number given, or below 1 that share of all steps (rounded up)."""
    import math

    return math.ceil(total_steps * wanted) if wanted < 1 else int(wanted)
