"""Experiment trackers (TensorBoard, MLflow, …), through Accelerate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune.training.prepare import Prepared


def open_trackers(prepared: Prepared, recipe: Mapping[str, Any]) -> None:
    """Open the trackers that the recipe names, with its settings as plain dotted values; none is the default."""
    if prepared.accelerator.log_with:
        prepared.accelerator.init_trackers(prepared.recipe.tracking.project or "finetune", config=dict(_flat(recipe)))


def _flat(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    """Yield (dotted key, value) for every setting that all trackers can hold."""
    for key, value in section.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float | bool):
            yield prefix + key, value
