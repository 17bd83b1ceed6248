"""The tensors of a checkpoint by the headers of its safetensors files: names, shapes and types, no weights."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.errors import FinetuneError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# Larger headers are refused by the format's own readers too.
_LARGEST_HEADER = 100_000_000
_BITS = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "I64": 64, "I32": 32, "I16": 16, "I8": 8,
    "U8": 8, "BOOL": 8,
}  # fmt: skip
_FLOATS = {"F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2"}
_EMBEDDINGS = (
    "word_embeddings", "position_embeddings", "token_type_embeddings", "embed_tokens", "embed_positions", "shared",
    "wte", "wpe", "tokens_embed", "positions_embed", "embed_in", "tok_embeddings", "embeddings", "w",
)  # fmt: skip
_OUTPUTS = ("lm_head.weight", "embed_out.weight", "lm_head.decoder.weight", "cls.predictions.decoder.weight")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def count(self) -> int:
        """Return how many numbers it holds."""
        return math.prod(self.shape)

    @property
    def is_parameter(self) -> bool:
        """Tell a weight from what older checkpoints keep beside them: position ids, causal masks, frequencies."""
        is_mask = len(self.shape) == 4 and self.shape[:2] == (1, 1) and self.shape[2] == self.shape[3]
        is_beside = self.name.endswith((".masked_bias", ".inv_freq", ".position_ids"))
        return self.dtype in _FLOATS and not is_mask and not is_beside

    @property
    def is_embedding(self) -> bool:
        """Tell whether it is a table of tokens, positions or segments, or the layer back to tokens."""
        parts = self.name.split(".")
        is_table = len(self.shape) == 2 and parts[-1] == "weight" and len(parts) > 1 and parts[-2] in _EMBEDDINGS
        return is_table or self.is_output

    @property
    def is_output(self) -> bool:
        """Tell whether it turns states into scores for every token of the vocabulary."""
        return self.name.endswith(_OUTPUTS)

    @property
    def bytes(self) -> int:
        """Return its size in the file."""
        return self.count * _BITS.get(self.dtype, 8) // 8


@dataclass(frozen=True)
class Weights:
    """The parameters of a checkpoint; `size_bytes` is that of its weight files."""

    tensors: tuple[Tensor, ...]
    size_bytes: int

    @property
    def parameters(self) -> int:
        """Return how many parameters there are; those that are shared are stored once."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def embedding_parameters(self) -> int:
        """Return how many of them lie in embeddings, with the layer back to tokens where that is stored apart."""
        return sum(tensor.count for tensor in self.tensors if tensor.is_embedding)

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return the types of the parameters, the one with the most first."""
        counts: dict[str, int] = {}
        for tensor in self.tensors:
            counts[tensor.dtype] = counts.get(tensor.dtype, 0) + tensor.count
        return tuple(sorted(counts, key=lambda name: -counts[name]))

    @property
    def has_output(self) -> bool:
        """Tell whether the layer back to tokens is stored apart from the embeddings."""
        return any(tensor.is_output for tensor in self.tensors)

    @property
    def matrices(self) -> tuple[Tensor, ...]:
        """Return the weights of the linear layers, without embeddings: what `all-linear` adapters go to."""
        return tuple(
            tensor
            for tensor in self.tensors
            if len(tensor.shape) == 2 and tensor.name.endswith("weight") and not tensor.is_embedding
            and min(tensor.shape) > 1 and "relative_attention_bias" not in tensor.name
        )  # fmt: skip


def weights_from(tensors: Iterable[Tensor], size_bytes: int) -> Weights:
    """Return the weights of a checkpoint from all tensors of its files."""
    return Weights(tuple(tensor for tensor in tensors if tensor.is_parameter), size_bytes)


def read_folder(folder: Path) -> Weights | None:
    """Return the weights of a folder by the headers of its files; None when it holds no safetensors.

    Raises FinetuneError for a file that is damaged, or that the index names and is not there.
    """
    index = folder / INDEX
    names: Sequence[str] = [SINGLE] if (folder / SINGLE).is_file() else []
    if not names and index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as error:
            raise FinetuneError(f"{index}: not an index of safetensors files", "Copy the checkpoint anew.") from error
    if not names:
        return None
    paths = [folder / name for name in names]
    tensors = [tensor for path in paths for tensor in read_header(path)]
    return weights_from(tensors, sum(path.stat().st_size for path in paths))


def read_header(path: Path) -> list[Tensor]:
    """Return the tensors of a safetensors file: 8 bytes with the length of the header, then the header as JSON."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError("header too long")
            header = json.loads(file.read(length))
        return [
            Tensor(name, str(entry["dtype"]), tuple(map(int, entry["shape"])))
            for name, entry in header.items()
            if name != "__metadata__"
        ]
    except FileNotFoundError:
        raise FinetuneError(f"{path}: named by the index, but not there", "Copy the checkpoint anew.") from None
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise FinetuneError(f"{path}: not a safetensors file, or a damaged one", "Copy the checkpoint anew.") from error
