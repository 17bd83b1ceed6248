"""Our metrics as evaluate.Metric modules that keep no row: they need no network, no script and no cache folder.

evaluate's own modules put every prediction and reference into an Arrow file before they compute. These have the same
methods (add, add_batch, compute), but take labels where they lie, and of all else only numbers that add up.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import datasets
import evaluate

if TYPE_CHECKING:
    import numpy

    from finetune.tasks import Context, Task


class OwnMetric(evaluate.Metric):  # type: ignore[misc]
    """An evaluate module without evaluate's storage; a subclass says what it keeps and what it makes of that."""

    def __init__(self, name: str, description: str) -> None:
        self._description = description
        super().__init__(config_name=name, keep_in_memory=True)
        self._forget()

    def _info(self) -> Any:
        return evaluate.MetricInfo(
            description=self._description,
            citation="",
            inputs_description="",
            features=datasets.Features({name: datasets.Value("null") for name in ("predictions", "references")}),
        )

    def _build_data_dir(self) -> str:
        return ""

    def _forget(self) -> None:
        raise NotImplementedError

    def _values(self) -> dict[str, float]:
        raise NotImplementedError

    def add(self, *, prediction: Any = None, reference: Any = None) -> None:
        """Take one row."""
        self.add_batch(predictions=[prediction], references=[reference])

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Take some rows."""
        raise NotImplementedError

    def compute(self, *, predictions: Any = None, references: Any = None) -> dict[str, float]:
        """Return the scores of the rows that were added, with those given here, and forget them."""
        if predictions is not None:
            self.add_batch(predictions=predictions, references=references)
        try:
            return self._values()
        finally:
            self._forget()


class LabelMetric(OwnMetric):
    """A formula of label ids, 0/1 flags or numbers against others, as arrays or lists."""

    def __init__(self, name: str, formula: Callable[..., float]) -> None:
        self._name, self._formula = name, formula
        super().__init__(name, f"{name} of labels")

    def _forget(self) -> None:
        self._parts: list[tuple[Any, Any]] = []

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Take some rows; nothing is copied."""
        self._parts.append((predictions, references))

    def _values(self) -> dict[str, float]:
        import numpy

        sides = self._parts[0] if len(self._parts) == 1 else map(numpy.concatenate, zip(*self._parts, strict=True))
        predictions, references = sides
        return {self._name: self._formula(references, predictions)}


class SumMetric(OwnMetric):
    """The scores of a task that are made of numbers which add up over the rows.

    Predictions are answers and references are rows, as the task's `measure` takes them. One module gives all scores of
    the task that are asked for (rouge1, rouge2 …), since they are made of the same numbers.
    """

    def __init__(self, task: Task, context: Context, names: Iterable[str]) -> None:
        assert task.formulas is not None
        self._task, self._context = task, context
        asked = set(names)
        self.formulas: Mapping[str, Callable[[Any], Any]] = {
            name: formula
            for name, formula in task.formulas(context.labels).items()
            if name not in task.optional_metrics or name in asked
        }
        super().__init__(task.name, f"the scores of {task.name}: {', '.join(self.formulas)}")

    def _forget(self) -> None:
        self._numbers = array("d")
        self._units: dict[Any, int] = {}
        self._rows = self._width = 0

    def add_batch(self, *, predictions: Any = None, references: Any = None) -> None:
        """Measure some answers; those of rows that depend on each other (the task's `unit`) are added up."""
        task = self._task
        assert task.measure is not None
        for answer, row in zip(predictions, references, strict=True):
            numbers = task.measure(answer, row, self._context)
            self._width = len(numbers)
            place = self._rows if task.unit is None else self._units.setdefault(task.unit(row), len(self._units))
            start = place * self._width
            if start == len(self._numbers):
                self._numbers.extend(numbers)
            else:
                for offset, number in enumerate(numbers, start):
                    self._numbers[offset] += number
            self._rows += 1

    @property
    def measured(self) -> numpy.ndarray:
        """Return the numbers of the rows that were added (independent units × numbers)."""
        import numpy

        return numpy.frombuffer(self._numbers).reshape(-1, self._width)

    def _values(self) -> dict[str, float]:
        sums = self.measured.sum(axis=0)
        return {name: float(formula(sums)) for name, formula in self.formulas.items()}
