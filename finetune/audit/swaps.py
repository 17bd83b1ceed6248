"""Exchange words of a text: at word boundaries, the longest term first, in the case of what stood there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from finetune.audit.terms import Counterparts, folded

_MARKS = "\u0300-\u036f"  # accents that stand beside their letter: texts in NFD


@dataclass(frozen=True)
class Swapped:
    """A text after a swap, and how many words were exchanged.

    ambiguous: one of them might become several others; names_target: a term of the other group stands there too.
    """

    text: str
    count: int
    ambiguous: bool = False
    names_target: bool = False


def swap(
    text: str, counterparts: Counterparts, limit: int | None = None, target_terms: Collection[str] = ()
) -> Swapped:
    """Exchange every term (at most `limit` of them, the first ones) for its counterpart.

    An ambiguous term is left as it is and said, and so are `target_terms`. A term is a whole word or several: letters,
    digits and _ beside it belong to another word, and so does a hyphen; an 's behind it stays. Accents may be written
    either way (NFC, NFD); what is put in is written as in the text.
    """
    count, ambiguous, names_target = 0, False, False
    form: Literal["NFC", "NFD"] = "NFC" if unicodedata.is_normalized("NFC", text) else "NFD"

    def exchanged(found: re.Match[str]) -> str:
        nonlocal count, ambiguous, names_target
        term = folded(found[0])
        names_target = names_target or term in target_terms
        others = counterparts.get(term, ())  # Unicode has letters that match and fold to others
        if not others or (limit is not None and count >= limit):
            return found[0]
        if len(others) > 1 and limit is None:
            ambiguous = True
            return found[0]
        count += 1
        return in_case_of(found[0], unicodedata.normalize(form, others[0]))

    changed = _pattern((*counterparts, *target_terms)).sub(exchanged, text)
    return Swapped(changed, count, ambiguous, names_target)


@lru_cache(maxsize=256)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    written = dict.fromkeys(form for term in terms for form in (term, unicodedata.normalize("NFD", term)))
    longest_first = sorted(written, key=len, reverse=True)
    inside = "|".join(re.escape(term).replace("'", "['’]") for term in longest_first)
    # @name and #topic are names of something else.
    return re.compile(rf"(?<![\w{_MARKS}@#])(?<!\w-)(?:{inside})(?![\w{_MARKS}])(?!-\w)", re.IGNORECASE)


def in_case_of(found: str, other: str) -> str:
    """Return a word as it would have been written in the place of another: WOMAN → MAN, Woman → Man.

    A word that its list writes with a capital keeps it where the other has none of its own: muslim → Christian.
    """
    letters = [letter for letter in found if letter.isalpha()]
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return other.upper()
    return other[:1].upper() + other[1:] if found[:1].isupper() else other
