"""Which classes a model takes for which, from the lines of its answers: row, reference, prediction."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetune.tasks import LabelScheme
from finetune.tasks.text_classification import MULTI
from finetune.tasks.token_classification import ENTITIES, NO_TAG, TAGS, entities_of
from finetune.text import plural

NO_NAME = "(none)"
Entity = tuple[int, int, str]


@dataclass(frozen=True)
class ClassTables:
    """The classes that occur in answers or truth, in the order of the labels.

    `counts` of (truth, answer); None where an answer is a set of labels or entities, which has no one place in a
    matrix. per_class: name, rows (how often it is true), precision, recall, f1 and most_taken_for, a (class, count) or
    None. `n` things were counted, `unit` names one: row, word or entity.
    """

    classes: tuple[str, ...]
    counts: Mapping[tuple[str, str], int] | None
    per_class: tuple[Mapping[str, Any], ...]
    unit: str
    n: int

    @property
    def words(self) -> str:
        """Return how many things were counted."""
        return plural(self.n, self.unit, {"entity": "entities"}.get(self.unit))

    @property
    def matrix(self) -> list[list[int]] | None:
        """Return the counts: true classes down, answers across."""
        counts = self.counts
        if counts is None:
            return None
        return [[counts.get((truth, answer), 0) for answer in self.classes] for truth in self.classes]


@dataclass
class ClassCounts:
    """Counts classes line by line; `problem_type` says what an answer is (None: a label, where it is a text)."""

    problem_type: str | None
    names: Sequence[str]
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    sets: dict[str, list[int]] = field(default_factory=dict)  # hits, answered, true
    lines: int = 0

    def add(self, line: Mapping[str, Any]) -> bool:
        """Count a line; False: it is of a kind that has no classes."""
        truth, answer = line.get("reference"), line.get("prediction")
        self.lines += 1
        if self.problem_type == MULTI and isinstance(truth, list) and isinstance(answer, list):
            self._add_sets(set(map(str, truth)), set(map(str, answer)), lambda label: label)
        elif self.problem_type == ENTITIES and isinstance(truth, list) and isinstance(answer, list):
            true, said = (set(entities_in(side, self.names)) for side in (truth, answer))
            self._add_sets(true, said, lambda entity: entity[2])
        elif self.problem_type == TAGS and isinstance(truth, list) and isinstance(answer, list):
            self.pairs.update(
                (tag, said or "") for tag, said in zip(truth, answer, strict=False) if isinstance(tag, str)
            )
        elif isinstance(truth, str) and isinstance(answer, str):
            self.pairs[truth, answer] += 1
        else:
            return False
        return True

    def _add_sets(self, true: set[Any], said: set[Any], name_of: Any) -> None:
        for place, things in enumerate((true & said, said, true)):
            for thing in things:
                self.sets.setdefault(name_of(thing), [0, 0, 0])[place] += 1

    def tables(self) -> ClassTables | None:
        """Return the tables, None when nothing was counted."""
        if self.sets or (self.problem_type in (MULTI, ENTITIES) and self.lines):
            return self._of_sets()
        if not self.pairs:
            return None
        seen = {name for pair in self.pairs for name in pair}
        classes = _ordered(seen, self.names)
        unit = "word" if self.problem_type == TAGS else "row"
        rows = tuple(_class_row(name, self.pairs, classes) for name in classes)
        return ClassTables(classes, self.pairs, rows, unit, self.pairs.total())

    def _of_sets(self) -> ClassTables:
        classes = _ordered(set(self.sets), self.names)
        rows = tuple({**_scores(name, *self.sets[name]), "most_taken_for": None} for name in classes)
        if self.problem_type == ENTITIES:
            return ClassTables(classes, None, rows, "entity", sum(counts[2] for counts in self.sets.values()))
        return ClassTables(classes, None, rows, "row", self.lines)


def entities_in(said: Sequence[Any], names: Sequence[str]) -> list[Entity]:
    """Return (start, end, type) of entities: BIO tags count words, spans and a pipeline's groups characters."""
    if said and isinstance(said[0], Mapping):
        return [(span["start"], span["end"], str(span.get("label", span.get("entity_group")))) for span in said]
    places = {name: place for place, name in enumerate(names)}
    return entities_of([places.get(tag, NO_TAG) for tag in said], LabelScheme(ENTITIES, tuple(names)))


def _ordered(seen: set[str], names: Sequence[str]) -> tuple[str, ...]:
    """Return the classes that occur, in the order of the labels, others behind."""
    known = [name for name in names if name in seen]
    return (*known, *sorted(seen - set(known)))


def _class_row(name: str, counts: Mapping[tuple[str, str], int], classes: Sequence[str]) -> dict[str, Any]:
    said = sum(count for pair, count in counts.items() if pair[1] == name)
    true = sum(count for pair, count in counts.items() if pair[0] == name)
    wrong = max(((counts.get((name, other), 0), other) for other in classes if other != name), default=(0, ""),
                key=lambda pair: pair[0])  # fmt: skip
    taken_for = (wrong[1], wrong[0]) if wrong[0] else None
    return {**_scores(name, counts.get((name, name), 0), said, true), "most_taken_for": taken_for}


def _scores(name: str, right: int, said: int, true: int) -> dict[str, Any]:
    """Return precision, recall and F1 of a class; None where nothing was there to divide by."""
    return {
        "name": name,
        "rows": true,
        "precision": right / said if said else None,
        "recall": right / true if true else None,
        "f1": 2 * right / (true + said) if true + said else None,
    }
