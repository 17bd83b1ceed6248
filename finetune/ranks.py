"""The processes (ranks) of one run: who this one is, and what they tell each other.

A process that was started alone is rank 0 of 1; then every function here returns at once and torch is not imported.
Values for people and files are rank 0's business: it computes them and tells the others, so that nothing that one rank
alone knows can decide what the ranks do next. All of it goes over the processors' own connections (gloo), never over
the GPUs'. Several ranks are started by `finetune run --num-processes`, torchrun or accelerate launch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from finetune.errors import FinetuneError
from finetune.text import first_line, plural

T = TypeVar("T")

_ENDED = "finetune/ended"
_POLL_SECONDS = 0.1
# How gloo and NCCL say that nobody answers; the last two when the other is silent for too long.
_LOST = ("gloo", "nccl", "by peer", "timeout caused pair closure", "timed out waiting")
_PATIENCE_SECONDS = 600


class OtherRankFailed(FinetuneError):
    """An error that another rank met; only rank 0 shows it."""


@dataclass
class _Joined:
    """The ranks' common notebook (a key-value store), and how often they have taken turns."""

    store: Any
    turns: int = 0


_joined: _Joined | None = None


def size() -> int:
    """Return how many processes work on this run."""
    return _number("WORLD_SIZE", 1)


def are_launched() -> bool:
    """Tell whether a launcher has started this process as one of several."""
    return "WORLD_SIZE" in os.environ


def rank() -> int:
    """Return the number of this process among all of the run, from 0."""
    return _number("RANK", 0) if size() > 1 else 0


def is_main() -> bool:
    """Tell whether this is rank 0: it alone talks, and writes the run directory."""
    return rank() == 0


def is_local_main() -> bool:
    """Tell whether this is the first process on its machine: it meters the machine and fills the machine's caches."""
    return size() == 1 or _number("LOCAL_RANK", 0) == 0


def local_size() -> int:
    """Return how many processes of the run are on this machine."""
    return _number("LOCAL_WORLD_SIZE", size())


def _number(name: str, default: int) -> int:
    stated = os.environ.get(name, "")
    return int(stated) if stated.isdigit() else default


@contextmanager
def joined(asked: int | None = None) -> Iterator[None]:
    """Meet the other ranks, and leave them at the end.

    `asked` is how many processes the user wants. Raises FinetuneError when there are others, or more than GPUs.
    """
    global _joined
    check_size(asked)
    if size() == 1:
        yield
        return
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    on_gpu = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() not in ("1", "true")
    if on_gpu and local_size() > torch.cuda.device_count():
        raise FinetuneError(
            f"{plural(local_size(), 'process', 'processes')} on a machine with "
            f"{plural(torch.cuda.device_count(), 'GPU')}",
            "Start one process a GPU; to train on processors, hide the GPUs: CUDA_VISIBLE_DEVICES=",
        )
    patience = _patience()
    if on_gpu:
        torch.cuda.set_device(_number("LOCAL_RANK", 0))
    try:
        store, *_ = next(iter(rendezvous("env://")))
        # Accelerate takes a group that is there as it is. Tensors on processors always go over gloo.
        backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
        distributed.init_process_group(backend, store=store, rank=rank(), world_size=size(), timeout=patience)
    except (ValueError, RuntimeError) as error:
        raise FinetuneError(
            f"{size()} processes were started (WORLD_SIZE), but they did not meet: {first_line(error)}",
            "Start them with finetune run --num-processes, torchrun or accelerate launch, which say where to meet.",
        ) from error
    _joined = _Joined(store)
    try:
        yield
    finally:
        _joined = None
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _patience() -> timedelta:
    """Return how long a rank waits for another before the run counts as broken.

    A process that is killed is noticed at once; this is for a machine that falls silent. It must be longer than what
    rank 0 does alone, such as writing a checkpoint.
    """
    stated = os.environ.get("FINETUNE_TIMEOUT_S", "").strip() or str(_PATIENCE_SECONDS)
    if not stated.isdigit() or int(stated) == 0:
        raise FinetuneError(f"FINETUNE_TIMEOUT_S: found {stated!r}, expected a number of seconds", "Leave it out: 600.")
    return timedelta(seconds=int(stated))


