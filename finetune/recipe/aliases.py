"""The names that people bring from other tools, and what they mean here."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from finetune.recipe.adapter_keys import ALL_LINEAR
from finetune.recipe.keys import Path

SAMPLING_BY_GROUPING = {True: "group_by_length", False: "random"}


@dataclass(frozen=True)
class Alias:
    """The key that an alias stands for, and what its value becomes there.

    `convert` returns the value, or raises ValueError with what was expected.
    """

    path: Path
    convert: Callable[[Any], Any] = lambda value: value


def _ratio(value: Any) -> Any:
    # warmup_steps reads whole numbers as steps, so that 1 would silently become one step.
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ValueError("a number at least 0 and below 1")
    return value


def _grouping(value: Any) -> Any:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return SAMPLING_BY_GROUPING[value]


_LEARNING_RATE = Alias(("training", "learning_rate"))
_EPOCHS = Alias(("training", "num_train_epochs"))
_BATCH_SIZE = Alias(("training", "per_device_train_batch_size"))
_MAX_LENGTH = Alias(("preprocessing", "max_length"))
_MODEL = Alias(("model", "name_or_path"))
_RANK = Alias(("peft", "r"))
_METHOD = Alias(("peft", "method"), lambda value: value.lower() if isinstance(value, str) else value)
_TARGETS = Alias(("peft", "target_modules"), lambda value: ALL_LINEAR if value == "all" else value)
_LAYER_DECAY = Alias(("training", "layerwise_lr_decay"))
_VALIDATION_SIZE = Alias(("dataset", "validation_size"))

ALIASES: Mapping[str, Alias] = {
    "base_model": _MODEL,
    "model_name_or_path": _MODEL,
    "dataset_name": Alias(("dataset", "path")),
    "dataset_config": Alias(("dataset", "name")),
    "lr": _LEARNING_RATE,
    "epochs": _EPOCHS,
    "num_epochs": _EPOCHS,
    "batch_size": _BATCH_SIZE,
    "micro_batch_size": _BATCH_SIZE,
    "sequence_len": _MAX_LENGTH,
    "cutoff_len": _MAX_LENGTH,
    "max_seq_length": _MAX_LENGTH,
    "lora_r": _RANK,
    "lora_rank": _RANK,
    "lora_alpha": Alias(("peft", "lora_alpha")),
    "lora_dropout": Alias(("peft", "lora_dropout")),
    "lora_target_modules": _TARGETS,
    "lora_target": _TARGETS,
    "use_dora": Alias(("peft", "use_dora")),
    "use_rslora": Alias(("peft", "use_rslora")),
    "peft_type": _METHOD,
    "adapter": _METHOD,
    "finetuning_type": _METHOD,
    "llrd": _LAYER_DECAY,
    "layer_decay": _LAYER_DECAY,
    "layerwise_learning_rate_decay": _LAYER_DECAY,
    "warmup_ratio": Alias(("training", "warmup_steps"), _ratio),
    "group_by_length": Alias(("training", "train_sampling_strategy"), _grouping),
    "evaluation_strategy": Alias(("training", "eval_strategy")),
    "val_set_size": _VALIDATION_SIZE,
    "val_size": _VALIDATION_SIZE,
}

# Keys of transformers.TrainingArguments that are written differently here.
REMARKS: Mapping[str, str] = {
    "bf16": "write training.mixed_precision: bf16",
    "fp16": "write training.mixed_precision: fp16",
    "use_cpu": "hide the GPUs instead: CUDA_VISIBLE_DEVICES= finetune run …",
    "no_cuda": "hide the GPUs instead: CUDA_VISIBLE_DEVICES= finetune run …",
    "num_labels": "the labels are counted in the data",
    "greater_is_better": "every metric knows its direction",
    "padding": "batches are padded to their own longest row",
}


def find_alias(path: Path) -> Alias | None:
    """Return the alias that a path uses: at top level, or in the section where the real key lives."""
    alias = ALIASES.get(path[-1])
    return alias if alias and path[:-1] in ((), alias.path[:-1]) else None
