"""The sections of the run record that training fills in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetune.training.origins import stated_in_card
from finetune.training.prepare import Prepared
from finetune.training.progress import Progress

if TYPE_CHECKING:
    from finetune.data.sources import LoadedData
    from finetune.models.build import Checkpoint
    from finetune.recipe.schema import Recipe


def first_sections(prepared: Prepared, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of a run before its first step: model, dataset, training, hardware.

    `recorded` is the recipe as the record holds it: its paths are relative to the run directory.
    """
    return {
        "model": model_section(prepared) | {"name_or_path": recorded["model"]["name_or_path"]},
        "dataset": dataset_section(prepared) | {"path": recorded["dataset"]["path"]},
        "training": training_section(prepared, Progress()),
        "hardware": prepared.hardware.to_dict(),
    }


def model_section(prepared: Prepared) -> dict[str, Any]:
    """Return the `model` section."""
    return checkpoint_section(prepared.recipe, prepared.checkpoint, *prepared.parameter_counts)


def checkpoint_section(recipe: Recipe, checkpoint: Checkpoint, parameters: int, trainable: int) -> dict[str, Any]:
    """Return the `model` section of a checkpoint, of which so many parameters are trained."""
    return {
        "name_or_path": recipe.model.name_or_path,
        "revision": checkpoint.revision,
        "model_type": checkpoint.model_type,
        "kind": checkpoint.kind,
        "init": recipe.model.init,
        "parameters": parameters,
        "trainable_parameters": trainable,
        **stated_in_card(checkpoint.source, checkpoint.revision, "model"),
    }


def dataset_section(prepared: Prepared) -> dict[str, Any]:
    """Return the `dataset` section; fractions and lengths in tokens are of the training rows."""
    encoded = prepared.encoded
    return {
        **data_section(prepared.recipe, prepared.data),
        "truncated_fraction": encoded.truncated_fraction,
        "divided_fraction": encoded.divided_fraction,
        "length_tokens": {"p50": encoded.length_p50, "p95": encoded.length_p95, "max": encoded.length_max},
        "max_length": prepared.max_length,
    }


def data_section(recipe: Recipe, data: LoadedData) -> dict[str, Any]:
    """Return what of the `dataset` section is known before rows are tokens."""
    return {
        "path": recipe.dataset.path,
        "name": recipe.dataset.name,
        "revision": data.revision,
        "fingerprint": data.fingerprint,
        "fingerprints": data.fingerprints,
        "rows": {split: len(rows) for split, rows in data.splits.items()},
        "dropped_rows": data.dropped,
        "label_names": list(data.labels.names),
        "problem_type": data.labels.problem_type,
        "columns": data.columns,
        **stated_in_card(recipe.dataset.path, data.revision, "dataset"),
    }


def training_section(prepared: Prepared, progress: Progress) -> dict[str, Any]:
    """Return the `training` section; rates and losses are null before the first step."""
    seconds = progress.train_runtime_s
    return {
        "steps": progress.step,
        "total_steps": prepared.plan.total_steps,
        "epochs": prepared.plan.epoch_at(progress.step),
        "train_runtime_s": seconds if progress.step else None,
        "train_samples_per_second": progress.rows_seen / seconds if seconds else None,
        "train_tokens_per_second": progress.tokens_seen / seconds if seconds else None,
        "train_loss": progress.loss_total / progress.step if progress.step else None,
        "best_step": progress.best_step,
        "mixed_precision": prepared.hardware.mixed_precision,
        "device": prepared.hardware.device,
        "num_processes": prepared.hardware.num_processes,
        "num_nodes": prepared.hardware.num_nodes,
    }
