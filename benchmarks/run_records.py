"""Made-up run records in any number: what the stored run of the quickstart says, with other settings and readings."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

from benchmarks.publishing import FOLDER

_STORED = FOLDER.parent / "tests" / "stored_runs" / "quickstart-20260901T120000Z-a1b2c3" / "run.json"
_MODELS = ("prajjwal1/bert-tiny", "microsoft/MiniLM-L12-H384-uncased", "distilbert/distilbert-base-uncased",
           "google-bert/bert-base-uncased", "FacebookAI/roberta-large")  # fmt: skip
_ROWS = 1000


def write_records(folder: Path, count: int, seed: int = 0, seeds: int = 1) -> None:
    """Write so many run directories with a record each, `seeds` a recipe; the same seed gives the same records."""
    stored, draw = _STORED.read_text(encoding="utf-8"), random.Random(seed)
    for number in range(count):
        record = _varied(json.loads(stored), number, draw)
        if seeds > 1:
            _as_a_seed(record, *divmod(number, seeds))
        directory = folder / record["run_id"]
        directory.mkdir(parents=True)
        (directory / "run.json").write_text(json.dumps(record), encoding="utf-8")


def _varied(record: dict[str, Any], number: int, draw: random.Random) -> dict[str, Any]:
    size, epochs, rate = draw.randrange(len(_MODELS)), draw.choice([1, 2, 3, 5, 8]), draw.choice([1e-5, 3e-5, 1e-4])
    name = f"{_MODELS[size].rpartition('/')[2]}-{epochs}-epochs"
    record["run_id"], record["name"] = f"{name}-20260901T120000Z-{number:06x}", name
    record["created_at"] = f"2026-09-{1 + number % 28:02d}T{number % 24:02d}:00:00Z"
    record["model"]["name_or_path"] = record["recipe"]["model"]["name_or_path"] = _MODELS[size]
    record["recipe"]["training"].update(num_train_epochs=float(epochs), learning_rate=rate, seed=draw.randrange(5))
    used = epochs * 3.0**size * draw.uniform(0.8, 1.25)
    _scale(record["emissions"], used)
    most = 0.97 - 0.35 / (1 + size) ** 1.3 + draw.gauss(0, 0.012)
    record["timeline"] = [
        {
            "step": 38 * epoch,
            "epoch": float(epoch),
            "energy_kwh": record["emissions"]["energy_kwh"] * (0.1 + 0.8 * epoch / epochs),
            "emissions_g": record["emissions"]["emissions_g"] * (0.1 + 0.8 * epoch / epochs),
            "elapsed_s": record["emissions"]["duration_s"] * (0.1 + 0.8 * epoch / epochs),
            "metrics": {"accuracy": _reached(most, epoch, draw), "loss": 2.0 * math.exp(-epoch / 2) + 0.3},
        }
        for epoch in range(1, epochs + 1)
    ]
    value = round(_ROWS * _reached(most, epochs, draw)) / _ROWS
    low, high = wilson(value, _ROWS)
    record["metrics"]["test"]["accuracy"] = {"value": value, "low": low, "high": high, "n": _ROWS}
    record["main_metric"].update(value=value, low=low, high=high, n=_ROWS)
    if number % 29 == 7:  # some shared their machine, some have a reading missing
        record["emissions"]["shared_with"] = ["another-run"]
    elif number % 31 == 11:
        record["emissions"].update(complete=False, energy_kwh_high=None)
    return record


def _as_a_seed(record: dict[str, Any], recipe: int, seed: int) -> None:
    """Make a record one of a group: runs of one recipe, which no other record has, that differ in their seed alone."""
    record["name"] = f"recipe-{recipe}"
    record["recipe"]["model"]["name_or_path"] = _MODELS[recipe % len(_MODELS)]
    record["recipe"]["training"].update(num_train_epochs=1.0, learning_rate=1e-5 * (recipe + 1), seed=seed)


def wilson(value: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's interval of a share of n rows."""
    middle, spread = value + z * z / (2 * n), z * math.sqrt(value * (1 - value) / n + z * z / (4 * n * n))
    return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def _reached(most: float, epoch: int, draw: random.Random) -> float:
    return min(0.999, most * (1 - 0.5 * math.exp(-epoch / 1.2)) + draw.gauss(0, 0.004))


def _scale(section: Any, factor: float) -> None:
    """Multiply every energy, emission and duration of a section, as deep as they lie."""
    for key, value in section.items() if isinstance(section, dict) else enumerate(section):
        if isinstance(value, dict | list):
            _scale(value, factor)
        elif isinstance(value, float) and (
            str(key).startswith(("energy_kwh", "emissions_g", "duration_s", "repeated")) or key in ("cpu", "gpu", "ram")
        ):
            section[key] = value * factor
