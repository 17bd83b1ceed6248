"""What a run says while it works: notes and progress on stderr, never on stdout.

Somebody may stop listening: the terminal is closed, the connection lost, `| head` has seen enough. That ends no run.
"""

import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from finetune.ranks import is_main

_PLAIN_SECONDS = 5.0


def someone_watches() -> bool:
    """Tell whether stderr is a terminal; a log file or a CI job gets plain lines instead of bars."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def say(line: str) -> None:
    """Print one line for people on stderr; of several processes of a run only the first one does."""
    if is_main():
        print(line, file=sys.stderr, flush=True)


class _Lasting:
    """A text stream that falls silent when its reader is gone, instead of raising; all else is the stream's own.

    `gone` are the numbers of the errors that say so. Raises any other OSError with the stream's name.
    """

    def __init__(self, stream: TextIO, name: str, gone: frozenset[int]) -> None:
        self._stream, self._name, self._gone = stream, name, gone
        self._failed = False
        self.is_gone = False

    def write(self, text: str) -> int:
        """Write like any text stream."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._take(error)
            return len(text)

    def flush(self) -> None:
        """Flush like any text stream."""
        try:
            self._stream.flush()
        except OSError as error:
            self._take(error)

    def end(self) -> None:
        """Drop what could not be written, which Python would try once more at its end."""
        if self._failed:
            self._fall_silent()

    def _take(self, error: OSError) -> None:
        if error.errno in self._gone:
            self.is_gone = True
            self._fall_silent()
            return
        self._failed = True
        raise OSError(error.errno, error.strerror, self._name) from error

    def _fall_silent(self) -> None:
        # The null device takes the stream's place, for C code too.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


_READER_GONE = frozenset({errno.EPIPE, errno.EIO, errno.ENXIO})
# Under stderr a full disk loses words only; under stdout it loses the result.
_UNSAID = _READER_GONE | {errno.ENOSPC, errno.EDQUOT, errno.EBADF}


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let stdout and stderr fall silent, without an error, once nobody reads them any more."""
    before = sys.stdout, sys.stderr
    # A process that was started with one of them closed has None there, and its next file would take that number.
    stdout, stderr = (stream or open(os.devnull, "w", encoding="utf-8") for stream in before)  # noqa: SIM115
    lasting_stdout = _Lasting(stdout, "stdout", _READER_GONE)
    lasting_stderr = _Lasting(stderr, "stderr", _UNSAID)
    sys.stdout, sys.stderr = lasting_stdout, lasting_stderr  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        lasting_stdout.end()


def reader_is_gone(stream: TextIO) -> bool:
    """Tell whether what is written to a stream of `lasting_streams` goes nowhere, since its reader is gone."""
    return bool(getattr(stream, "is_gone", False))


@contextmanager
def progress(description: str, total: int, start: int = 0) -> Iterator[Callable[[int, str], None]]:
    """Show how far long work has come; the yielded function takes (units done so far, a few words).

    On a terminal a bar; elsewhere a plain line at each tenth of the way, five seconds apart at the least.
    """
    if not (someone_watches() and is_main()):
        yield _plain_lines(description, total, start)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(description, total=total, completed=start, words="")

        def advance(done: int, words: str = "") -> None:
            bar.update(task, completed=done, words=words)

        yield advance


def _plain_lines(description: str, total: int, start: int) -> Callable[[int, str], None]:
    last_tenth, last_time = 10 * start // max(total, 1), time.monotonic()

    def advance(done: int, words: str = "") -> None:
        nonlocal last_tenth, last_time
        tenth, now = 10 * done // max(total, 1), time.monotonic()
        if tenth > last_tenth and now - last_time > _PLAIN_SECONDS:
            last_tenth, last_time = tenth, now
            say(f"{description}: {done}/{total} {words}".rstrip())

    return advance


def quiet_libraries() -> None:
    """Silence the libraries' own bars and reports; what matters of them is said in our words.

    Must run before transformers, datasets or huggingface_hub are imported.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # it advises on how the ranks exchange gradients
    os.environ.setdefault("DATASETS_VERBOSITY", "error")
    if not someone_watches():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    for name in ("codecarbon", "accelerate", "torch.distributed", "httpx", "filelock"):
        logging.getLogger(name).setLevel(logging.ERROR)
