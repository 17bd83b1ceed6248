"""Start the processes of a run on this machine, pass signals on to them, and end them together."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import psutil

from finetune.console import say
from finetune.emissions.host import usable_processors
from finetune.text import plural
from finetune.training.interrupts import ending_signals

# What a rank may take to end by itself once another has: write its record, tell what happened.
_GRACE_SECONDS = 60.0
_POLL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


def launch(arguments: Sequence[str], options: Mapping[str, object], count: int) -> int:
    """Run `finetune run` in `count` processes that work together, and return the first one's exit code.

    SIGINT, SIGTERM and SIGHUP reach all of them. The first process talks; of the others only an unexpected end is
    shown. A process killed by a signal counts as 128 + its number, as in a shell.
    """
    return launch_until_told(arguments, options, count)[0]


def launch_until_told(
    arguments: Sequence[str], options: Mapping[str, object], count: int | None, shows_result: bool = True
) -> tuple[int, int | None]:
    """Do as `launch` does and return the exit code with the signal that came meanwhile, None when none did.

    A count of None is one process that works alone, as if it had been started by hand. `shows_result` lets the first
    process print on stdout.
    """
    alone = count is None
    words = ["run", *arguments, *([] if alone else [f"--num-processes={count}"]), *_as_words(options)]
    environment = dict(os.environ) if alone else _environment(count or 1)
    if not alone:
        threads = plural(int(environment["OMP_NUM_THREADS"]), "thread")
        say(f"{plural(count or 1, 'process', 'processes')} with {threads} each")
    processes: list[subprocess.Popen[bytes]] = []
    received: list[int] = []

    def forward(signum: int, frame: Any = None) -> None:
        received.append(signum)
        for process in processes:
            if process.poll() is None:
                process.send_signal(signum)

    with ExitStack() as cleanup:
        errors = [cleanup.enter_context(tempfile.TemporaryFile()) for _ in range(1, count or 1)]
        for number in ending_signals():
            cleanup.callback(signal.signal, number, signal.signal(number, forward))
        cleanup.callback(_kill, processes)
        for rank in range(count or 1):
            own = environment | ({} if alone else _place(rank))
            processes.append(_start(words, own, errors[rank - 1] if rank else None, shows_result and rank == 0))
        for signum in received[:1]:  # it came while they were started
            forward(signum)
        _wait(processes)
        for rank, error in enumerate(errors, 1):
            _show_unexpected(rank, processes[rank].returncode, error)
    code = processes[0].returncode
    return 128 - code if code < 0 else code, received[0] if received else None


def _as_words(options: Mapping[str, object]) -> list[str]:
    given = {name: value for name, value in options.items() if value not in (None, False)}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def _environment(count: int) -> dict[str, str]:
    """Return the environment that all ranks share: where they meet, and their part of the cores."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Nothing leaves the machine, whatever its own name resolves to.
    loopback = {"GLOO_SOCKET_IFNAME": "lo"} if "lo" in (name for _, name in socket.if_nameindex()) else {}
    return {
        "OMP_NUM_THREADS": str(max(1, _cores() // count)),
        **loopback,
        **os.environ,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _cores() -> int:
    usable = usable_processors()
    return min(usable, psutil.cpu_count(logical=False) or usable)


def _place(rank: int) -> dict[str, str]:
    return {"RANK": str(rank), "LOCAL_RANK": str(rank)}


def module_process(module: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """Return command and environment of a process that runs one of our modules, whatever the working folder holds."""
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    # -P keeps a torch.py or random.py of the working folder out of the way.
    return [sys.executable, "-P", "-m", module, *words], environment


def _command(words: Sequence[str]) -> list[str]:
    # A folder named finetune, where the command was typed, must not be taken for the package.
    safe = [] if sys.path[0] in ("", os.getcwd()) else ["-P"]
    return [sys.executable, *safe, "-m", "finetune", *words]


def _start(
    words: Sequence[str], environment: dict[str, str], error: IO[bytes] | None, talks: bool
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        _command(words),
        env=environment,
        stdout=None if talks else subprocess.DEVNULL,
        stderr=error,
        preexec_fn=end_with_launcher(),
    )


def end_with_launcher() -> Callable[[], object] | None:
    """Return what makes a process get SIGTERM when its launcher is killed: it saves its state and ends."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait until all have ended; once one has failed, or the first has ended, the others get a minute."""
    deadline: float | None = None
    while any(process.poll() is None for process in processes):
        ending = processes[0].poll() is not None or any(process.poll() for process in processes)
        if ending and deadline is None:
            deadline = time.monotonic() + _GRACE_SECONDS
        if deadline is not None and time.monotonic() > deadline:
            return
        time.sleep(_POLL_SECONDS)


def _kill(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def _show_unexpected(rank: int, code: int | None, error: IO[bytes]) -> None:
    ended_by = ending_signals()
    if code in (
        0,
        1,
        *(128 + number for number in ended_by),
        *(-number for number in ended_by),
    ):  # with these, rank 0 has said why
        return
    how = "did not end" if code is None else f"ended with {code}" if code > 0 else f"was killed (signal {-code})"
    say(f"process {rank} {how}")
    error.seek(0)
    print(error.read().decode(errors="replace"), end="", file=sys.stderr, flush=True)
