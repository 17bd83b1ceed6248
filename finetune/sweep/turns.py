"""Workers on one machine take turns: two runs at once would each meter the whole machine."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finetune.console import say
from finetune.emissions.neighbours import host_folder, living_runs
from finetune.errors import FinetuneError
from finetune.text import join_words

_POLL_SECONDS = 0.5


def wait_until_alone(top: Path | None = None) -> None:
    """Wait until no run is metered on this machine: the energy of two at once is nobody's own."""
    said = False
    while others := living_runs(top):
        if not said:
            say(f"waiting for {join_words(others, 'and')} to end: beside it the energy of a trial is not its own; "
                "--allow-shared does not wait")  # fmt: skip
        said = True
        time.sleep(_POLL_SECONDS)


@contextmanager
def turn(top: Path | None = None) -> Iterator[None]:
    """Hold this user's turn on this machine; the kernel gives it back when the process ends, however it does."""
    folder = (host_folder() if top is None else top) / f"finetune-turns-{os.getuid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / "turn.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise FinetuneError(
            f"{folder}: workers cannot take turns here: {error.strerror}",
            "FINETUNE_HOST_FOLDER names another folder; --allow-shared does without turns.",
        ) from error
    try:
        _wait_for(handle)
        yield
    finally:
        os.close(handle)


def _wait_for(handle: int) -> None:
    said = False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not said:
                say("another worker on this machine makes a trial: waiting for its turn to end")
            said = True
            time.sleep(_POLL_SECONDS)
        else:
            return
