"""One thing that is wrong with a recipe, and the error that lists them all."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finetune.errors import FinetuneError
from finetune.text import plural

RECIPE = "recipe"
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Place:
    """Where a setting was written: a line of the recipe, the command line, or an environment variable."""

    origin: str
    line: int = 0

    def words(self, shown: str) -> str:
        """Return the place as it begins an error; `shown` is the recipe's name."""
        return (
            f"{shown}:{self.line}"
            if self.origin == RECIPE and self.line
            else shown
            if self.origin == RECIPE
            else self.origin
        )


@dataclass(frozen=True)
class Problem:
    """What is wrong with one key; `key` is empty when the file as a whole is meant."""

    place: Place
    key: str
    message: str

    def words(self, shown: str) -> str:
        """Return the line that a person reads: recipe.yaml:7: training.learing_rate: unknown key."""
        return ": ".join(part for part in (self.place.words(shown), self.key, self.message) if part)

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as JSON values; `line` is null where the setting is not in the file."""
        line = self.place.line or None
        return {"origin": self.place.origin, "line": line, "key": self.key or None, "message": self.message}


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """Return each problem once: those of the file in the order of its lines, then the others as they were given."""
    once = dict.fromkeys(problems)
    return sorted(once, key=lambda problem: (problem.place.origin != RECIPE, problem.place.line))


def refuse(problems: Iterable[Problem], shown: str, hint: str) -> FinetuneError:
    """Return the error that lists every problem."""
    lines = [problem.words(shown) for problem in in_order(problems)]
    header = [] if len(lines) == 1 else [f"{plural(len(lines), 'problem')} in {shown}"]
    return FinetuneError("\n".join([*header, *lines]), hint)
