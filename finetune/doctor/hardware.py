"""What computes: device, precision, threads, memory. What torch has to say comes from the probe."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.doctor.check import FAIL, OK, WARN, Check
from finetune.emissions.allocation import GIB, cpu_share, memory_limit_bytes, memory_share
from finetune.emissions.gpus import VARIABLE, Gpu, compute_processes, has_nvidia_driver, visible_gpus
from finetune.runs.formats import file_size
from finetune.text import plural

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


def check_allocation(environment: Mapping[str, str], root: Path = Path("/"), memory_bytes: int | None = None) -> Check:
    """Tell which part of the machine a run gets, and from where that is known: what is modelled is scaled to it."""
    if memory_bytes is None:
        import psutil

        memory_bytes = int(psutil.virtual_memory().total)
    cpus, memory = cpu_share(root=root, environment=environment), memory_share(memory_bytes, root, environment)
    parts = [
        "all processors" if cpus is None else f"{cpus.count:g} of {cpus.of} processors ({cpus.known_from})",
        "all memory"
        if memory is None
        else f"{memory.bytes / GIB:.3g} of {memory_bytes / GIB:.3g} GiB of memory ({memory.known_from})",
    ]
    return Check("allocation", OK, ", ".join(parts))


def check_gpus(cards: Sequence[Gpu] | None, environment: Mapping[str, str]) -> Check:
    """Tell which GPUs a run sees, and whether other processes compute on them."""
    if not cards:
        return Check("GPUs", OK, "none: NVML lists none" if cards is not None else "none: no NVIDIA driver answers")
    stated = environment.get(VARIABLE)
    visible = [card for card in cards if card.index in visible_gpus(stated, cards)]
    if not visible:
        return Check("GPUs", WARN, f"{VARIABLE}={stated!r} hides all {len(cards)}", f"unset {VARIABLE}")
    found = ", ".join(f"{card.index}: {card.name} ({card.uuid})" for card in visible)
    busy = {
        index: len(pids - {os.getpid()})
        for index, pids in compute_processes(card.index for card in visible).items()
        if pids - {os.getpid()}
    }
    if len(visible) < len(cards):
        found += f"; {VARIABLE} hides {len(cards) - len(visible)}"
    if not busy:
        return Check("GPUs", OK, found)
    others = ", ".join(f"{plural(count, 'process', 'processes')} on GPU {index}" for index, count in busy.items())
    return Check("GPUs", WARN, f"{found}; others compute there: {others}", "Their energy is in the reading: wait.")
