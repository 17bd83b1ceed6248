"""How fast this machine multiplies the matrices of a training step: no training of that model can be faster.

As a script it times, in the precision that is trained in, the three products (forward, gradient of the input, gradient
of the weights) of every linear layer of the encoder, for a batch of mean size. Nothing of finetune is imported.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_LEAST_PASSES = 3


@dataclass(frozen=True)
class Shape:
    """What of a BERT-like encoder decides the arithmetic."""

    layers: int
    hidden: int
    intermediate: int


def read_shape(model: Path) -> Shape:
    """Return the shape from a checkpoint's config.json; raises KeyError for an architecture with other names."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return Shape(config["num_hidden_layers"], config["hidden_size"], config["intermediate_size"])


def linear_layers(shape: Shape) -> list[tuple[int, int]]:
    """Return (inputs, outputs) of every linear layer of the encoder: query, key, value, output, and two wide ones."""
    d, wide = shape.hidden, shape.intermediate
    return [*[(d, d)] * 4, (d, wide), (wide, d)] * shape.layers


def flops_per_row(shape: Shape, lengths: Sequence[int], classes: int) -> float:
    """Return the mean floating point operations of training on one row, forward and backward, without padding.

    A product of n×k and k×m costs 2·n·k·m; backward costs twice the forward. A row of n tokens:
    6·n·(weights of the linear layers) + 12·layers·n²·hidden (attention's two products) + 6·(hidden² + hidden·classes)
    (pooler and head, once a row).
    """
    weights = sum(inputs * outputs for inputs, outputs in linear_layers(shape))
    n, n_squared = statistics.fmean(lengths), statistics.fmean(length**2 for length in lengths)
    head = shape.hidden**2 + shape.hidden * classes
    return 6 * n * weights + 12 * shape.layers * n_squared * shape.hidden + 6 * head


def measure(shape: Shape, tokens: int, precision: str, seconds: float) -> dict[str, Any]:
    """Time the products of a batch for about `seconds` and return the median and best rate in FLOP/s."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "no": torch.float32}[precision]
    layers = []
    for inputs, outputs in linear_layers(shape):
        sizes = (tokens, inputs), (outputs, inputs), (tokens, outputs)
        layers.append(tuple(torch.randn(size, device=device).to(dtype) for size in sizes))
    flops = sum(6 * tokens * inputs * outputs for inputs, outputs in linear_layers(shape))
    times: list[float] = []
    while sum(times) < seconds or len(times) < _LEAST_PASSES + 1:
        began = time.perf_counter()
        for batch, weight, gradient in layers:
            torch.mm(batch, weight.t())
            torch.mm(gradient, weight)
            torch.mm(gradient.t(), batch)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    kept = times[1:]  # the first pass builds its kernels
    return {"flops_per_s": flops / statistics.median(kept), "best_flops_per_s": flops / min(kept), "passes": len(kept)}


def rows_per_second(rates: Sequence[Mapping[str, Any]], row_flops: float) -> float | None:
    """Return the most rows a second that the measured rates allow (the median measurement); None without one."""
    return statistics.median(rate["flops_per_s"] for rate in rates) / row_flops if rates else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="ceiling", description="Time the matrix products of a training step.")
    parser.add_argument("--model", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument("--tokens", type=int, required=True, help="tokens of a batch")
    parser.add_argument("--mixed-precision", choices=["no", "bf16", "fp16"], default="no")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--result", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    found = measure(read_shape(options.model), options.tokens, options.mixed_precision, options.seconds)
    options.result.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
