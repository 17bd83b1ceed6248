"""Which part of a machine belongs to this run: processors and memory, by control group, pinning or SLURM.

Counters cover whole machines; what is modelled is scaled to the part.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune.emissions import gpus

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True)
class Process:
    """What one process of a run has of its machine: its id, its processors (None: not known), its GPUs by UUID."""

    pid: int
    cpus: tuple[int, ...] | None = None
    gpu_uuids: tuple[str, ...] = ()


@dataclass(frozen=True)
class CpuShare:
    """`count` of the `of` processors of a machine.

    `known_from` is cgroup, affinity or SLURM; `numbers` are the processors, where it is known which; `group` is the
    folder of the control group whose quota is the limit. Without either the load of the share cannot be read.
    """

    count: float
    of: int
    known_from: str
    numbers: tuple[int, ...] = ()
    group: Path | None = None
    key: str = ""

    def words(self) -> str:
        """Return "cgroup-scaled, 2 of 64 processors"."""
        return f"{self.known_from}-scaled, {self.count:g} of {self.of} processors"


@dataclass(frozen=True)
class MemoryShare:
    """How much memory a run may use, from its cgroup or from SLURM; `key` tells this share from others."""

    bytes: int
    known_from: str
    key: str


def this_process(root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> Process:
    """Return what this process may use; the processes of a run on one machine together make up its part."""
    environment = os.environ if environment is None else environment
    cards = gpus.nvidia_gpus() or ()
    visible = gpus.visible_gpus(environment.get(gpus.VARIABLE), cards)
    return Process(os.getpid(), _usable_cpus(root), tuple(card.uuid for card in cards if card.index in visible))


def cpu_share(
    processes: Sequence[Process] = (), root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> CpuShare | None:
    """Return the processors of a run's `processes` on this machine (none: of this one), or None for all of them.

    The tightest of quota (cgroup v2 and v1), processors to run on (cpuset, affinity) and SLURM's allocation holds.
    """
    environment = os.environ if environment is None else environment
    of = len(_listed(_text(root / "sys/devices/system/cpu/online"))) or os.cpu_count() or 1
    found = []
    usable = [process.cpus for process in processes] or [_usable_cpus(root)]
    if all(cpus is not None for cpus in usable):
        numbers = tuple(sorted({number for cpus in usable for number in cpus or ()}))
        known_from = "cgroup" if set(numbers) == _cpuset(root) else "affinity"
        found.append(CpuShare(len(numbers), of, known_from, numbers, key=_ranges(numbers)))
    quota = _quota(root)
    if quota is not None:
        found.append(CpuShare(quota[0], of, "cgroup", group=quota[1], key=_group_key(quota[1])))
    allotted = _slurm_cpus(environment)
    if allotted is not None:
        found.append(CpuShare(allotted, of, "SLURM", key=_job_key(environment)))
    tightest = min(found, key=lambda share: share.count, default=None)
    return tightest if tightest is not None and 0 < tightest.count < of else None


def memory_share(
    total_bytes: int, root: Path = Path("/"), environment: Mapping[str, str] | None = None
) -> MemoryShare | None:
    """Return how much of a machine's memory this run may use, or None for all of it."""
    environment = os.environ if environment is None else environment
    found = []
    limit = _memory_limit(root)
    if limit is not None:
        found.append(MemoryShare(limit[0], "cgroup", _group_key(limit[1])))
    allotted = _slurm_memory_bytes(environment)
    if allotted is not None:
        found.append(MemoryShare(allotted, "SLURM", _job_key(environment)))
    tightest = min(found, key=lambda share: share.bytes, default=None)
    return tightest if tightest is not None and 0 < tightest.bytes < total_bytes else None


def memory_limit_bytes(root: Path = Path("/")) -> int | None:
    """Return the memory that the cgroup (v2 or v1) of this process may use, or None without a limit."""
    limit = _memory_limit(root)
    return None if limit is None else limit[0]


def group_cpu_seconds(group: Path) -> float | None:
    """Return the processor time that a control group has used so far, in seconds; None where it cannot be read."""
    used_us = re.search(r"^usage_usec (\d+)$", _text(group / "cpu.stat"), re.MULTILINE)  # cgroup v2
    if used_us:
        return int(used_us[1]) / 1e6
    for name in ("cpu,cpuacct", "cpuacct"):  # v1 keeps the account in a hierarchy of its own, or in the same
        used_ns = _text(Path(re.sub(r"/(cpu|cpu,cpuacct)(?=/|$)", f"/{name}", str(group), count=1)) / "cpuacct.usage")
        if used_ns.isdigit():
            return int(used_ns) / 1e9
    return None


