"""Which files a run's model consists of: what push and export hand on."""

from __future__ import annotations

from pathlib import Path

from finetune.models.adapters import ADAPTER_FOLDER

CARD = "README.md"
_WEIGHTS = (".safetensors", ".safetensors.index.json")
_CONFIGURATION = ("config.json", "generation_config.json")


def model_files(folder: Path) -> dict[str, Path]:
    """Return the files of the whole model and its tokenizer by name, without the card."""
    return {path.name: path for path in sorted(folder.iterdir()) if path.is_file() and path.name != CARD}


def adapter_files(folder: Path) -> dict[str, Path]:
    """Return the files of the adapter, and the tokenizer's, by name."""
    tokenizer = {
        name: path
        for name, path in model_files(folder).items()
        if not name.endswith(_WEIGHTS) and name not in _CONFIGURATION
    }
    return tokenizer | {path.name: path for path in sorted((folder / ADAPTER_FOLDER).iterdir()) if path.is_file()}