def check_size(asked: int | None) -> None:
    """Raise FinetuneError when the number of processes is not the one asked for (None: any)."""
    if asked is not None and asked != size():
        raise FinetuneError(
            f"--num-processes {asked}, but a launcher started {plural(size(), 'process', 'processes')} (WORLD_SIZE)",
            "Leave --num-processes out under torchrun or accelerate launch, or start finetune without them.",
        )


def broadcast(value: T) -> T:
    """Return rank 0's value on every rank."""
    if _joined is None:
        return value
    from torch import distributed

    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def on_main(function: Callable[[], T]) -> T:
    """Call a function on rank 0 alone and return its value on every rank."""
    return broadcast(function() if is_main() else None)  # type: ignore[return-value]


def gather(value: T) -> list[T]:
    """Return the values of all ranks, by rank, on rank 0; an empty list on the others."""
    if _joined is None:
        return [value]
    from torch import distributed

    values: list[Any] | None = [None] * size() if is_main() else None
    distributed.gather_object(value, values, dst=0)
    return values or []


def everywhere(value: T) -> list[T]:
    """Return the values of all ranks, by rank, on every rank."""
    return broadcast(gather(value))


def largest(value: int) -> int:
    """Return the largest of the ranks' numbers on every rank; with 0 and 1: whether any rank says yes."""
    return _reduced(value, "MAX")


def total(value: int) -> int:
    """Return the sum of the ranks' numbers on every rank."""
    return _reduced(value, "SUM")


def _reduced(value: int, operation: str) -> int:
    if _joined is None:
        return value
    import torch
    from torch import distributed

    number = torch.tensor(value, dtype=torch.int64)
    distributed.all_reduce(number, getattr(distributed.ReduceOp, operation))
    return int(number)


def share(items: Sequence[T], filler: Callable[[T], T]) -> list[tuple[T, bool]]:
    """Deal items out like cards, one to each rank in turn, and return this rank's as (item, counts).

    Every rank gets equally many, since a rank that computes less would leave the others waiting: what is missing is
    filled up with `filler(last item)`, which does not count.
    """
    own = [(item, True) for item in items[rank() :: size()]]
    missing = -(-len(items) // size()) - len(own)
    return own + ([(filler(items[-1]), False)] if missing else [])


@contextmanager
def local_main_first() -> Iterator[None]:
    """Let the first process of each machine do something before the others: they find it done (read, cached).

    The others wait asleep, without a time limit, and a signal reaches them.
    """
    if _joined is None:
        yield
        return
    _joined.turns += 1
    key = f"finetune/turn/{_joined.turns}/{_number('GROUP_RANK', 0)}"
    while not is_local_main() and not _joined.store.check([key]):
        if _joined.store.check([_ENDED]):
            raise told(json.loads(_joined.store.get(_ENDED)))
        time.sleep(_POLL_SECONDS)
    yield
    if is_local_main():
        _joined.store.set(key, "done")


def report_end(reason: dict[str, Any]) -> dict[str, Any] | None:
    """Write down why this rank ends early and return the first such report of all ranks; None: they are gone.

    A report is {rank, kind: failed | lost | interrupted, message, hint, signum}.
    """
    if _joined is None:
        return reason
    try:
        written = _joined.store.compare_set(_ENDED, "", json.dumps(reason))
    except RuntimeError:  # rank 0 kept the notebook and is gone
        return None
    first: dict[str, Any] = json.loads(written)
    return first


def told(report: dict[str, Any] | None) -> FinetuneError:
    """Return the error that stands for another rank's."""
    if report is None:
        return OtherRankFailed("process 0 of this run has ended")
    whose = "" if report["kind"] == "lost" else f"process {report['rank']}: "
    return OtherRankFailed(whose + report["message"], report["hint"])


def has_lost_contact(error: BaseException) -> bool:
    """Tell whether an error only says that another rank is gone."""
    if _joined is None or not isinstance(error, RuntimeError):
        return False
    from torch.distributed import DistError

    return isinstance(error, DistError) or any(word in str(error).lower() for word in _LOST)
