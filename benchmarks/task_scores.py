"""Score answers row by row, whoever gave them: what each row adds to the numerator and denominator of its metric.

Every metric here is a sum over rows divided by another: right answers by rows, right tags by words, 2 × entities
found by entities predicted and true, the F1 of each question by questions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Counts = tuple[float, float]
"""What a row adds above and below the line of the metric."""

_OUTSIDE = "O"


def label_counts(said: Any, row: Mapping[str, Any]) -> Counts:
    """Return 1 above the line for the right label or choice."""
    return float(said == row["label"]), 1.0


def tag_counts(said: Sequence[str | None], row: Mapping[str, Any]) -> Counts:
    """Return right tags, and words."""
    return float(sum(tag == true for tag, true in zip(said, row["tags"], strict=True))), float(len(row["tags"]))


def entity_counts(said: Sequence[str | None], row: Mapping[str, Any]) -> Counts:
    """Return 2 × entities found, and entities predicted plus true, by seqeval; a word without a tag is in none."""
    from seqeval.metrics.sequence_labeling import get_entities

    guessed = set(get_entities([tag or _OUTSIDE for tag in said]))
    true = set(get_entities(list(row["tags"])))
    return 2.0 * len(guessed & true), float(len(guessed) + len(true))


def answer_counts(said: str, row: Mapping[str, Any]) -> Counts:
    """Return SQuAD's F1 of a question, normalised as the official script does."""
    from finetune.tasks.question_answering import compare

    return compare(said, row["answers"]["text"])[0], 1.0


METRICS: Mapping[str, tuple[str, Callable[[Any, Mapping[str, Any]], Counts]]] = {
    "wnut17": ("f1", entity_counts),
    "ud_ewt_pos": ("accuracy", tag_counts),
    "xquad_en": ("f1", answer_counts),
    "faquad_pt": ("f1", answer_counts),
    "codah": ("accuracy", label_counts),
    "told_br": ("accuracy", label_counts),
}
"""By data set: the name of its metric, as the task has it, and how it is counted."""


def score(counts: Sequence[Counts]) -> float:
    """Return the metric."""
    return math.fsum(above for above, _ in counts) / math.fsum(below for _, below in counts)


def contributions(counts: Sequence[Counts]) -> list[float]:
    """Return what each row contributes to the metric; the mean is the metric.

    For a ratio S = Σa/Σb these are S + n·(a − S·b)/Σb, the infinitesimal jackknife (B. Efron, The Jackknife, the
    Bootstrap and Other Resampling Plans, 1982).
    """
    whole, below = score(counts), math.fsum(part for _, part in counts)
    return [whole + len(counts) * (a - whole * b) / below for a, b in counts]


def in_words(counts: Sequence[Counts]) -> str:
    """Return counts as words that stay readable in a file: "1 0 2/3", a denominator of 1 left out."""
    return " ".join(f"{above:.10g}" if below == 1 else f"{above:.10g}/{below:g}" for above, below in counts)


def from_words(words: str) -> list[Counts]:
    """Return the counts that `in_words` wrote."""
    pairs = (word.partition("/") for word in words.split())
    return [(float(above), float(below or 1)) for above, _, below in pairs]
