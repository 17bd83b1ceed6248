"""Keep every other layer of an encoder: how DistilBERT begins (Sanh et al. 2019), without its distillation.

python -m benchmarks.every_other_layer CHECKPOINT FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path


def keep_every_other_layer(checkpoint: Path, folder: Path) -> int:
    """Write a BERT-like encoder with layers 0, 2, 4 … of a checkpoint, and its tokenizer; return how many are left."""
    from torch.nn import ModuleList
    from transformers import AutoModel, AutoTokenizer

    model = AutoModel.from_pretrained(checkpoint)
    model.encoder.layer = ModuleList(model.encoder.layer[::2])
    model.config.num_hidden_layers = len(model.encoder.layer)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(checkpoint).save_pretrained(folder)
    return int(model.config.num_hidden_layers)


def main(arguments: list[str] | None = None) -> None:
    """Do what the command line asks for."""
    from finetune.package_paths import is_package_path, resolve_package_path

    parser = argparse.ArgumentParser(prog="python -m benchmarks.every_other_layer", description=__doc__)
    parser.add_argument("checkpoint", help="a folder, or package:<python package>/<folder inside it>")
    parser.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    package = is_package_path(asked.checkpoint)
    source = resolve_package_path(asked.checkpoint) if package else Path(asked.checkpoint)
    print(f"{asked.folder}: {keep_every_other_layer(source, asked.folder)} layers")


if __name__ == "__main__":
    main()
