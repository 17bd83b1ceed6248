"""Tell whether a run is alive, and let only one process take it.

A live run keeps `alive.json` in its folder: which process it is, on which boot of which host, and when it last
gave a sign of life. On the same host the process itself is asked; from another host, or another container, only
the age of the last sign counts.
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.runs.files import write_atomically

FILE_NAME = "alive.json"
SILENT_AFTER_S = 600.0
"""Seconds without a heartbeat after which a run on another host counts as dead; beat at least once a minute."""


def claim_run(directory: Path) -> None:
    """Take a run directory for this process.

    Raises FinetuneError when another living process holds it. Two claims at the same moment cannot both win
    (on Windows, which lacks the lock, they could).
    """
    with _claim_lock(directory):
        holder = _read(directory)
        if holder is not None and is_holder_alive(holder) and not _is_this_process(holder):
            raise FinetuneError(
                f"{directory}: the run is alive (process {holder.get('pid')} on {holder.get('hostname')})",
                "Wait for it to end, or stop that process; then resume.",
            )
        _write(directory)


def heartbeat(directory: Path) -> None:
    """Give a sign of life for a run that this process has claimed."""
    _write(directory)


def release(directory: Path) -> None:
    """Give a run back; does nothing when another process holds it."""
    holder = _read(directory)
    if holder is not None and _is_this_process(holder):
        (directory / FILE_NAME).unlink(missing_ok=True)


def is_alive(directory: Path) -> bool:
    """Tell whether a living process holds the run."""
    holder = _read(directory)
    return holder is not None and is_holder_alive(holder)


def sign_of_life() -> dict[str, Any]:
    """Return what tells others that this process lives now: its id and start, the boot of its machine, the time."""
    return _this_process() | {"heartbeat_at": time.time()}


def _read(directory: Path) -> dict[str, Any] | None:
    try:
        holder = json.loads((directory / FILE_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # absent or unreadable: nobody who follows the protocol holds the run
    return holder if isinstance(holder, dict) else None


def _write(directory: Path) -> None:
    holder = sign_of_life() | {"hostname": socket.gethostname()}
    write_atomically(directory / FILE_NAME, json.dumps(holder) + "\n")


def is_holder_alive(holder: Mapping[str, Any]) -> bool:
    """Tell whether the process that gave a sign of life is alive."""
    here = _this_process()
    if all(holder.get(key) == here[key] for key in ("boot_id", "pid_namespace")):
        started = _process_started(holder.get("pid"))
        # A process number is used again after a while; the start time tells the two apart.
        return started is not None and started == holder.get("process_started")
    beat = holder.get("heartbeat_at")
    return isinstance(beat, int | float) and time.time() - beat < SILENT_AFTER_S


def _is_this_process(holder: dict[str, Any]) -> bool:
    return all(holder.get(key) == value for key, value in _this_process().items())


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"pid": pid, "process_started": _process_started(pid), **_this_machine()}


@cache
def _this_machine() -> dict[str, str]:
    boot_id, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot_id.exists():
        # Containers share the boot of their host but number their processes apart.
        return {"boot_id": boot_id.read_text().strip(), "pid_namespace": os.readlink(namespace)}
    import psutil

    return {"boot_id": f"{socket.gethostname()}-{psutil.boot_time():.0f}", "pid_namespace": ""}


def _process_started(pid: Any) -> float | None:
    """Return when a process started, in the platform's own count, or None when there is no such process (any more)."""
    if not isinstance(pid, int) or isinstance(pid, bool) or pid <= 0:
        return None
    if Path("/proc/self/stat").exists():
        try:
            # After the command name, which may hold spaces and brackets: state, …, start time in ticks since boot.
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else float(fields[19])
    import psutil

    try:
        return round(float(psutil.Process(pid).create_time()), 1)
    except psutil.Error:
        return None


@contextmanager
def _claim_lock(directory: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        yield
        return
    # The folder itself is locked: no lock file to clean up, and the kernel frees it whatever happens.
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
