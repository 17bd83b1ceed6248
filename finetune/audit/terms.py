"""Lists of identity terms and of neutral words: those of this package, or a user's own file."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finetune.audit.table import read_table
from finetune.errors import FinetuneError

FOLDER = Path(__file__).parent / "terms"
LANGUAGES = ("en", "pt")
NEUTRAL = "neutral"
COLUMNS = ("dimension", "form", "group", "term")

Counterparts = Mapping[str, tuple[str, ...]]  # a term (folded) → what it may become


def folded(term: str) -> str:
    """Return a term as it is compared: letters of two parts as one (NFC), one apostrophe, no case."""
    return unicodedata.normalize("NFC", term).replace("’", "'").casefold()


@dataclass(frozen=True)
class Direction:
    """A swap from the terms of one group to those of another, of one dimension such as gender.

    target_terms: all terms of the other group, folded; a text with one of them names both.
    """

    dimension: str
    source: str
    target: str
    counterparts: Counterparts
    target_terms: frozenset[str]

    @property
    def name(self) -> str:
        """Return what the direction is called."""
        return f"{self.source} → {self.target}"


@dataclass(frozen=True)
class Terms:
    """The directions of a list, and its neutral swap: words that can be exchanged without changing who is meant."""

    directions: tuple[Direction, ...]
    neutral: Counterparts
    name: str

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of what is exchanged for what."""
        each = [
            [one.dimension, one.source, one.target, sorted(one.counterparts.items()), sorted(one.target_terms)]
            for one in self.directions
        ]
        return hashlib.sha256(json.dumps([each, sorted(self.neutral.items())]).encode()).hexdigest()


def open_terms(language: str, path: Path | None = None) -> Terms:
    """Return the list of a language, or a user's own; neutral words that it does not have are those of the language.

    Columns: dimension, form, group, term. Terms of one dimension and form stand for each other, one group for another;
    of the dimension `neutral` too. Of several terms of a group in a form the first one is put in (dad: mom, not mum). A
    term of several forms with several counterparts (her: him, his) is ambiguous. Raises FinetuneError for a file
    without these columns or without two groups, and for a language without a list.
    """
    if path is None and language not in LANGUAGES:
        raise FinetuneError(
            f"no list of terms comes along for the language {language!r}; there are {' and '.join(LANGUAGES)}",
            "Write your own, with the columns dimension, form, group, term, and name it: terms: my_terms.csv",
        )
    own = _read(path) if path is not None else []
    built_in = _read(FOLDER / f"{language}.csv") if language in LANGUAGES else []
    identity = [row for row in (own if path is not None else built_in) if row[0] != NEUTRAL]
    neutral = [row for row in own if row[0] == NEUTRAL] or [row for row in built_in if row[0] == NEUTRAL]
    directions = _directions(identity)
    if not directions:
        raise FinetuneError(
            f"{path}: no two groups have a term of the same dimension and form",
            "For example two rows: gender,adult,female,woman and gender,adult,male,man",
        )
    both_ways: dict[str, list[str]] = {}
    for direction in _directions(neutral):
        for term, others in direction.counterparts.items():
            both_ways.setdefault(term, []).extend(others)
    return Terms(
        directions, {term: tuple(dict.fromkeys(others)) for term, others in both_ways.items()},
        path.name if path is not None else f"built-in list {language}",
    )  # fmt: skip


def _read(path: Path) -> list[tuple[str, ...]]:
    table = read_table(path)
    missing = [name for name in COLUMNS if name not in table.part.columns]
    if missing:
        raise FinetuneError(
            f"{path}: a list of terms has the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing, it has "
            f"{table.shown_columns}",
            "One term a row, for example: gender,adult,female,woman",
        )
    rows = [tuple(value.strip() for value in row) for row in zip(*map(table.texts, COLUMNS), strict=True)]
    empty = next((at for at, row in enumerate(rows) if not all(row)), None)
    if empty is not None:
        raise FinetuneError(f"{table.part.place(empty)}: a cell is empty", "Fill in all four columns.")
    return rows


def _directions(rows: list[tuple[str, ...]]) -> tuple[Direction, ...]:
    """Return every direction from one group of a dimension to another, in the order of the list."""
    groups: dict[str, dict[str, set[str]]] = {}
    forms: dict[tuple[str, str], dict[str, list[str]]] = {}
    for dimension, form, group, term in rows:
        groups.setdefault(dimension, {}).setdefault(group, set()).add(folded(term))
        forms.setdefault((dimension, form), {}).setdefault(group, []).append(term)
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {
        (dimension, source, target): {}
        for dimension, names in groups.items()
        for source in names
        for target in names
        if source != target
    }
    for (dimension, _), by_group in forms.items():
        for source, terms in by_group.items():
            for target, (other, *_) in by_group.items():
                for term in terms:
                    if source != target and folded(term) != folded(other):
                        kept = found[dimension, source, target].setdefault(folded(term), [])
                        kept += [other] if other not in kept else []
    return tuple(
        Direction(
            *names, {term: tuple(others) for term, others in counterparts.items()},
            frozenset(groups[names[0]][names[2]]),
        )
        for names, counterparts in found.items()
        if counterparts
    )  # fmt: skip
