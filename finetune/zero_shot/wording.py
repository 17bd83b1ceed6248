"""Rows in words: a template filled in, with solved examples before it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from string import Formatter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finetune.tasks import Task

BETWEEN = "\n\n"
"""Between the solved examples, and before the row that is asked about."""

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Query:
    """A prompt around its answer; without a gap the template does not say where that stands: it comes after."""

    before: str
    after: str = ""
    has_gap: bool = True

    def filled(self, answer: str) -> str:
        """Return the prompt with an answer in it."""
        return f"{self.before}{answer}{self.after}" if self.has_gap else f"{self.before}\n{answer}"


@dataclass(frozen=True)
class Wording:
    """How the rows of a task are put: its template, the words of its labels by name, the solved examples."""

    task: Task
    template: str
    words: Mapping[str, str]
    examples: tuple[str, ...] = ()

    @property
    def inputs(self) -> list[str]:
        """Return the roles of the row that the template names."""
        return [role for _, role in _pieces(self.template) if role not in (None, self.task.target)]

    @property
    def goes_on_from(self) -> str | None:
        """Return the role of the text that the answer goes on from in the same line."""
        pieces = list(_pieces(self.template))
        for (_, role), (words, after) in pairwise(pieces):
            if after == self.task.target and not words.strip(" "):
                return role
        return None

    def answers(self, row: Row) -> list[str]:
        """Return the answers to choose among, in the order of the target's numbers."""
        assert self.task.candidates is not None
        return list(self.task.candidates(row, list(self.words.values())))

    def right_answer(self, row: Row) -> str:
        """Return the target of a row in words."""
        target = row[str(self.task.target)]
        if self.task.candidates is not None:
            return self.answers(row)[target]
        if self.task.to_text is not None:
            return self.task.to_text(target)
        if isinstance(target, str):
            return target
        return str(next(text for text in target if text.strip()))  # of several references the first is learned from

    def query(self, row: Row) -> Query:
        """Return the prompt of a row, after the examples."""
        own = self.alone(row)
        return replace(own, before=BETWEEN.join([*self.examples, own.before]))

    def alone(self, row: Row) -> Query:
        """Return the prompt of a row without the examples."""
        pieces = list(_pieces(self.template))
        roles = [role for _, role in pieces]
        if self.task.target not in roles:
            return Query(_written(pieces, row), has_gap=False)
        gap = roles.index(self.task.target)
        return Query(_written([*pieces[:gap], (pieces[gap][0], None)], row), _written(pieces[gap + 1 :], row))

    def solved(self, row: Row) -> str:
        """Return a row as an example, with its answer."""
        return self.alone(row).filled(self.right_answer(row))


def spelled_out(rows: Iterable[Row], task: Task, tokenizer: Any) -> list[Row]:
    """Return rows in whose inputs no special token stands: `[MASK]` in a text is six characters, `[ MASK]`.

    Else it would be one more gap, separator or end to the model. What training reads is left as it is.
    """
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    special = [re.escape(word) for word in sorted(added, key=len, reverse=True) if len(word) > 1]
    if not special:
        return list(rows)
    pattern = re.compile("|".join(special))
    kept = {"row", task.target}
    return [{role: value if role in kept else _spelled(value, pattern) for role, value in row.items()} for row in rows]


def _spelled(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", value)
    return [_spelled(one, pattern) for one in value] if isinstance(value, list) else value


def _pieces(template: str) -> Iterable[tuple[str, str | None]]:
    """Yield the words of a template, each with the role after them (None: none)."""
    for words, role, _, _ in Formatter().parse(template):
        yield words, role


def _written(pieces: Iterable[tuple[str, str | None]], row: Row) -> str:
    """Return pieces of a template with the values of a row; one that is empty takes the blank after it along."""
    parts: list[str] = []
    was_empty = False
    for words, role in pieces:
        parts.append(words.lstrip() if was_empty else words)
        value = "" if role is None else str(row.get(role) or "")
        was_empty = role is not None and not value
        parts.append(value)
    return "".join(parts)
