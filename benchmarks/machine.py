"""In what surroundings figures were taken: the machine in words, versions, and how busy others kept it."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from benchmarks.script_parts import busy_s

# The widest unit that speeds up training is the one worth naming.
_CPU_FLAGS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2", "asimd")
_LOOK_EVERY_S = 0.01
_PACKAGES = ("finetune", "torch", "transformers", "accelerate", "datasets", "scikit-learn", "codecarbon")


def machine_words() -> str:
    """Return the machine in a few words, such as "Linux x86_64, 2 cores, avx512_bf16, 24 GiB"."""
    memory = round(psutil.virtual_memory().total / 2**30)
    flags = [flag for flag in _CPU_FLAGS if flag in _cpu_flags()][:1]
    return ", ".join([f"{platform.system()} {platform.machine()}", f"{usable_cores()} cores", *flags, f"{memory} GiB"])


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that are compared."""
    return {"python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def today() -> str:
    """Return the date (UTC) as YYYY-MM-DD."""
    return datetime.now(UTC).strftime("%Y-%m-%d")


def surroundings(folder: Path, threads: int) -> dict[str, str]:
    """Return the environment of a run: this copy of the code, no network, no cache from before, so many threads."""
    root = str(Path(__file__).parents[1])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")])),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": str(threads),
        "FINETUNE_CACHE": str(folder / "cache"),
        "HF_DATASETS_CACHE": str(folder / "datasets"),
    }


@dataclass(frozen=True)
class Timing:
    """What a command took.

    wall_s: from its start to its end. cpu_s: processor time of it and its children, which a busy machine hardly
    changes. others_share: share (0 to 1) of all processor time that other processes used meanwhile.
    """

    wall_s: float
    cpu_s: float
    others_share: float


def timed(command: Sequence[str], environment: Mapping[str, str], returns: int = 0) -> Timing:
    """Run a command and time it; raises RuntimeError with its last words when it does not return `returns`."""
    busy, cpu, began = busy_s(), _children_cpu_s(), time.perf_counter()
    done = subprocess.run(command, env=dict(environment), capture_output=True, text=True, check=False)
    wall_s, cpu_s = time.perf_counter() - began, _children_cpu_s() - cpu
    if done.returncode != returns:
        raise RuntimeError(f"{' '.join(command)} returned {done.returncode}:\n{done.stderr[-2000:]}")
    return _timing(busy, cpu_s, wall_s)


def timed_until(command: Sequence[str], environment: Mapping[str, str], reached: Callable[[], bool]) -> Timing:
    """Run a command until `reached` says yes, time that, and kill it; raises RuntimeError when it ends before."""
    busy, began = busy_s(), time.perf_counter()
    with tempfile.TemporaryFile() as said:
        started = subprocess.Popen(command, env=dict(environment), stdout=said, stderr=said)
        try:
            while not reached():
                if started.poll() is not None:
                    said.seek(0)
                    last_words = said.read().decode(errors="replace")[-2000:]
                    raise RuntimeError(f"{' '.join(command)} ended too early:\n{last_words}")
                time.sleep(_LOOK_EVERY_S)
            wall_s, times = time.perf_counter() - began, psutil.Process(started.pid).cpu_times()
            return _timing(busy, times.user + times.system + times.children_user + times.children_system, wall_s)
        finally:
            started.kill()
            started.wait()


def _timing(busy_before_s: float, cpu_s: float, wall_s: float) -> Timing:
    others_s = max(0.0, busy_s() - busy_before_s - cpu_s)
    # The system counts in ticks of 10 ms, which over a short command may come to more than there was.
    return Timing(wall_s, cpu_s, min(1.0, others_s / (wall_s * (psutil.cpu_count() or 1))))


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return {word for line in lines if line.lower().startswith(("flags", "features")) for word in line.split()}
    except OSError:  # not Linux: the architecture's name must do
        return set()
