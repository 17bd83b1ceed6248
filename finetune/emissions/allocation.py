"""Which part of the machine belongs to this run: the GPUs that it sees and the memory that it may use."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GIB = 1024**3


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
    covers nothing smaller); the list ends at the first entry that names no card, so "", "-1" and "none" hide all.
    """
    if stated is None:
        return tuple(gpu.index for gpu in gpus)
    found: list[int] = []
    for entry in stated.split(","):
        index = _index_of(entry.strip(), gpus)
        if index is None:
            break
        if index not in found:
            found.append(index)
    return tuple(sorted(found))


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
    return mixed and not by_bus and any(entry.strip().isdigit() for entry in (stated or "").split(","))


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that the cgroup (v2 or v1) of this process may use, or None without a limit."""
    mounted = root / "sys/fs/cgroup"
    limits = []
    for folder, name in _memory_cgroups(root, mounted):
        # A limit of any parent holds too; inside a container the path may not exist and the mount is the cgroup.
        while folder != mounted.parent:
            limits.append(_number(folder / name))
            folder = folder.parent
    # cgroup v1 writes "no limit" as a number near 2^63.
    return min((limit for limit in limits if limit is not None and limit < 2**60), default=None)


def _memory_cgroups(root: Path, mounted: Path) -> list[tuple[Path, str]]:
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        inside = path.lstrip("/")
        if ".." in inside.split("/"):  # a cgroup outside this namespace: only the mount itself can be read
            inside = ""
        if not controllers:
            found.append((mounted / inside, "memory.max"))
        elif "memory" in controllers.split(","):
            found.append((mounted / "memory" / inside, "memory.limit_in_bytes"))
    return found


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _index_of(entry: str, gpus: Sequence[Gpu]) -> int | None:
    if entry.isdigit():
        return int(entry) if any(gpu.index == int(entry) for gpu in gpus) else None
    if entry.startswith("MIG-GPU-"):  # older drivers: MIG-GPU-<uuid>/<instance>/<compute instance>
        entry = entry.removeprefix("MIG-").partition("/")[0]
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    named = {gpu.index for gpu in gpus if any(uuid.startswith(entry) for uuid in (gpu.uuid, *gpu.mig_uuids))}
    return named.pop() if len(named) == 1 else None


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
