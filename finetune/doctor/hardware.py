"""What computes: device, precision, threads, memory. What torch has to say comes from the probe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune.doctor.check import FAIL, OK, WARN, Check
from finetune.emissions.allocation import memory_limit_bytes
from finetune.emissions.gpus import has_nvidia_driver
from finetune.runs.formats import file_size

# The quickstart fits into 1 GB; a base model (110 M parameters) with Adam takes 1.8 GB and its activations.
ROOM_BYTES = 2_000_000_000


def check_torch(torch: Mapping[str, Any], has_driver: bool | None = None) -> list[Check]:
    """Turn the probe's `torch` section (or its `error`) into checks of device, precision and threads."""
    if "error" in torch:
        return [Check("torch", FAIL, f"cannot be used: {torch['error']}", "pip install --force-reinstall torch")]
    return [
        _device(torch, has_nvidia_driver() if has_driver is None else has_driver),
        _precision(torch),
        _threads(torch),
    ]


def _device(torch: Mapping[str, Any], has_driver: bool) -> Check:
    if torch["device"] != "cuda" and has_driver:
        built = f"built for CUDA {torch['cuda']}" if torch["cuda"] else "built without CUDA"
        return Check(
            "device",
            WARN,
            f"{torch['device']}; there is an NVIDIA GPU that torch {torch['version']} ({built}) cannot use",
            "Install the torch for your driver: https://pytorch.org/get-started/locally, and look at nvidia-smi and "
            "CUDA_VISIBLE_DEVICES",
        )
    return Check("device", OK, f"{torch['device']}: {', '.join(torch['names'])}")


def _precision(torch: Mapping[str, Any]) -> Check:
    chosen = torch["precision"]
    words = {"no": "float32", "bf16": "bf16 beside float32", "fp16": "fp16 beside float32"}[chosen]
    native = "the device has" if torch["native_bf16"] else "the device lacks"
    return Check("precision", OK, f"{words} for training.mixed_precision: auto ({native} native bf16)")


def _threads(torch: Mapping[str, Any]) -> Check:
    threads, cpus = torch["threads"], torch["cpus"]
    found = f"{threads} of {cpus} logical CPUs"
    # torch takes one thread a core, which is half of the logical CPUs where there are two a core.
    if torch["device"] == "cpu" and 2 * threads < cpus:
        return Check("threads", WARN, found, f"unset OMP_NUM_THREADS, or: export OMP_NUM_THREADS={cpus}")
    return Check("threads", OK, found)


def check_memory(available: int | None = None, limit: int | None = None) -> Check:
    """Tell how much memory is free, and the container's limit where there is one (both in bytes)."""
    if available is None:
        import psutil

        available, limit = int(psutil.virtual_memory().available), memory_limit_bytes()
    room = available if limit is None else min(available, limit)
    found = f"{file_size(room)} free" + ("" if limit is None else f" (limited to {file_size(limit)})")
    if room < ROOM_BYTES:
        return Check("memory", WARN, found, "Close other programs, or take a small model and small batches.")
    return Check("memory", OK, found)
