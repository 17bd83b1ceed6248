"""Prompts that fit: solved examples get a share of the context each, and the row's own text the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from finetune.errors import FinetuneError
from finetune.zero_shot.wording import Row, Wording


@dataclass
class Fitting:
    """How much a model can read at once, and how many texts were cut to fit into that."""

    tokenizer: Any
    limit: int
    truncation: bool
    cut: int = field(default=0)

    def fit(self, row: Row, wording: Wording, length: Callable[[Row], int], limit: int | None = None) -> Row:
        """Return a row whose texts are cut until `length` of it is within the limit.

        The longest text is cut first: at its end, or at its beginning where the answer goes on from it in the same
        line. Raises FinetuneError where the rest alone is too long, or nothing may be cut.
        """
        most, own = limit or self.limit, row
        while (excess := length(own) - most) > 0:
            if not self.truncation:
                raise FinetuneError(
                    f"row {row.get('row')}: its prompt is {most + excess:,} tokens, where {most:,} fit, and "
                    "preprocessing.truncation is false",
                    "Let texts be cut, or take fewer shots (evaluation.prompt.shots).",
                )
            own = self._shorter(own, wording, excess)
        self.cut += own is not row
        return own

    def _shorter(self, row: Row, wording: Wording, excess: int) -> Row:
        spots = {role: self._spots(str(row.get(role) or "")) for role in wording.inputs}
        role = max(spots, key=lambda name: len(spots[name]))
        kept = len(spots[role]) - excess
        if not spots[role]:
            raise FinetuneError(
                f"evaluation.prompt: without any text of the row its prompt is still {excess:,} tokens longer than "
                "what fits",
                "Shorten evaluation.prompt.template, or take fewer evaluation.prompt.shots.",
            )
        text = str(row[role])
        if kept <= 0:
            shorter = ""
        elif role == wording.goes_on_from:
            shorter = text[spots[role][-kept][0] :]
        else:
            shorter = text[: spots[role][kept - 1][1]]
        return {**row, role: shorter if shorter != text else ""}

    def _spots(self, text: str) -> list[tuple[int, int]]:
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        return [spot for spot in encoded["offset_mapping"] if spot[1] > spot[0]]


def with_examples(wording: Wording, rows: Sequence[Row], fitting: Fitting) -> Wording:
    """Return a wording that shows solved rows, each in its share of the context; counts those that were cut.

    Of k examples and the row that is asked about each has at least 1/(k + 1) of what fits.
    """
    share = fitting.limit // (len(rows) + 1)

    def length(row: Row) -> int:
        return len(fitting.tokenizer(wording.solved(row))["input_ids"])

    fitted = [fitting.fit(row, wording, length, share) for row in rows]
    return replace(wording, examples=tuple(wording.solved(row) for row in fitted))
