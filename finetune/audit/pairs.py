"""Minimal pairs of a file: two sentences that differ in one respect, by named columns or by those of two datasets."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.audit.caveats import CROWS, WINOBIAS
from finetune.audit.table import Table, read_table
from finetune.errors import FinetuneError
from finetune.text import join_words

# role → the names under which its column usually comes, by form
_FORMS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    CROWS: {"more": ("sent_more", "more", "stereotype"), "less": ("sent_less", "less", "anti_stereotype")},
    WINOBIAS: {"pro": ("pro_sentence", "pro"), "anti": ("anti_sentence", "anti")},
}
_CATEGORY: Mapping[str, tuple[str, ...]] = {CROWS: ("bias_type", "category"), WINOBIAS: ("type", "category")}

MALE, FEMALE = "male", "female"
_PRONOUNS = {
    "he": MALE, "him": MALE, "his": MALE, "himself": MALE,
    "she": FEMALE, "her": FEMALE, "hers": FEMALE, "herself": FEMALE,
}  # fmt: skip
_WORDS = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Pair:
    """Two sentences: `more` is the one that a stereotype would prefer.

    pronoun: of WinoBias' form, the gender of the pronoun in `more`; else empty.
    """

    more: str
    less: str
    category: str
    pronoun: str = ""


@dataclass(frozen=True)
class Pairs:
    """The pairs of a file, its form, and how many were left out, by reason."""

    form: str
    pairs: tuple[Pair, ...]
    left_out: Mapping[str, int]
    fingerprint: str


def read_pairs(path: Path, columns: Mapping[str, str]) -> Pairs:
    """Read pairs; `columns` names the columns of roles (more, less or pro, anti; category), the others are detected.

    Raises FinetuneError for a file without such columns, or without a pair that can be used.
    """
    table = read_table(path)
    form = next((form for form in _FORMS if _roles(table, form, columns) is not None), None)
    if form is None:
        raise FinetuneError(
            f"{path}: no columns with pairs of sentences; it has {table.shown_columns}",
            "Name two: columns: {more: …, less: …} for a sentence with a stereotype and one with less of it, or "
            "{pro: …, anti: …} for sentences that differ in a pronoun. On the command line: --column more=…",
        )
    roles = _roles(table, form, columns) or {}
    category = table.find("category", columns, _CATEGORY[form])
    first, second = (table.texts(roles[role]) for role in _FORMS[form])
    kinds = table.texts(category) if category else [""] * len(first)
    make = _plain_pair if form == CROWS else _pronoun_pair
    made = [make(more, less, kind) for more, less, kind in zip(first, second, kinds, strict=True)]
    left_out: dict[str, int] = {}
    for entry in made:
        if isinstance(entry, str):
            left_out[entry] = left_out.get(entry, 0) + 1
    pairs = tuple(entry for entry in made if isinstance(entry, Pair))
    if not pairs:
        raise FinetuneError(
            f"{path}: no pair can be used ({_counts(left_out)})",
            f"Read as pairs: {join_words(map(repr, roles.values()), 'and')}. Others: --column {next(iter(roles))}=…",
        )
    return Pairs(form, pairs, left_out, table.fingerprint)


def _roles(table: Table, form: str, columns: Mapping[str, str]) -> dict[str, str] | None:
    found = {role: table.find(role, columns, usual) for role, usual in _FORMS[form].items()}
    named = {role: name for role, name in found.items() if name is not None}
    return named if len(named) == len(found) else None


def _plain_pair(more: str, less: str, category: str) -> Pair | str:
    if not more.strip() or not less.strip():
        return "a sentence is empty"
    return "both sentences are the same" if more == less else Pair(more, less, category)


def _pronoun_pair(pro: str, anti: str, category: str) -> Pair | str:
    """Return a pair that differs in pronouns alone, else why it cannot be used."""
    words = [_WORDS.findall(sentence.lower()) for sentence in (pro, anti)]
    differ = [(one, other) for one, other in zip(*words, strict=False) if one != other]
    genders = {(_PRONOUNS.get(one), _PRONOUNS.get(other)) for one, other in differ}
    if len(words[0]) != len(words[1]) or not genders <= {(MALE, FEMALE), (FEMALE, MALE)}:
        return "differs beyond the pronoun"
    if len(genders) != 1:
        return "has pronouns of both genders" if genders else "both sentences are the same"
    [(gender, _)] = genders
    return Pair(pro, anti, f"type {category}" if category in ("1", "2") else category, str(gender))


def _counts(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{why}: {count}" for why, count in left_out.items()) or "it is empty"


def genders_of(pairs: Sequence[Pair]) -> dict[str, list[Any]]:
    """Return the places of the pairs by the gender of the pronoun in the sentence that a stereotype would prefer."""
    return {gender: [at for at, pair in enumerate(pairs) if pair.pronoun == gender] for gender in (MALE, FEMALE)}


def sampled(pairs: Pairs, limit: int | None) -> Pairs:
    """Return the pairs, or a seeded sample of `limit` of them in their order."""
    import numpy

    count = len(pairs.pairs)
    if limit is None or count <= limit:
        return pairs
    kept = sorted(numpy.random.default_rng(0).choice(count, limit, replace=False).tolist())
    left_out = {**pairs.left_out, "beyond the sample": count - limit}
    return Pairs(pairs.form, tuple(pairs.pairs[place] for place in kept), left_out, pairs.fingerprint)
