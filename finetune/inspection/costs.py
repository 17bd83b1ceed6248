"""What fine-tuning a checkpoint takes: memory and operations by arithmetic, joules by past runs. Pure functions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from finetune.emissions.components import JOULES_PER_KWH
from finetune.estimate.assumed import train_operations
from finetune.inspection.anatomy import Settings, Stack
from finetune.inspection.weights import Weights
from finetune.models.architecture import ENCODER_DECODER
from finetune.runs.record import Run, as_number
from finetune.training.memory import BYTES, activation_bytes, optimizer_bytes

ROWS, TOKENS, LORA_RANK = 16, 128, 8
FULL = "all weights"

Section = dict[str, Any]


def memory_of(weights: Weights, stacks: Sequence[Stack]) -> Section:
    """Return bytes to fine-tune in full, with a frozen backbone and with LoRA: float32, AdamW, 16 rows of 128 tokens.

    Weights take 4 bytes a parameter, gradients 4 and Adam's states 8 for each that is trained. Activations are those of
    `training.memory.activation_bytes`; with a frozen backbone only those of one layer live at a time, and a head of two
    labels with one hidden layer is trained. LoRA of rank r trains r × (inputs + outputs) for each linear layer
    (Hu et al. 2021, arXiv:2106.09685, section 4.1). None: a width or a depth is not known.
    """
    if not all(stack.width and stack.heads and stack.layers for stack in stacks):
        return {"full": None, "frozen_backbone": None, "lora": None}
    each = [(stack, activation_bytes(ROWS, TOKENS, stack.width or 0, stack.heads or 0, "no")) for stack in stacks]
    activations = sum(layer * (stack.layers or 0) for stack, layer in each)
    width = max(stack.width or 0 for stack in stacks)
    return {
        "full": _memory(weights, weights.parameters, activations),
        "frozen_backbone": _memory(weights, width * width + 3 * width + 2, max(layer for _, layer in each)),
        "lora": _memory(weights, lora_parameters(weights), activations),
    }


def lora_parameters(weights: Weights, rank: int = LORA_RANK) -> int:
    """Return how many parameters LoRA of a rank adds to every linear layer of the stack."""
    return sum(rank * sum(tensor.shape) for tensor in weights.matrices)


def _memory(weights: Weights, trained: int, activations: int) -> Section:
    parts = {
        "weights_bytes": BYTES * weights.parameters,
        "gradients_bytes": BYTES * trained,
        "optimizer_bytes": optimizer_bytes(trained, "adamw_torch"),
        "activations_estimate_bytes": activations,
    }
    return {"trainable_parameters": trained, **parts, "total_bytes": sum(parts.values())}


def operations_of(weights: Weights, stacks: Sequence[Stack], settings: Settings, kind: str) -> Section | None:
    """Return floating point operations a token in texts of 128: forward, and training in full and with LoRA.

    2 a parameter that is no embedding (Kaplan et al. 2020, arXiv:2001.08361, section 2.1) and 4 × length × width of all
    heads for each layer's attention scores and sums (Hoffmann et al. 2022, arXiv:2203.15556, appendix F). A token of an
    encoder-decoder model goes through one of the two. None where layers share weights, so that parameters do not tell.
    """
    if settings.has("num_hidden_groups"):
        return None
    forward = {
        stack.name: 2 * _computed(weights, stack, settings, kind) + attention
        for stack in stacks
        if (attention := _attention(stack)) is not None
    }
    if len(forward) < len(stacks):
        return None
    return {
        "tokens": TOKENS,
        "forward": forward,
        "train_full": {name: round(train_operations(each / 2, each / 2, True)) for name, each in forward.items()},
        "train_lora": {name: round(train_operations(each / 2, 0, False)) for name, each in forward.items()},
    }


def _attention(stack: Stack) -> int | None:
    if not (stack.layers and stack.heads and stack.head_width):
        return None
    return 4 * TOKENS * stack.heads * stack.head_width * stack.layers


def _computed(weights: Weights, stack: Stack, settings: Settings, kind: str) -> int:
    """Return the parameters that a token of a stack meets: those of its own layers, of experts only the chosen."""
    experts = settings.number("num_local_experts", "num_experts", "n_routed_experts")
    chosen = settings.number("num_experts_per_tok", "moe_k")
    share = chosen / experts if experts and chosen else 1.0
    total = 0.0
    for tensor in weights.tensors:
        is_own = kind != ENCODER_DECODER or f"{stack.name}." in tensor.name
        if is_own and not tensor.is_embedding:
            total += tensor.count * (share if ".experts." in tensor.name else 1.0)
    return round(total)


def past_energy(runs: Iterable[Run], references: Iterable[str], hostname: str) -> Section | None:
    """Return joules a training token, as measured in past runs of a checkpoint on this machine; None without any.

    By what was trained, since what is frozen takes less work: all weights, an adapter by its method (lora …), what
    model.freeze or gradual unfreezing leaves. Only finished runs count whose energy is complete and that had the
    machine to themselves.
    """
    names, found = set(references), defaultdict[str, dict[str, float]](dict)
    for run in runs:
        if _counts(run, names, hostname) and (joules := _joules_a_token(run)):
            found[_trained(run)][run.run_id] = joules
    return {name: _spread(found[name]) for name in sorted(found, key=lambda name: (name != FULL, name))} or None


def _spread(joules: Mapping[str, float]) -> Section:
    values = list(joules.values())
    return {"median": median(values), "low": min(values), "high": max(values), "run_ids": list(joules)}


def _trained(run: Run) -> str:
    """Return what a run trained of its model, in the words of its recipe."""
    model, training, peft = (run.recipe.get(name) or {} for name in ("model", "training", "peft"))
    if peft:
        return str(peft.get("method"))
    if model.get("freeze") not in (None, "none"):
        return f"freeze {model['freeze']}"
    return "gradual unfreezing" if training.get("gradual_unfreezing") is not None else FULL


def _counts(run: Run, names: set[str], hostname: str) -> bool:
    emissions = run.emissions
    machines = {node.get("hostname") for node in emissions.get("nodes") or []}
    return (
        run.is_finished
        and run.model.get("name_or_path") in names
        and run.is_complete
        and run.was_alone
        and not emissions.get("repeated_work_kwh")
        and machines == {hostname}
    )


def _joules_a_token(run: Run) -> float | None:
    phase: Mapping[str, Any] = (run.emissions.get("phases") or {}).get("train") or {}
    kwh = as_number(phase.get("energy_kwh"))
    rate, seconds = (as_number(run.training.get(name)) for name in ("train_tokens_per_second", "train_runtime_s"))
    return kwh * JOULES_PER_KWH / (rate * seconds) if kwh and rate and seconds else None
