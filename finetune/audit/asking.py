"""Put texts to a model on the path of `finetune predict`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetune import ranks
from finetune.audit.counterfactual import Row
from finetune.data.encoding import FULL_LENGTH, SOURCE, encode_rows
from finetune.data.rows import RowBatch
from finetune.errors import FinetuneError
from finetune.evaluation.predict import Predictor, in_threads
from finetune.evaluation.predict_file import answer_batch
from finetune.text import join_words

_BATCHES_AT_ONCE = 4
_SHOWN = 60  # letters of a text in a message


@dataclass(frozen=True)
class Asker:
    """Asks a model about rows; all ranks come to it alike, and each gets every answer.

    `check` is called between batches and may raise to interrupt.
    """

    predictor: Predictor
    check: Callable[[], None] = lambda: None

    def __call__(self, rows: Sequence[Row]) -> list[Mapping[str, Any] | None]:
        """Return for each row a line as `finetune predict` writes it, None where it has no text.

        Raises FinetuneError for rows without an input that the model needs, for a text that is too long and must not
        be cut, and for outputs that are not numbers.
        """
        asked = replace(self.predictor, context=replace(self.predictor.context, predicting=True))
        asked.model.eval()
        lines: list[Mapping[str, Any] | None] = [None] * len(rows)
        if not asked.context.truncation:
            _require_room(rows, self.encoded(rows), asked.context.max_length)

        def answers(batch: RowBatch) -> list[Any]:
            return answer_batch(asked, batch)

        batches = _batches(rows, _roles(rows, asked), _BATCHES_AT_ONCE * asked.batch_size)
        alone = asked.device.type == "cpu" and ranks.size() == 1
        for batch in in_threads(answers, batches) if alone else map(answers, batches):
            self.check()
            for answer in batch:
                lines[answer.row] = answer.said
        return lines

    def encoded(self, rows: Sequence[Row]) -> list[bytes | None]:
        """Return for each row a digest of the tokens that the model reads, empty where it has no text.

        None: it is too long, and the model was trained to cut nothing.
        """
        context = replace(self.predictor.context, predicting=True)
        found: list[bytes | None] = [b""] * len(rows)
        for batch in _batches(rows, _roles(rows, self.predictor), _BATCHES_AT_ONCE * self.predictor.batch_size):
            features = encode_rows(batch.rows, self.predictor.task, context)
            for place, ids, length in zip(features[SOURCE], features["input_ids"], features[FULL_LENGTH], strict=True):
                fits = context.truncation or context.max_length is None or length <= context.max_length
                digest = hashlib.sha256(repr(ids).encode()).digest()
                found[batch.numbers[place]] = digest if fits else None
        return found


def _require_room(rows: Sequence[Row], encoded: Sequence[bytes | None], limit: int | None) -> None:
    """Refuse a text that is too long; raises FinetuneError that quotes it, since probes number their texts anew."""
    for row, digest in zip(rows, encoded, strict=True):
        if digest is None:
            text = " ".join(row.values())
            shown = text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
            raise FinetuneError(
                f"the text {shown!r} has more than {limit:,} tokens, and the run was made with "
                "preprocessing.truncation: false",
                "Shorten the text, or leave it out of the probe.",
            )


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
