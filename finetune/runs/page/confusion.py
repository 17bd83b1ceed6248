"""Which classes a model takes for which, from the saved predictions of a run."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune.runs.record import Run
from finetune.runs.scoring import SPLITS
from finetune.text import plural

MATRIX_CLASSES = 30
"""With more classes a matrix is no longer readable; the table by class stays."""
_NO_NAME = "(none)"


def confusion(run: Run) -> tuple[dict[str, Any] | None, str | None]:
    """Return {split, rows, classes, matrix, per_class} of a run that answers with one label a row, and a note.

    Both are None for another kind of answer and for a run without predictions. `matrix` is None with more than
    MATRIX_CLASSES classes. A file that cannot be read gives a note that says why.
    """
    path = _predictions_file(run)
    if path is None:
        return None, None
    counts: Counter[tuple[str, str]] = Counter()
    try:
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                row = json.loads(line)
                truth, answer = (row.get(key) if isinstance(row, dict) else None for key in ("reference", "prediction"))
                if not isinstance(truth, str) or not isinstance(answer, str):
                    return None, None  # several labels, a number, a text: no classes to confuse
                counts[truth, answer] += 1
    except OSError as error:
        return None, f"{path.name} cannot be read ({error.strerror}): no table by class"
    except ValueError:
        return None, f"{path.name}, line {counts.total() + 1}: not valid JSON: no table by class"
    if not counts:
        return None, None
    return _tables(counts, run, path.stem.partition("-")[2]), None


def _predictions_file(run: Run) -> Path | None:
    if run.directory is None:
        return None
    main = str(run.main_metric.get("split"))
    for split in dict.fromkeys((main, *SPLITS)):
        path = run.directory / f"predictions-{split}.jsonl"
        if split in SPLITS and path.is_file():
            return path
    return None


def _tables(counts: Mapping[tuple[str, str], int], run: Run, split: str) -> dict[str, Any]:
    known = run.dataset.get("label_names")
    names = [str(name) for name in known] if isinstance(known, list) else []
    seen = {name for pair in counts for name in pair}
    classes = [name for name in names if name in seen] + sorted(seen - set(names))
    truths, answers = (
        {name: sum(count for pair, count in counts.items() if pair[side] == name) for name in classes}
        for side in (0, 1)
    )
    rows = sum(counts.values())
    return {
        "split": split,
        "rows": rows,
        "words": f"{plural(rows, 'row')} of {split}",
        "classes": classes,
        "matrix": _matrix(counts, classes, truths) if len(classes) <= MATRIX_CLASSES else None,
        "per_class": [_class_row(name, counts, truths[name], answers[name], classes) for name in classes],
    }


def _matrix(
    counts: Mapping[tuple[str, str], int], classes: Sequence[str], truths: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return a line for each true class; `shade` is 0 to 9, the share of the line that lies in the cell."""
    return [
        {
            "name": truth or _NO_NAME,
            "cells": [
                {
                    "count": (count := counts.get((truth, answer), 0)),
                    "is_right": truth == answer,
                    "shade": min(9, -(-9 * count // truths[truth])) if truths[truth] else 0,
                    "tip": f"{plural(count, 'row')} of {truth or _NO_NAME} taken for {answer or _NO_NAME}",
                }
                for answer in classes
            ],
        }
        for truth in classes
    ]


def _class_row(
    name: str, counts: Mapping[tuple[str, str], int], truth: int, answer: int, classes: Sequence[str]
) -> dict[str, Any]:
    """Return precision, recall and F1 of a class; None where nothing was there to divide by."""
    right = counts.get((name, name), 0)
    wrong = sorted(
        ((counts.get((name, other), 0), other) for other in classes if other != name), key=lambda pair: -pair[0]
    )
    return {
        "name": name or _NO_NAME,
        "rows": truth,
        "precision": right / answer if answer else None,
        "recall": right / truth if truth else None,
        "f1": 2 * right / (truth + answer) if truth + answer else None,
        "most_taken_for": f"{wrong[0][1] or _NO_NAME} ({wrong[0][0]})" if wrong and wrong[0][0] else "–",
    }
