"""Put texts to a model on the path of `finetune predict`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from finetune import ranks
from finetune.audit.counterfactual import Row
from finetune.audit.probes import Said
from finetune.data.rows import RowBatch
from finetune.errors import FinetuneError
from finetune.evaluation.predict import Predictor, in_threads
from finetune.evaluation.predict_file import answer_batch
from finetune.text import join_words

_BATCHES_AT_ONCE = 4


def asker(predictor: Predictor, check: Callable[[], None] = lambda: None) -> Said:
    """Return what asks a model about rows; all ranks come to it alike, and each gets every answer.

    `check` is called between batches and may raise to interrupt. It raises FinetuneError for rows without an input
    that the model needs.
    """
    asked = replace(predictor, context=replace(predictor.context, predicting=True))

    def answers(batch: RowBatch) -> list[Any]:
        return answer_batch(asked, batch)

    def said(rows: Sequence[Row]) -> list[Mapping[str, Any] | None]:
        asked.model.eval()
        lines: list[Mapping[str, Any] | None] = [None] * len(rows)
        batches = _batches(rows, _roles(rows, asked), _BATCHES_AT_ONCE * asked.batch_size)
        alone = asked.device.type == "cpu" and ranks.size() == 1
        for batch in in_threads(answers, batches) if alone else map(answers, batches):
            check()
            for answer in batch:
                lines[answer.row] = answer.said
        return lines

    return said


def _roles(rows: Sequence[Row], predictor: Predictor) -> list[str]:
    needed = [column.role for column in predictor.task.inputs if column.required]
    lacking = [role for role in needed if rows and role not in rows[0]]
    if lacking:
        raise FinetuneError(
            f"the model reads {join_words(needed, 'and')}, and the texts of the probe have no {lacking[0]}",
            "Use a probe on the run's own evaluation texts: swaps, or groups with a column.",
        )
    return list(rows[0]) if rows else needed


def _batches(rows: Sequence[Row], roles: Sequence[str], size: int) -> list[RowBatch]:
    """Return the rows in batches of similar length, numbered from 0; those without text stand in no batch."""
    places = sorted(range(len(rows)), key=lambda place: sum(map(len, rows[place].values())))
    filled = [place for place in places if all(rows[place][role].strip() for role in roles)]
    parts = (filled[start : start + size] for start in range(0, len(filled), size))
    return [RowBatch({role: [rows[place][role] for place in part] for role in roles}, part, []) for part in parts]
