"""Which machine this is, among those of a run and among those of other runs."""

import os
from collections.abc import Mapping
from pathlib import Path


def node_rank(environment: Mapping[str, str]) -> int:
    """Return the rank of this machine: GROUP_RANK (torchrun), else SLURM_NODEID, else 0."""
    for name in ("GROUP_RANK", "SLURM_NODEID"):
        if environment.get(name, "").isdigit():
            return int(environment[name])
    return 0


def usable_processors() -> int:
    """Return how many processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_virtual_machine(root: Path = Path("/")) -> bool:
    """Tell whether this machine is one inside another: the processor it names is its host's, or invented."""
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    return any("hypervisor" in line.split() for line in lines if line.startswith("flags"))


def boot_id() -> str | None:
    """Return what tells this boot of this machine from every other, or None where the system has no such number."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return None
