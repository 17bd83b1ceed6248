"""The NVIDIA cards of a machine: which of them a process sees, and who else computes on them."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True)
class Gpu:
    """A card as NVML numbers it: its index, its UUID and the UUIDs of its MIG slices."""

    index: int
    uuid: str
    name: str = ""
    mig_uuids: tuple[str, ...] = ()


def visible_gpus(stated: str | None, gpus: Sequence[Gpu]) -> tuple[int, ...]:
    """Return the NVML indices that CUDA_VISIBLE_DEVICES (`stated`; None: not set) leaves visible.

    As CUDA reads it: indices, UUIDs or unique beginnings of one, MIG slices (the whole card is meant, as its counter
    covers nothing smaller). The first entry says which of the three the list holds. It ends at the first entry that
    names no card, so "", "-1" and "none" hide all; so does an entry that is there twice.
    """
    if stated is None:
        return tuple(gpu.index for gpu in gpus)
    entries = [entry.strip() for entry in stated.split(",")]
    read = {"GPU-": _by_uuid, "MIG-": _by_slice}.get(entries[0][:4], _by_number)
    found: list[tuple[int, str]] = []
    for entry in entries:
        place = read(entry, gpus)
        if place is None:
            break
        if place in found:
            return ()
        found.append(place)
    return tuple(sorted({index for index, _ in found}))


def nvidia_gpus() -> tuple[Gpu, ...] | None:
    """Return the cards that NVML lists, or None where NVML cannot be asked."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return tuple(_describe(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount()))
    except pynvml.NVMLError:
        return None


def has_nvidia_driver(root: Path = Path("/")) -> bool:
    """Tell whether the kernel knows NVIDIA cards, whatever NVML says."""
    folder = root / "proc/driver/nvidia/gpus"
    return folder.is_dir() and any(folder.iterdir())


def has_ambiguous_order(stated: str | None, gpus: Sequence[Gpu], environment: Mapping[str, str]) -> bool:
    """Tell whether CUDA's own numbering (fastest first) may differ from NVML's for the indices that are stated."""
    mixed = len({gpu.name for gpu in gpus}) > 1
    by_bus = environment.get("CUDA_DEVICE_ORDER", "").upper() == "PCI_BUS_ID"
    return mixed and not by_bus and _number(stated or "") is not None


def compute_processes(indices: Iterable[int]) -> dict[int, frozenset[int]]:
    """Return the ids of the processes that compute on cards, as NVML lists them; a card that cannot tell is left out.

    Inside a container these may be the host's ids, or none at all.
    """
    try:
        import pynvml
    except ImportError:
        return {}
    found = {}
    for index in indices:
        with suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            found[index] = frozenset(int(one.pid) for one in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return found


def strangers(
    listed: Mapping[int, frozenset[int]], own: Iterable[int], *, before_own_work: bool
) -> dict[int, frozenset[int]]:
    """Return which of the listed processes are not ours, by card.

    Ours are `own`. Once they compute and none of them is listed, ids are numbered in another way than here (a
    container): nobody can be told from ourselves then, and nobody is named.
    """
    ours = frozenset(own)
    if not before_own_work and not any(ours & pids for pids in listed.values()):
        return {}
    return {index: pids - ours for index, pids in listed.items() if pids - ours}


def _by_number(entry: str, gpus: Sequence[Gpu]) -> tuple[int, str] | None:
    number = _number(entry)
    return (number, "") if any(gpu.index == number for gpu in gpus) and number is not None else None


def _number(entry: str) -> int | None:
    """Read what an entry begins with, as CUDA does: "1", "+1" and "1a" are card 1."""
    found = re.match(r"\s*\+?([0-9]+)", entry)
    return int(found[1]) if found else None


def _by_uuid(entry: str, gpus: Sequence[Gpu]) -> tuple[int, str] | None:
    if not entry.startswith("GPU-"):
        return None
    named = [gpu.index for gpu in gpus if gpu.uuid.startswith(entry)]
    return (named[0], "") if len(named) == 1 else None


def _by_slice(entry: str, gpus: Sequence[Gpu]) -> tuple[int, str] | None:
    if entry.startswith("MIG-GPU-"):  # older drivers: MIG-GPU-<uuid>/<instance>/<compute instance>
        place = _by_uuid(entry.removeprefix("MIG-").partition("/")[0], gpus)
        return place and (place[0], entry)
    if not entry.startswith("MIG-"):
        return None
    named = [(gpu.index, uuid) for gpu in gpus for uuid in gpu.mig_uuids if uuid.startswith(entry)]
    return named[0] if len(named) == 1 else None


def _describe(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    slices = []
    with suppress(pynvml.NVMLError):  # a card without MIG
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            with suppress(pynvml.NVMLError):  # a place without a slice
                part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
                slices.append(_text(pynvml.nvmlDeviceGetUUID(part)))
    return Gpu(index, _text(pynvml.nvmlDeviceGetUUID(handle)), _text(pynvml.nvmlDeviceGetName(handle)), tuple(slices))


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value
