"""Marks that several tests share."""

from collections.abc import Iterable

import pytest


def slowly(values: Iterable[object]) -> list[object]:
    """Return parameters that `make test` leaves to `make test-slow`, as one case of a kind shows most mistakes."""
    return [
        pytest.param(*(value if isinstance(value, tuple) else (value,)), marks=pytest.mark.slow) for value in values
    ]
