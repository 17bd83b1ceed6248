"""Have a recipe tried out in a process of its own, which needs torch; this module does not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.errors import FinetuneError
from finetune.recipe.load import dump_recipe
from finetune.recipe.schema import Recipe
from finetune.training.launch import end_with_launcher, module_process

FOUND, MEASURED, ERROR = "found.json", "measured.json", "error.json"
"""What the probe writes: what it found before the first step, what it measured, an error that the user can mend."""
LONGEST_MEASURING_S = 60.0
_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
_NO_PROBE = "finetune estimate --no-probe counts without a step."

Section = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What the probe found and, if it was asked to measure and came to an end in time, what it measured."""

    found: Section
    measured: Section | None = None
    note: str | None = None


def ask(
    recipe: Recipe,
    measure: bool,
    country: str | None = None,
    region: str | None = None,
    limit_s: float = LONGEST_MEASURING_S,
    module: str = "finetune.estimate.probe",
) -> Answer:
    """Try a recipe and return what was found; nothing is left behind but what the caches keep.

    Reading and tokenising the data takes as long as it does in the run, which then finds it in the cache; a probe that
    has not ended `limit_s` after that is ended. Raises FinetuneError for what the run would be refused for, and
    when the probe fails.
    """
    with _ended_by_sigterm(), tempfile.TemporaryDirectory(prefix="finetune-estimate-") as name:
        folder = Path(name)
        (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
        words = [name, "measure" if measure else "count", country or "", region or ""]
        command, environment = module_process(module, *words)
        with (folder / "said.txt").open("wb") as said:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                preexec_fn=end_with_launcher(),
            )  # fmt: skip
            try:
                in_time = _wait(process, folder / FOUND, limit_s)
            finally:
                _end(process)
        return _answer(folder, process.returncode if in_time else None, limit_s)


def _wait(process: subprocess.Popen[bytes], found: Path, limit_s: float) -> bool:
    """Wait until the probe ends; return False when it takes too long after it has found what there is to do."""
    deadline: float | None = None
    while process.poll() is None:
        if deadline is None and found.exists():
            deadline = time.monotonic() + limit_s
        if deadline is not None and time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a probe that still runs; it gets some seconds to take its sign off the machine."""
    process.terminate()
    try:
        process.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answer(folder: Path, code: int | None, limit_s: float) -> Answer:
    if (error := _read(folder / ERROR)) is not None:
        raise FinetuneError(error["message"], error["hint"])
    found = _read(folder / FOUND)
    measured = _read(folder / MEASURED)
    if code is None and found is not None:
        known = "what it had measured by then counts" if measured else "it had taken no step"
        return Answer(found, measured, f"the probe was not done within {limit_s:g} s, as steps take long: {known}")
    if code == 0 and found is not None:
        return Answer(found, measured)
    if code == -signal.SIGKILL:
        raise FinetuneError(
            "the probe was killed, most likely because the memory was too small",
            f"Try a smaller training.per_device_train_batch_size. {_NO_PROBE}",
        )
    lines = (folder / "said.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise FinetuneError(f"the probe failed (exit code {code}): {lines[-1] if lines else 'it said nothing'}", _NO_PROBE)


def _read(path: Path) -> Section | None:
    if not path.is_file():
        return None
    content: Section = json.loads(path.read_text(encoding="utf-8"))
    return content


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end this process as Ctrl-C does, so that the folder and the probe go with it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
