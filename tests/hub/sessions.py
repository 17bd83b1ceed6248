"""Run commands against a hub at an address, in a process of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Answer:
    """What a command gave: its exit code, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """Return the run record that --json printed."""
        assert self.code == 0, self.err
        return dict(json.loads(self.out))

    @property
    def error(self) -> tuple[str, str]:
        """Return the one error as (message, hint); anything else fails the test."""
        assert self.code == 1, self.out + self.err
        assert "Traceback" not in self.err
        lines = self.err.splitlines()
        (message,) = [line for line in lines if line.startswith("error: ")]
        (hint,) = [line for line in lines if line.startswith("hint: ")]
        assert lines[-2:] == [message, hint], self.err
        return message, hint


def run_commands(
    folder: Path, url: str, commands: Sequence[Sequence[str]], impatient: bool = False, **variables: str
) -> list[Answer]:
    """Run commands one after the other in a folder, which also holds the caches, with a hub at an address."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "FINETUNE_"))}
    environment |= {
        "HF_ENDPOINT": url, "HF_HOME": str(folder / "hf"), "FINETUNE_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(ROOT), **variables,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "tests.hub.driver", *(["--impatient"] if impatient else [])],
        input=json.dumps(commands), capture_output=True, text=True, cwd=folder, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Answer(*answer) for answer in json.loads(done.stdout)]


def closed_address() -> str:
    """Return an address on this machine at which nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"
