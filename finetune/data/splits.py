"""Which split plays which part, and seeded, stratified samples of rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.errors import FinetuneError
from finetune.text import did_you_mean, join_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy

DEFAULT_VALIDATION_SHARE = 0.1
_PIECE_ROWS = 1 << 16
_VALIDATION_WORDS = ("valid", "val", "dev")


@dataclass(frozen=True)
class Chosen:
    """The source's name of each split; None: there is none. `test_found`: the recipe did not ask for the test split."""

    train: str
    validation: str | None
    test: str | None
    test_found: bool
    notes: tuple[str, ...]


def choose_splits(names: Sequence[str], wanted: Any) -> Chosen:
    """Match the splits of a source with the recipe's `splits` (train, validation, test).

    A name that is not the default and does not exist is an error that lists those that do. A single split is
    train, whatever it is called. A split named test is taken along when the recipe names none.
    """
    notes: list[str] = []
    train = wanted.train
    if train not in names:
        if train != "train" or len(names) != 1:
            raise _no_split("train", train, names)
        train = names[0]
        notes.append(f"The data has one split, {train}; it is used as train.")
    validation = _validation(names, wanted.validation, train, notes)
    test = wanted.test
    if test is not None and test not in names:
        raise _no_split("test", test, names)
    test_found = test is None and "test" in names and "test" not in (train, validation)
    test = "test" if test_found else test
    for part, name in (("validation", validation), ("test", test)):
        if name is not None and name in (train, validation if part == "test" else None):
            raise FinetuneError(
                f"dataset.splits.{part}: {name} already serves for training or for choosing the model",
                "Name another split, or leave it out.",
            )
    return Chosen(train, validation, test, test_found, tuple(notes))


def _validation(names: Sequence[str], wanted: str | None, train: str, notes: list[str]) -> str | None:
    if wanted is None or wanted in names:
        return wanted
    if wanted != "validation":
        raise _no_split("validation", wanted, names)
    for word in _VALIDATION_WORDS:
        if word in names and word != train:
            notes.append(f"validation: the split {word} is used.")
            return word
    alike = [name for name in names if name.startswith(("validation", "dev_", "val_")) and name != train]
    if alike:
        raise FinetuneError(
            f"dataset.splits.validation: the data has no split validation, but {join_words(alike, 'and')}",
            f"Name one: dataset.splits.validation: {alike[0]}",
        )
    return None


def _no_split(part: str, name: str, names: Sequence[str]) -> FinetuneError:
    near = did_you_mean(name, names)
    hint = f"Did you mean {near}?" if near else f"Name one of them: dataset.splits.{part}"
    if "[" in name:
        hint = "Slices are no split names; use dataset.validation_size, max_train_samples or max_eval_samples."
    return FinetuneError(
        f"dataset.splits.{part}: the data has no split {name}; it has {join_words(names, 'and')}", hint
    )


def seeded_order(rows: int, seed: int, purpose: str) -> numpy.ndarray:
    """Return a permutation of `rows` that depends on seed and purpose alone, on every machine and version.

    Rows are sorted by splitmix64 of their number (Steele, Lea and Flood 2014), since the streams of numpy's
    generators may change between versions.
    """
    import numpy

    return numpy.asarray(numpy.argsort(_mixed(rows, seed, purpose), kind="stable"))


def _mixed(rows: int, seed: int, purpose: str) -> numpy.ndarray:
    """Return splitmix64 of the numbers of the rows; it is a bijection, so no two are equal."""
    import numpy

    start = int.from_bytes(hashlib.sha256(f"{seed}:{purpose}".encode()).digest()[:8], "little")
    mixed = numpy.arange(1, rows + 1, dtype=numpy.uint64)
    for first in range(0, rows, _PIECE_ROWS):
        piece = mixed[first : first + _PIECE_ROWS]
        piece *= numpy.uint64(0x9E3779B97F4A7C15)
        piece += numpy.uint64(start)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            piece ^= piece >> numpy.uint64(shift)
            piece *= numpy.uint64(factor)
        piece ^= piece >> numpy.uint64(31)
    return mixed


