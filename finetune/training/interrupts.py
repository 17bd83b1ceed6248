"""Ctrl-C, SIGTERM and a lost terminal (SIGHUP), taken at a place where nothing is lost."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

_SAME_WISH_SECONDS = 10.0


def ending_signals() -> list[int]:
    """Return the signals that end a run; SIGHUP stays ignored where it is, which is all that nohup does."""
    hangup: int | None = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is None or signal.getsignal(hangup) is signal.SIG_IGN:
        return [signal.SIGINT, signal.SIGTERM]
    return [signal.SIGINT, signal.SIGTERM, hangup]


def interruption(code: int, signum: int | None) -> int | None:
    """Return the exit code of a run that a signal ended, None for any other; `signum` is what reached its launcher."""
    by_signal = signum is not None or code in (129, 130, 143)  # 128 + SIGHUP, SIGINT, SIGTERM
    return code or 128 + (signum or 0) if by_signal else None


class Interrupted(BaseException):
    """Leave the run because of a signal; a BaseException, so that no library's `except Exception` eats it."""

    directory: Path | None = None  # the run that it interrupted

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


class Interrupts:
    """The signals of one run.

    Outside `deferred()` a signal raises Interrupted at once. Inside, it is only remembered until `check()` is called
    at a safe place. Signals that follow within ten seconds are the same wish once more (a second Ctrl-C, a launcher
    that passes SIGTERM on) and must not break the saving off; a later one does not wait.
    """

    def __init__(self) -> None:
        self._deferring = False
        self._pending: int | None = None
        self._raised: int | None = None
        self._last_taken = -math.inf
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        # Python takes signals in the main thread only; a run started elsewhere leaves them to its host.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._take) for number in ending_signals()}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._last_taken < _SAME_WISH_SECONDS:
            return
        self._last_taken = now
        if self._deferring and self._pending is None:
            self._pending = signum
            return
        self._raised = signum
        raise Interrupted(signum)

    def meant(self, error: BaseException) -> BaseException:
        """Return the Interrupted that a library swallowed and that `error` came of, else `error`.

        An extension module that is broken off in its import tells of it as it likes, and is no module afterwards.
        """
        if self._raised is None or isinstance(error, Interrupted):
            return error
        return Interrupted(self._raised) if time.monotonic() - self._last_taken < _SAME_WISH_SECONDS else error

    def check(self, agree: Callable[[int], int] = lambda own: own) -> None:
        """Raise Interrupted when a signal is waiting; `agree` turns this rank's (0: none) into that of all ranks."""
        signum = agree(self._pending or 0)
        if signum:
            self.settle()
            raise Interrupted(signum)

    def settle(self) -> None:
        """Take the next signals as the wish that is being fulfilled: a launcher's may come late, or to each rank."""
        self._last_taken = time.monotonic()

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold the first signal back until the next `check()`."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
