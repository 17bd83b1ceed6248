"""Who is at which trial: signs of life while it is made, and trials whose worker is gone, which wait to go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from finetune.console import say
from finetune.runs.liveness import is_holder_alive, sign_of_life
from finetune.sweep.account import Entry
from finetune.sweep.store import Store, TakenOver
from finetune.sweep.trial import runs_of, spent_by
from finetune.text import first_line

_SIGN_SECONDS = 60.0
_DRAW_SECONDS = 0.05


def take_up_the_dead(store: Store) -> None:
    """Give up the trials whose worker is gone, so that somebody goes on with them; what they used is written down."""
    for entry in store.entries():
        if entry.state != "running" or _is_held(entry):
            continue
        runs = runs_of(store.sweep, entry)
        if any(run.is_alive for run in runs.values()):
            continue  # it is saving its state still
        if release(store, entry):
            say(f"trial {entry.label}: its worker is gone; it goes on")


def wait_for_earlier_draws(store: Store, own: Entry) -> None:
    """Wait until those that were drawn before have their values, so that of the same ones only the first are made."""
    while any(_is_drawn(entry) for entry in store.entries() if entry.number < own.number):
        time.sleep(_DRAW_SECONDS)


def release(store: Store, entry: Entry) -> bool:
    """Let a trial wait to be gone on with; False when another worker has seen to it."""
    runs = runs_of(store.sweep, entry)
    spent = spent_by(runs)
    if not runs and entry.granted:
        spent = {f"trial-{entry.number}-elsewhere": None}
    try:
        store.note(entry.number, spent=spent, runs={seed: run.run_id for seed, run in runs.items()})
        return store.give_up(store.entry(entry.number))
    except TakenOver:
        return False


@contextmanager
def signs_of_life(store: Store, entry: Entry, every_s: float = _SIGN_SECONDS) -> Iterator[None]:
    """Tell workers on other machines, which cannot ask for the process, that this one lives."""
    ended = threading.Event()

    def beat() -> None:
        said = False
        while not ended.wait(every_s):
            try:
                store.note(entry.number, holder=sign_of_life())
            except TakenOver:
                return  # the worker learns it when it writes something down itself
            except Exception as error:  # drivers of databases raise what they like; the next sign may come through
                if not said:
                    say(f"trial {entry.label}: no sign of life could be written, which is tried again: "
                        f"{first_line(error)}")  # fmt: skip
                said = True

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _is_drawn(entry: Entry) -> bool:
    """Tell whether a worker draws the values of an entry at this moment: it signs when it has them."""
    return entry.state == "running" and entry.holder is None and entry.age_s < _SIGN_SECONDS


def _is_held(entry: Entry) -> bool:
    """Tell whether a worker is at a running trial; one that was drawn just now has not signed yet."""
    return _is_drawn(entry) if entry.holder is None else is_holder_alive(entry.holder)
