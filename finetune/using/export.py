"""`finetune export`: the model of a run as a folder that plain transformers, or peft, opens."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from finetune.errors import FinetuneError
from finetune.models.adapters import ADAPTER_FOLDER
from finetune.recipe.lookup import look_up
from finetune.runs.card import model_card
from finetune.runs.files import whole_folder, write_atomically
from finetune.runs.formats import file_size
from finetune.runs.record import find_run, read_run
from finetune.runs.usable import model_folder
from finetune.text import did_you_mean, join_words, plural
from finetune.using.files import CARD, adapter_files, model_files

WHOLE, MERGED, ADAPTER, ONNX = "safetensors", "merged", "adapter", "onnx"
FORMATS = (WHOLE, MERGED, ADAPTER, ONNX)


def export(reference: str, output_dir: Path, to: Path, format: str) -> str:
    """Write the model of a run, its tokenizer and card into a new folder, whole or not at all; return a line on it.

    `safetensors`, or `merged`: the whole model, with adapters merged into its weights; `adapter`: the adapter alone.
    Raises FinetuneError when the folder is there already, or the run has no such thing.
    """
    if format not in FORMATS:
        near = did_you_mean(format, FORMATS)
        raise FinetuneError(
            f"--format {format}: expected {join_words(FORMATS)}",
            f"Did you mean {near}?" if near else "Leave it out for safetensors.",
        )
    run = read_run(find_run(reference, output_dir))
    folder = model_folder(run)
    files: Mapping[str, Path] = model_files(folder)
    if format == ONNX:
        raise FinetuneError(
            "--format onnx: not available in this version: optimum-onnx, which exports transformers' models, needs "
            "transformers 4, and finetune needs 5",
            f"finetune export {reference} --to {to} writes safetensors; docs/using.md says what to do with them.",
        )
    if format == ADAPTER:
        if not (folder / ADAPTER_FOLDER).is_dir():
            raise FinetuneError(f"--format adapter: {run.run_id} has no adapter (peft)", "Leave --format out.")
        files = adapter_files(folder)
    _require_new(to)
    with whole_folder(to.resolve()) as building:
        for name, path in files.items():
            shutil.copyfile(path, building / name)
        write_atomically(building / CARD, model_card(run, is_adapter=format == ADAPTER))
        size = sum(path.stat().st_size for path in building.iterdir())
    return f"wrote {to} ({plural(len(files) + 1, 'file')}, {file_size(size)})"


def _require_new(to: Path) -> None:
    found = look_up(to)
    if found.fault:
        raise FinetuneError(f"--to {found.shown} {found.fault}", "Name another folder.")
    if found.kind == "none":
        return
    if found.kind != "folder" or any(to.iterdir()):
        is_what = "is not empty" if found.kind == "folder" else "is a file"
        raise FinetuneError(f"--to {to}: {is_what}, and nothing is written over", "Name a new folder.")
