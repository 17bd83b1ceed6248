"""The optimizer and its learning-rate schedule."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from finetune.models.depth import parameters_by_depth

if TYPE_CHECKING:
    import torch

    from finetune.recipe.schema import Training


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups: matrices decay, biases and norm scales (vectors) do not."""
    return _by_decay([parameter for parameter in model.parameters() if parameter.requires_grad], weight_decay)


def layerwise_groups(model: Any, training: Training) -> list[dict[str, Any]]:
    """Return the trainable parameters in two groups for each depth, the head's first.

    At depth d (0: the head, 1: the top layer, …) they learn at learning_rate × layerwise_lr_decay^d; d counts the
    layers of the model, frozen ones too. As in ELECTRA (Clark et al. 2020, arXiv:2003.10555, appendix B).
    """
    decay = training.layerwise_lr_decay or 1.0
    return [
        {**group, "lr": training.learning_rate * decay**depth}
        for depth, parameters in enumerate(parameters_by_depth(model))
        for group in _by_decay(parameters, training.weight_decay)
        if group["params"]
    ]


def _by_decay(parameters: list[Any], weight_decay: float) -> list[dict[str, Any]]:
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def build_optimizer(model: torch.nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the recipe's optimizer over the trainable parameters."""
    import torch

    if training.layerwise_lr_decay is None:
        groups = parameter_groups(model, training.weight_decay)
    else:
        groups = layerwise_groups(model, training)
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
