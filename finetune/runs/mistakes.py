"""Where a model is wrong and surest of it, from the lines of its answers."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from finetune.runs.classes import ClassCounts, ClassTables, entities_in
from finetune.runs.record import as_number
from finetune.tasks.question_answering import SQUAD, SQUAD_V2, compare
from finetune.tasks.text_classification import MULTI, REGRESSION
from finetune.tasks.token_classification import ENTITIES, OUTSIDE, TAGS

SHOWN_MISTAKES = 10


@dataclass(frozen=True)
class Mistake:
    """A wrong answer: the row, what is true, what was said, and how sure the model was.

    `weight` orders them: the probability of what was said, or the error of a regression. `detail` says where in the
    row it lies (a word, a label).
    """

    row: int
    reference: Any
    prediction: Any
    weight: float
    detail: str | None = None
    inputs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Findings:
    """What the lines of a split show: classes (None: there are none), mistakes, and by what these are ordered."""

    classes: ClassTables | None
    mistakes: tuple[Mistake, ...]
    ordered_by: str


def look_through(
    lines: Iterable[Mapping[str, Any]], problem_type: str | None, names: Sequence[str], most: int = SHOWN_MISTAKES
) -> Findings:
    """Count the classes of answers and find the most confident mistakes (of a regression the largest errors).

    A line has row, reference, what the task says of the row, and maybe its inputs. Little is held at once.
    """
    counts, with_classes = ClassCounts(problem_type, names), True
    worst: list[tuple[float, int, Mistake]] = []
    order = count(0, -1)  # of equals the first row stays
    for line in lines:
        with_classes = counts.add(line) and with_classes
        mistake = mistake_in(line, problem_type, names)
        if mistake is not None:
            entry = (mistake.weight, next(order), mistake)
            (heapq.heappush if len(worst) < most else heapq.heappushpop)(worst, entry)
    found = tuple(entry[2] for entry in sorted(worst, key=lambda entry: (-entry[0], -entry[1])))
    ordered_by = "error" if problem_type == REGRESSION else "probability"
    return Findings(counts.tables() if with_classes else None, found, ordered_by)


def mistake_in(line: Mapping[str, Any], problem_type: str | None, names: Sequence[str]) -> Mistake | None:
    """Return the mistake of a line that the model was surest of; None: it is right, or nothing says how sure it was."""
    truth, said, place, inputs = (line.get(key) for key in ("reference", "prediction", "row", "inputs"))
    if truth is None or said is None or not isinstance(place, int):
        return None
    if problem_type == REGRESSION:
        return Mistake(place, truth, said, abs(said - truth), None, inputs)
    if problem_type in (TAGS, ENTITIES):
        found = (_wrong_word if problem_type == TAGS else _wrong_entity)(line, names)
        return None if found is None else Mistake(place, *found, inputs)
    if problem_type == MULTI:
        return _wrong_label(line, inputs)
    wrong = compare(said, truth)[1] == 0 if problem_type in (SQUAD, SQUAD_V2) else truth != said
    sure = as_number(line.get("probability", line.get("score")))
    return Mistake(place, truth, said, sure, None, inputs) if wrong and sure is not None else None


def _wrong_label(line: Mapping[str, Any], inputs: Mapping[str, Any] | None) -> Mistake | None:
    chances, truth, said = line.get("probabilities"), line["reference"], line["prediction"]
    if not isinstance(chances, Mapping) or set(truth) == set(said):
        return None
    sure = {label: chances[label] if label in said else 1 - chances[label] for label in set(truth) ^ set(said)}
    label = max(sorted(sure), key=lambda name: sure[name])
    detail = f"{label} {'was said' if label in said else 'was missed'}"
    return Mistake(line["row"], truth, said, sure[label], detail, inputs)


Wrong = tuple[Any, Any, float, str]


def _wrong_word(line: Mapping[str, Any], names: Sequence[str]) -> Wrong | None:
    scores = line.get("scores")
    if not isinstance(scores, list):
        return None
    words = zip(line["reference"], line["prediction"], scores, count(1), strict=False)
    wrong = [(score, -place, true, said) for true, said, score, place in words if true is not None and said != true]
    if not wrong:
        return None
    score, place, true, said = max(wrong)
    return true, said, score, f"word {-place}"


def _wrong_entity(line: Mapping[str, Any], names: Sequence[str]) -> Wrong | None:
    """Return the surest entity that is none of the true ones; those that were missed have no probability."""
    groups = line.get("entities", line["prediction"])
    if not all(isinstance(group, Mapping) and "score" in group for group in groups):
        return None
    said = entities_in(line["prediction"], names)
    true = entities_in(line["reference"], names)
    wrong = [
        (group["score"], -place, entity)
        for place, (entity, group) in enumerate(zip(said, groups, strict=False))
        if entity not in true
    ]
    if not wrong:
        return None
    score, _, (start, end, kind) = max(wrong)
    met = sorted({other[2] for other in true if other[0] < end and other[1] > start})
    where = f"words {start + 1}–{end}" if "entities" in line else f"characters {start}–{end}"
    return ", ".join(met) or OUTSIDE, kind, score, where
