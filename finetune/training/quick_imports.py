"""Heavy imports without the garbage collector, which would look through all that they define and find nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quick_imports() -> Iterator[None]:
    """Switch the cyclic garbage collector off inside.

    The first time in a process, what is loaded by then (the libraries) is also taken out of every later collection;
    not again, since what an earlier run left behind must stay collectable.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:
            gc.freeze()
        if was_on:
            gc.enable()
