"""Small helpers for the words that people read."""

import difflib
from collections.abc import Iterable


def did_you_mean(found: str, allowed: Iterable[str]) -> str | None:
    """Return the allowed word nearest to `found`, or None when none is near."""
    lowered = {word.lower(): word for word in allowed}
    near = difflib.get_close_matches(found.lower(), list(lowered), n=1, cutoff=0.6)
    return lowered[near[0]] if near else None


def nearest_or_all(found: str, allowed: Iterable[str], words: str = "there are") -> str:
    """Return "did you mean b?", or all that is allowed where no word is near: "there are a, b and c"."""
    known = list(dict.fromkeys(allowed))
    near = did_you_mean(found, known)
    return f"did you mean {near}?" if near else f"{words} {join_words(known, 'and')}"


def first_line(error: BaseException) -> str:
    """Return the first line of what an error says, or its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def join_words(words: Iterable[str], last: str = "or") -> str:
    """Join words as a sentence does: a, b or c."""
    items = list(words)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {last} {items[-1]}"


def join_some(words: Iterable[str], shown: int = 3) -> str:
    """Join the first words and count the others: a, b, c and 9 more."""
    items = list(words)
    left = len(items) - shown
    return f"{', '.join(items[:shown])} and {left:,} more" if left > 0 else join_words(items, "and")


def with_article(noun: str) -> str:
    """Return "a bert" or "an opt"."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return "1 row" or "1,200 rows"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
