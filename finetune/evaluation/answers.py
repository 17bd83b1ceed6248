"""What is kept of a model's outputs: a few values for each feature, whatever the task, on disk when they are many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetune.data.spool import Blob, scratch_array

if TYPE_CHECKING:
    import numpy


class Answers:
    """The reduced outputs for the features of a split, filled in any order and read in any order.

    A task reduces a batch to arrays with one entry a feature, or to lists of one-dimensional arrays or texts.
    """

    def __init__(self, features: int) -> None:
        self._features = features
        self._columns: dict[str, _Fixed | _Ragged] = {}

    def put(self, places: Any, reduced: Mapping[str, Any]) -> None:
        """Keep the entries of a batch, whose features stand at `places`."""
        for name, values in reduced.items():
            if name not in self._columns:
                self._columns[name] = (_Ragged if isinstance(values, list) else _Fixed)(self._features, values)
            self._columns[name].put(places, values)

    def column(self, name: str) -> numpy.ndarray:
        """Return the entries of a name as one array, where they are arrays of one shape."""
        column = self._columns[name]
        assert isinstance(column, _Fixed)
        return column.values

    def feature(self, place: int) -> dict[str, Any]:
        """Return all about one feature, by name: numbers and lists; of ragged entries arrays and texts."""
        return {name: column.get(place) for name, column in self._columns.items()}


class _Fixed:
    def __init__(self, features: int, values: numpy.ndarray) -> None:
        self.values = scratch_array((features, *values.shape[1:]), values.dtype)

    def put(self, places: Any, values: numpy.ndarray) -> None:
        self.values[places] = values

    def get(self, place: int) -> Any:
        return self.values[place].tolist()


class _Ragged:
    def __init__(self, features: int, values: list[Any]) -> None:
        import numpy

        self._dtype = None if isinstance(values[0], str) else numpy.asarray(values[0]).dtype
        self._ends = scratch_array((features, 2), numpy.int64)
        self._blob = Blob()

    def put(self, places: Any, values: list[Any]) -> None:
        for place, value in zip(places, values, strict=True):
            content = value.encode() if self._dtype is None else value.astype(self._dtype).tobytes()
            self._ends[place] = self._blob.add(content)

    def get(self, place: int) -> Any:
        import numpy

        content = self._blob.read(*self._ends[place].tolist())
        return content.decode() if self._dtype is None else numpy.frombuffer(content, self._dtype)
