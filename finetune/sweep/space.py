"""The search space: which recipe keys vary, over which values, under which conditions. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any, Protocol

LARGEST_GRID = 10_000
Params = Mapping[str, Any]
"""The values of the keys that take part in a trial, by dotted key, in the words of `Choices.words` or as numbers."""


@dataclass(frozen=True)
class Choices:
    """Some values; those that are no plain scalar go by their JSON text, since Optuna stores scalars alone."""

    values: tuple[Any, ...]

    @property
    def words(self) -> tuple[Any, ...]:
        """Return the values as Optuna stores them."""
        return tuple(value if _is_scalar(value) else json.dumps(value) for value in self.values)

    def setting(self, word: Any) -> Any:
        """Return the value that a word stands for."""
        return self.values[self.words.index(word)]


@dataclass(frozen=True)
class Range:
    """All numbers from low to high, both included; whole ones where both ends and the step are."""

    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def is_whole(self) -> bool:
        """Tell whether only whole numbers are meant."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def steps(self) -> tuple[float, ...]:
        """Return the numbers of a range that has steps, for a grid."""
        assert self.step is not None
        count = int((self.high - self.low) / self.step + 1e-9) + 1
        return tuple(round(self.low + place * self.step, 12) for place in range(count))


@dataclass(frozen=True)
class Parameter:
    """One recipe key with its values; `when` names earlier keys and the values at which this one takes part."""

    key: str
    values: Choices | Range
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def varies(self) -> bool:
        """Tell whether it is more than one value that holds always."""
        return isinstance(self.values, Range) or len(self.values.values) > 1 or bool(self.when)

    def takes_part(self, params: Params) -> bool:
        """Tell whether the key takes part beside the values that were chosen before it."""
        return all(key in params and _same(params[key], allowed) for key, allowed in self.when.items())


class Suggests(Protocol):
    """What draws values: an Optuna trial."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Return one of the choices."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """Return a number of the range."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """Return a whole number of the range."""


def suggest(space: Sequence[Parameter], trial: Suggests) -> dict[str, Any]:
    """Draw the values of a trial, key by key, so that later ones know whether they take part."""
    params: dict[str, Any] = {}
    for parameter in space:
        if not parameter.takes_part(params):
            continue
        values, key = parameter.values, parameter.key
        if isinstance(values, Choices):
            params[key] = trial.suggest_categorical(key, values.words)
        elif values.is_whole:
            step = int(values.step or 1)
            params[key] = trial.suggest_int(key, int(values.low), int(values.high), step=step, log=values.log)
        else:
            params[key] = trial.suggest_float(key, values.low, values.high, step=values.step, log=values.log)
    return params


def grid(space: Sequence[Parameter]) -> list[dict[str, Any]]:
    """Return every combination once, in the order of the file, the last key varying fastest.

    Ranges need steps. A key that takes no part is not in the combination.
    """
    found: dict[str, dict[str, Any]] = {}
    for combination in product(*(_points(parameter.values) for parameter in space)):
        params: dict[str, Any] = {}
        for parameter, point in zip(space, combination, strict=True):
            if parameter.takes_part(params):
                params[parameter.key] = point
        found.setdefault(identity(params), params)
    return list(found.values())


def size(space: Sequence[Parameter]) -> int | None:
    """Return how many combinations there are, None when they cannot be counted, or are more than LARGEST_GRID."""
    if any(isinstance(parameter.values, Range) and parameter.values.step is None for parameter in space):
        return None
    return len(grid(space)) if prod(len(_points(each.values)) for each in space) <= LARGEST_GRID else None


def overrides(space: Sequence[Parameter], params: Params) -> list[str]:
    """Return the settings of a trial as a command line has them: training.learning_rate=0.0001."""
    return list(_settings(space, params))


def identity(params: Params) -> str:
    """Return a text that two trials share exactly when they have the same values.

    A step of a range is the same whether it was counted (0.3) or added up (0.30000000000000004).
    """
    values = {key: float(f"{value:.12g}") if isinstance(value, float) else value for key, value in params.items()}
    return json.dumps(values, sort_keys=True)


def _settings(space: Sequence[Parameter], params: Params) -> Iterator[str]:
    for parameter in space:
        if parameter.key in params:
            value, values = params[parameter.key], parameter.values
            yield f"{parameter.key}={json.dumps(values.setting(value) if isinstance(values, Choices) else value)}"


def _points(values: Choices | Range) -> Sequence[Any]:
    if isinstance(values, Choices):
        return values.words
    return tuple(int(number) for number in values.steps) if values.is_whole else values.steps


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _same(value: Any, allowed: Sequence[Any]) -> bool:
    return any(value == other and isinstance(value, bool) == isinstance(other, bool) for other in allowed)
