"""Two hosts on one machine: network namespaces joined by a cable, each with its own torchrun.

    python -m tests.training.two_hosts

trains the toy task on one process and on two hosts and compares the two. It needs root and iproute2 (`ip netns`);
tests/training/test_two_hosts.py uses the same hosts and does more to them.
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 240
EXACT = {"logging_steps": 1, "mixed_precision": "no"}
_numbers = itertools.count()


def why_not() -> str | None:
    """Return why hosts cannot be made here, None when they can."""
    if shutil.which("ip") is None:
        return "iproute2 is not installed: no `ip` command"
    name = f"ft{os.getpid()}x"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if made.returncode:
        return f"network namespaces may not be made here: {made.stderr.strip()}"
    cable = subprocess.run(
        ["ip", "link", "add", f"{name}0", "netns", name, "type", "veth", "peer", "name", f"{name}1", "netns", name],
        capture_output=True,
        text=True,
    )
    subprocess.run(["ip", "netns", "delete", name], check=True)
    return f"a veth pair may not be made here: {cable.stderr.strip()}" if cable.returncode else None


class TwoHosts:
    """Two network namespaces with a veth pair between them, taken down again at the end with all that runs in them.

    `apart` gives the second host its own empty folder at the place of `folder`, as machines without a common file
    system have it.
    """

    def __init__(self, folder: Path, *, apart: bool = False, **environment: str) -> None:
        number = next(_numbers)
        self.folder = folder
        self.names = [f"ft{os.getpid()}{letter}{number}" for letter in "ab"]
        self.addresses = ["10.87.0.1", "10.87.0.2"]  # seen by these two namespaces only
        self._devices = [f"{name}e"[-15:] for name in self.names]
        self._apart = folder.with_name(f"{folder.name}-of-the-second-host") if apart else None
        self._environment = environment
        self._port = 29500

    def __enter__(self) -> "TwoHosts":
        _clear_up_after_the_killed()
        with ExitStack() as undo:
            for name in self.names:
                _ip("netns", "add", name)
                undo.callback(_ip, "netns", "delete", name)
            first, second = self.names
            one, other = self._devices
            _ip("link", "add", one, "netns", first, "type", "veth", "peer", "name", other, "netns", second)
            for name, device, address in zip(self.names, self._devices, self.addresses, strict=True):
                _ip("-n", name, "addr", "add", f"{address}/24", "dev", device)
                _ip("-n", name, "link", "set", "lo", "up")
                _ip("-n", name, "link", "set", device, "up")
            undo.pop_all()
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._apart:
            self._apart.mkdir()
        return self

    def __exit__(self, *exception: object) -> None:
        for host, name in enumerate(self.names):
            self.kill(host)
            _ip("netns", "delete", name)

    def start(self, *arguments: str | Path) -> list[subprocess.Popen]:
        """Start `finetune run …` through torchrun on both hosts."""
        self._port += 1
        return [self._start(host, [str(argument) for argument in arguments]) for host in (0, 1)]

    def _start(self, host: int, arguments: list[str]) -> subprocess.Popen:
        torchrun = [
            *(sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", str(host)),
            *("--nproc-per-node", "1", "--master-addr", self.addresses[0], "--master-port", str(self._port)),
            *("-m", "finetune", "run", *arguments),
        ]
        if self._apart and host == 1:
            # ip netns exec works in a mount namespace of its own, so the first host does not see this.
            mounted = f'mount --bind "{self._apart}" "{self.folder}" && exec "$@"'
            torchrun = ["sh", "-c", mounted, "sh", *torchrun]
        environment = {
            **os.environ,
            "GLOO_SOCKET_IFNAME": self._devices[host],
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
            **self._environment,
        }
        return subprocess.Popen(
            ["ip", "netns", "exec", self.names[host], *torchrun],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def kill(self, host: int) -> None:
        """Kill every process of a host at once, as a power cut would."""
        _kill_all_in(self.names[host])

    def unplug(self) -> None:
        """Pull the cable out: nothing arrives any more, and nobody is told."""
        _ip("-n", self.names[0], "link", "set", self._devices[0], "down")

    def second_folder(self) -> Path:
        """Return where the second host's files lie."""
        return self._apart or self.folder


def _kill_all_in(name: str) -> None:
    while pids := _ip("netns", "pids", name).split():
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)


def _clear_up_after_the_killed() -> None:
    """Take down hosts whose maker was itself killed: their names begin with its process number."""
    for line in _ip("netns", "list").splitlines():
        made = re.match(r"ft(\d+)[abx]\d*\b", line)
        if made and not Path(f"/proc/{made[1]}").exists():
            _kill_all_in(made[0])
            _ip("netns", "delete", made[0])


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"ip {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout


def finish(processes: list[subprocess.Popen], patience_s: float = PATIENCE_S) -> list[tuple[int, str]]:
    """Wait for both hosts and return their exit codes and what they said."""
    ended = []
    for process in processes:
        out, err = process.communicate(timeout=patience_s)
        ended.append((process.returncode, out + err))
    return ended


def only_run(folder: Path) -> Path:
    """Return the one run directory of a folder."""
    [directory] = [path for path in folder.iterdir() if path.is_dir()]
    return directory


def losses(directory: Path) -> list[float]:
    """Return the loss of every step, from the log."""
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def main() -> int:
    """Train on one process and on two hosts; print both and return 1 when they differ."""
    from tests import tiny

    if reason := why_not():
        print(f"two hosts cannot be made: {reason}", file=sys.stderr)
        return 1
    import yaml

    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        rows = tiny.toy_rows()
        (root / "data").mkdir()
        for split, part in (("train", rows[:64]), ("validation", rows[64:80]), ("test", rows[80:])):
            (root / f"data/{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        recipe = {
            "task": "text-classification",
            "model": {"name_or_path": str(tiny.make_checkpoint("bert", root / "checkpoint"))},
            "dataset": {"path": str(root / "data")},
            "training": {"per_device_train_batch_size": 8, "learning_rate": 5e-3, **EXACT},
            "emissions": {"country_iso_code": "BRA"},
        }
        (root / "toy.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False))
        # The same batches of 16 rows either way.
        alone = subprocess.run(
            [
                *(sys.executable, "-m", "finetune", "run", root / "toy.yaml", f"output_dir={root / 'one'}"),
                "training.per_device_train_batch_size=16",
            ],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        )
        began = time.monotonic()
        with TwoHosts(root / "two") as hosts:
            ended = finish(hosts.start(root / "toy.yaml", f"output_dir={root / 'two'}"))
        print(f"two hosts: {time.monotonic() - began:.0f} s")
        for code, said in ended:
            print(f"exit code {code}\n{said}")
        if alone.returncode or any(code for code, _ in ended):
            return 1
        one, two = only_run(root / "one"), only_run(root / "two")
        record = json.loads((two / "run.json").read_text())
        print(json.dumps(record["emissions"]["nodes"], indent=2))
        difference = max(abs(a - b) for a, b in zip(losses(one), losses(two), strict=True))
        print(f"{len(losses(two))} steps, largest difference of a loss: {difference:.1e}")
        return int(difference > 1e-5 or [node["node"] for node in record["emissions"]["nodes"]] != [0, 1])


if __name__ == "__main__":
    sys.exit(main())
