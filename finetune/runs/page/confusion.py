"""Which classes a model takes for which, and its surest mistakes, as the page shows them."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finetune.runs.classes import NO_NAME, ClassTables
from finetune.runs.mistakes import Findings, Mistake, look_through
from finetune.runs.record import Run
from finetune.runs.scoring import SPLITS
from finetune.runs.tables import shorten
from finetune.tasks.question_answering import SQUAD, SQUAD_V2
from finetune.text import plural

MATRIX_CLASSES = 30
"""With more classes a matrix is no longer readable; the table by class stays."""
SHOWN_TEXT = 120


def confusion(run: Run) -> tuple[dict[str, Any] | None, str | None]:
    """Return the tables by class and the surest mistakes from a run's predictions (`findings_content`), and a note.

    Both are None for answers of another kind and for a run without predictions. A file that cannot be read gives a
    note that says why. Texts of the data are not in the predictions: a mistake is told by its row.
    """
    path = _predictions_file(run)
    if path is None:
        return None, None
    read = _Lines(path)
    problem_type, known = run.dataset.get("problem_type"), run.dataset.get("label_names")
    try:
        found = look_through(read, problem_type, [str(name) for name in known] if isinstance(known, list) else [])
    except OSError as error:
        return None, f"{path.name} cannot be read ({error.strerror}): no table by class"
    except ValueError:
        return None, f"{path.name}, line {read.number}: not valid JSON: no table by class"
    except (KeyError, TypeError, AttributeError):  # whatever it is, it is not our predictions
        return None, f"{path.name}, line {read.number}: no prediction: no table by class"
    if problem_type in (SQUAD, SQUAD_V2):  # its answers are words of the texts, which a page does not hand on
        return None, None
    return findings_content(found, path.stem.partition("-")[2]), None


class _Lines:
    """The lines of a file, and the number of the one that is being read."""

    def __init__(self, path: Path) -> None:
        self._path, self.number = path, 0

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        with self._path.open(encoding="utf-8") as lines:
            for self.number, line in enumerate(lines, 1):
                row = json.loads(line)
                yield row if isinstance(row, dict) else {}


def _predictions_file(run: Run) -> Path | None:
    if run.directory is None:
        return None
    main = str(run.main_metric.get("split"))
    for split in dict.fromkeys((main, *SPLITS)):
        path = run.directory / f"predictions-{split}.jsonl"
        if split in SPLITS and path.is_file():
            return path
    return None


def findings_content(found: Findings, where: str, texts: bool = False) -> dict[str, Any] | None:
    """Return what a page shows of classes and mistakes, None of neither; `texts`: also the rows themselves."""
    tables = found.classes
    if tables is None and not found.mistakes:
        return None
    return {
        **({"per_class": None} if tables is None else _class_content(tables, f"{tables.words} of {where}")),
        "split": where,
        "mistakes": [mistake_row(mistake, texts) for mistake in found.mistakes],
        "ordered_by": found.ordered_by,
    }


def _class_content(tables: ClassTables, words: str) -> dict[str, Any]:
    """Return the tables by class; `matrix` is None where there is none or it has too many classes."""
    readable = tables.counts is not None and len(tables.classes) <= MATRIX_CLASSES
    return {
        "rows": tables.n,
        "unit": tables.unit,
        "words": words,
        "classes": list(tables.classes),
        "too_many": tables.counts is not None and not readable,
        "matrix": _matrix(tables) if readable else None,
        "per_class": [{**row, "name": row["name"] or NO_NAME, "most_taken_for": taken_for(row)}
                      for row in tables.per_class],
    }  # fmt: skip


def taken_for(row: Mapping[str, Any]) -> str:
    """Return the class that a class is most often taken for, with how often."""
    found = row["most_taken_for"]
    return f"{found[0] or NO_NAME} ({found[1]})" if found else "–"


def _matrix(tables: ClassTables) -> list[dict[str, Any]]:
    """Return a line for each true class; `shade` is 0 to 9, the share of the line that lies in the cell."""
    lines = []
    for truth, counts in zip(tables.classes, tables.matrix or [], strict=True):
        total = sum(counts)
        cells = [
            {
                "count": number,
                "is_right": truth == answer,
                "shade": min(9, -(-9 * number // total)) if total else 0,
                "tip": f"{plural(number, tables.unit)} of {truth or NO_NAME} taken for {answer or NO_NAME}",
            }
            for answer, number in zip(tables.classes, counts, strict=True)
        ]
        lines.append({"name": truth or NO_NAME, "cells": cells})
    return lines


def mistake_row(mistake: Mistake, texts: bool) -> dict[str, Any]:
    """Return what a table shows of a mistake."""
    return {
        "row": mistake.row,
        "reference": as_words(mistake.reference),
        "prediction": as_words(mistake.prediction),
        "weight": mistake.weight,
        "detail": mistake.detail or "",
        "text": inputs_words(mistake.inputs or {}) if texts else None,
    }


def inputs_words(inputs: Mapping[str, Any]) -> str:
    """Return the inputs of a row as one shortened line."""
    joined = (" ".join(map(str, value)) if isinstance(value, list) else str(value) for value in inputs.values())
    return shorten(" | ".join(joined), SHOWN_TEXT)


def as_words(said: Any) -> str:
    """Return a label, a set of labels, a number or an answer as people read it."""
    if isinstance(said, list):
        return shorten(", ".join(map(str, said)) or NO_NAME, SHOWN_TEXT)
    return f"{said:.3g}" if isinstance(said, float) else shorten(str(said), SHOWN_TEXT)