def _usable_cpus(root: Path) -> tuple[int, ...] | None:
    """Return the processors on which this process may run: its affinity, which a cpuset narrows."""
    stated = re.search(r"^Cpus_allowed_list:\s*(\S+)", _text(root / "proc/self/status"), re.MULTILINE)
    allowed = _listed(stated[1]) if stated else None
    group = _cpuset(root)
    sets = [numbers for numbers in (allowed, group) if numbers]
    return tuple(sorted(set.intersection(*sets))) if sets else None


def _cpuset(root: Path) -> set[int]:
    """Return the processors of the nearest cgroup that lists any; an empty set where none does."""
    for folder in _groups(root, "cpuset"):
        for name in ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus"):
            numbers = _listed(_text(folder / name))
            if numbers:
                return numbers
    return set()


def _quota(root: Path) -> tuple[float, Path] | None:
    """Return how many processors' time the tightest cgroup may use, and its folder."""
    limits = []
    for folder in _groups(root, "cpu"):
        quota, _, period = _text(folder / "cpu.max").partition(" ")
        if not quota:
            quota, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
        if quota.isdigit() and period.isdigit() and int(period):  # "max" and -1: no limit
            limits.append((int(quota) / int(period), folder))
    return min(limits, key=lambda limit: limit[0], default=None)


def _memory_limit(root: Path) -> tuple[int, Path] | None:
    limits = []
    for folder in _groups(root, "memory"):
        stated = _text(folder / "memory.max") or _text(folder / "memory.limit_in_bytes")
        # cgroup v1 writes "no limit" as a number near 2^63.
        if stated.isdigit() and int(stated) < 2**60:
            limits.append((int(stated), folder))
    return min(limits, key=lambda limit: limit[0], default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield this process's cgroup folders for a controller (v2 and v1), from its own up: each one's limit holds too."""
    mounted = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        inside = path.lstrip("/")
        if ".." in inside.split("/"):  # a cgroup outside this namespace: only the mount itself can be read
            inside = ""
        if not controllers:
            top = mounted
        elif controller in controllers.split(","):
            top = next((mounted / name for name in (controller, controllers) if (mounted / name).is_dir()), mounted)
        else:
            continue
        # Inside a container the path may not exist, and the mount is the cgroup.
        folder = top / inside
        yield folder
        while folder != top:
            folder = folder.parent
            yield folder


def _slurm_cpus(environment: Mapping[str, str]) -> int | None:
    if "SLURM_JOB_ID" not in environment:
        return None
    on_node = environment.get("SLURM_CPUS_ON_NODE", "")
    if on_node.isdigit():
        return int(on_node)
    # One entry a node, equal ones together: 72(x2),36
    counts: list[int] = []
    for entry in environment.get("SLURM_JOB_CPUS_PER_NODE", "").split(","):
        found = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", entry.strip())
        counts += [int(found[1])] * int(found[2] or 1) if found else []
    node = environment.get("SLURM_NODEID", "0")
    return counts[int(node)] if node.isdigit() and int(node) < len(counts) else None


def _slurm_memory_bytes(environment: Mapping[str, str]) -> int | None:
    if "SLURM_JOB_ID" not in environment:
        return None
    counts = {"SLURM_MEM_PER_NODE": 1, "SLURM_MEM_PER_CPU": _slurm_cpus(environment)}
    gpus_here = environment.get("SLURM_GPUS_ON_NODE", "")
    counts["SLURM_MEM_PER_GPU"] = int(gpus_here) if gpus_here.isdigit() else None
    for name, count in counts.items():
        stated = environment.get(name, "")
        if stated.isdigit() and int(stated) and count:  # 0: all of the node's
            return int(stated) * count * MIB
    return None


def _job_key(environment: Mapping[str, str]) -> str:
    return f"slurm-{environment['SLURM_JOB_ID']}"


def _group_key(folder: Path) -> str:
    # The path of a cgroup differs between the inside and the outside of a container, its number does not.
    return f"cgroup-{folder.stat().st_ino}"


def _listed(ranges: str) -> set[int]:
    """Read "0-3,8" as the kernel writes it."""
    numbers: set[int] = set()
    for part in ranges.strip().split(","):
        first, _, last = part.partition("-")
        if first.isdigit():
            numbers |= set(range(int(first), int(last if last.isdigit() else first) + 1))
    return numbers


def _ranges(numbers: Iterable[int]) -> str:
    """Write numbers as the kernel does: 0-3,8."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ",".join(f"{first}" if first == last else f"{first}-{last}" for first, last in runs)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return ""
