"""What a run says while it works: notes and progress on stderr, never on stdout."""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from finetune.ranks import is_main

_PLAIN_SECONDS = 5.0


def someone_watches() -> bool:
    """Tell whether stderr is a terminal; a log file or a CI job gets plain lines instead of bars."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def say(line: str) -> None:
    """Print one line for people on stderr; of several processes of a run only the first one does."""
    if is_main():
        print(line, file=sys.stderr, flush=True)


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