def sample_rows(
    rows: int,
    count: int,
    strata: numpy.ndarray | None,
    seed: int,
    purpose: str,
    leave: int = 0,
    by_lot: bool = False,
) -> numpy.ndarray:
    """Choose `count` of `rows`, seeded, in the proportions of `strata` (one group number a row); None: at random.

    A larger sample holds all rows of a smaller one. `leave` rows of each group are never taken, so that a class cannot
    vanish from what is left; fewer rows than asked for may then come back. If none are left, no group gets a second row
    before each has one; `by_lot`, for groups that are too many for that, lets lots decide whose rows come first.
    Indices are sorted.
    """
    import numpy

    mixed = _mixed(rows, seed, purpose)
    if strata is None:
        return numpy.sort(numpy.argpartition(mixed, count)[:count]) if count < rows else numpy.arange(rows)
    groups, sizes = _groups(strata)
    # Ties between equal shares are broken by a seeded order too, not by the name of the group.
    quota = _quotas(sizes, count, leave, seeded_order(len(sizes), seed, purpose + ":ties"), by_lot)
    by_group = numpy.lexsort((mixed, groups))
    starts = numpy.cumsum(sizes) - sizes
    taken = [by_group[start : start + number] for start, number in zip(starts, quota, strict=True)]
    return numpy.sort(numpy.concatenate(taken))


def _groups(strata: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the number of each row's group, in the order of the strata, and the sizes of the groups."""
    import numpy

    if strata.dtype.kind == "i" and len(strata) and strata.min() >= 0 and strata.max() < len(strata):
        counts = numpy.bincount(strata)
        return (numpy.cumsum(counts > 0) - 1).astype(numpy.int32)[strata], counts[counts > 0]
    _, groups, sizes = numpy.unique(strata, return_inverse=True, return_counts=True)
    return groups, sizes


def _quotas(sizes: numpy.ndarray, count: int, leave: int, lots: numpy.ndarray, by_lot: bool) -> numpy.ndarray:
    """Share `count` out among groups, within what each has to give.

    The row number k (from 0) of a group is due at (k + 1/2) / size, the method of Webster and Sainte-Laguë, or with
    `by_lot` at (k + the group's lot) / size; the `count` rows that are due first are taken. No quota falls when `count`
    grows, which largest remainders do not promise (the Alabama paradox: M. Balinski and H. Young, Fair Representation,
    1982). Unless `by_lot` or some are left, first rows are due before any second one, those of large groups first.
    """
    import numpy

    highest = numpy.maximum(sizes - leave, 0)
    count = min(count, int(highest.sum()))
    rank = numpy.empty(len(sizes))
    rank[lots] = numpy.arange(len(sizes))
    covers = leave == 0 and not by_lot
    if covers and count < len(sizes):
        return numpy.bincount(numpy.lexsort((rank, -sizes))[:count], minlength=len(sizes))
    start = (rank + 0.5) / len(sizes) if by_lot else numpy.full(len(sizes), 0.5)
    least = numpy.minimum(highest, int(covers))

    def due_by(time: float) -> numpy.ndarray:
        return numpy.clip(numpy.floor(sizes * time + 1 - start).astype(numpy.int64), least, highest)

    low, high = 0.0, 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if due_by(middle).sum() <= count else (low, middle)
    quota: numpy.ndarray = due_by(low)
    while quota.sum() < count:  # of those that are due at one moment
        due = numpy.where(quota < highest, (quota + start) / sizes, numpy.inf)
        order = numpy.lexsort((rank, due))
        together = order[due[order] <= due[order[0]] * (1 + 1e-12)]
        quota[together[: count - int(quota.sum())]] += 1
    return quota
