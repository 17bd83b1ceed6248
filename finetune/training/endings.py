"""How the ranks of a run end together when one of them does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from finetune import ranks
from finetune.errors import FinetuneError
from finetune.training.interrupts import Interrupted


@contextmanager
def together(asked: int | None) -> Iterator[None]:
    """Work with the other ranks inside; whatever ends one of them early ends all, and rank 0 can say why."""
    with ranks.joined(asked):
        try:
            yield
        except BaseException as error:
            explained = agreed_ending(error)
            if explained is error:
                raise
            raise explained from error


def agreed_ending(error: BaseException) -> BaseException:
    """Tell the other ranks what ended this one, and return the error that stands for the run.

    An error of this rank's own stands. A lost connection stands for what the other rank said before it left.
    """
    if ranks.size() == 1:
        return error
    lost, interrupted = ranks.has_lost_contact(error), isinstance(error, Interrupted)
    first = ranks.report_end(_report(error, lost))
    if not lost and not (interrupted and first and first["kind"] == "failed"):
        return error
    if first and first["kind"] == "interrupted":
        return Interrupted(first["signum"])
    return ranks.told(first)


def _report(error: BaseException, lost: bool) -> dict[str, Any]:
    report = {"rank": ranks.rank(), "kind": "failed", "message": f"{type(error).__name__}: {error}", "hint": None}
    if lost:
        report |= {
            "kind": "lost",
            "message": "another process of this run ended without a word: it was killed, or its machine is gone",
            "hint": "Often there was too little memory. finetune run --resume goes on from the newest checkpoint.",
        }
    elif isinstance(error, Interrupted):
        report |= {"kind": "interrupted", "signum": error.signum}
    elif isinstance(error, FinetuneError):
        report |= {"message": error.message, "hint": error.hint}
    return report
