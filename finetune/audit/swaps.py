"""Exchange words of a text: at word boundaries, the longest term first, in the case of what stood there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from finetune.audit.terms import Counterparts


@dataclass(frozen=True)
class Swapped:
    """A text after a swap, and how many words were exchanged; ambiguous: one of them might become several others."""

    text: str
    count: int
    ambiguous: bool = False


def swap(text: str, counterparts: Counterparts, limit: int | None = None) -> Swapped:
    """Exchange every term (at most `limit` of them, the first ones) for its counterpart.

    An ambiguous term is left as it is and said. A term is a whole word or several: letters, digits and _ beside it
    belong to another word, and so does a hyphen; an 's behind it stays.
    """
    count, ambiguous = 0, False

    def exchanged(found: re.Match[str]) -> str:
        nonlocal count, ambiguous
        others = counterparts.get(found[0].casefold(), ())  # Unicode has letters that match and fold to others
        if not others or (limit is not None and count >= limit):
            return found[0]
        if len(others) > 1 and limit is None:
            ambiguous = True
            return found[0]
        count += 1
        return in_case_of(found[0], others[0])

    changed = _pattern(tuple(counterparts)).sub(exchanged, text)
    return Swapped(changed, count, ambiguous)


@lru_cache(maxsize=64)
def _pattern(terms: tuple[str, ...]) -> re.Pattern[str]:
    longest_first = sorted(terms, key=len, reverse=True)
    inside = "|".join(re.escape(term) for term in longest_first)
    # @name and #topic are names of something else.
    return re.compile(rf"(?<![\w@#])(?<!\w-)(?:{inside})(?!\w)(?!-\w)", re.IGNORECASE)


def in_case_of(found: str, other: str) -> str:
    """Return a word as it would have been written in the place of another: WOMAN → MAN, Woman → Man.

    A word that its list writes with a capital keeps it where the other has none of its own: muslim → Christian.
    """
    letters = [letter for letter in found if letter.isalpha()]
    if len(letters) > 1 and all(letter.isupper() for letter in letters):
        return other.upper()
    return other[:1].upper() + other[1:] if found[:1].isupper() else other
