"""Answers as tokens: which sequences the model reads, and where in them stands the chance of which token.

A candidate answer w_1 … w_m is scored by the mean of log P(w_j | the prompt, w_1 … w_(j-1)):
- causal models read prompt and answer from left to right;
- masked models fill a cloze: w_j and all later tokens of the answer are masked, the earlier ones and what comes after
  the gap are read (the left-to-right pseudo-likelihood within a word of Kauf and Ivanova, ACL 2023; masking w_j alone
  would reward words whose pieces give each other away). The number of masks tells the model how long the answer is;
- encoder-decoders write the answer: T5 after the sentinel that stands in the gap, BART and its like as part of the
  whole text whose gap is masked, all others, and any whose template has no gap, as the whole target with its end.
Candidates share the sequences that begin alike: words of one token each take one forward pass for all of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from finetune.errors import FinetuneError
from finetune.models.architecture import DECODER_ONLY, ENCODER_ONLY
from finetune.zero_shot.wording import Query

_SENTINELS = ("<extra_id_0>", "<extra_id_1>")

Place = tuple[int, int, int, int]


@dataclass(frozen=True)
class Asked:
    """A row as the model reads it.

    sequences: token ids. source: what the encoder reads; the sequences are then the decoder's. places: (candidate,
    sequence, position of the outputs, token), one for each token that is scored.
    """

    sequences: list[list[int]]
    places: list[Place]
    source: list[int] | None = None

    @property
    def length(self) -> int:
        """Return the tokens of the longest of what is read."""
        return max(map(len, [*self.sequences, self.source or []]))

    @property
    def tokens(self) -> int:
        """Return all tokens that are read."""
        return sum(map(len, [*self.sequences, self.source or []]))


def asked(query: Query, answers: Sequence[str], tokenizer: Any, kind: str, config: Any) -> Asked:
    """Return what a kind of model reads to score some answers in a prompt.

    Raises FinetuneError where an answer gives no token to score, or the model has nothing to mark the gap with.
    """
    if kind == DECODER_ONLY:
        return _left_to_right(query, answers, tokenizer)
    if kind == ENCODER_ONLY:
        return _cloze(query, answers, tokenizer)
    return _translated(query, answers, tokenizer, config)


def _left_to_right(query: Query, answers: Sequence[str], tokenizer: Any) -> Asked:
    before = query.before if query.has_gap else query.filled("")
    texts = [before + answer for answer in answers]
    return _shared(_encoded(texts, before, answers, tokenizer), answers)


def _cloze(query: Query, answers: Sequence[str], tokenizer: Any) -> Asked:
    if tokenizer.mask_token_id is None:
        raise FinetuneError(
            "model.name_or_path: its tokenizer has no mask token, which marks the gap of a cloze",
            "Leave zero_shot and few_shot out of evaluation.baselines.",
        )
    if not query.has_gap:
        raise FinetuneError(
            "evaluation.prompt.template: a masked model fills a gap, and the template has none",
            "Put the role of the answer in braces where it stands.",
        )
    number: dict[tuple[int, ...], int] = {}
    places: list[Place] = []
    texts = [query.filled(answer) for answer in answers]
    for candidate, (ids, spots) in enumerate(_encoded(texts, query.before, answers, tokenizer)):
        if not spots:
            raise _nothing_to_score(answers[candidate])
        for known in range(len(spots)):
            masked = list(ids)
            for spot in spots[known:]:
                masked[spot] = tokenizer.mask_token_id
            sequence = number.setdefault(tuple(masked), len(number))
            places.append((candidate, sequence, spots[known], ids[spots[known]]))
    return Asked(list(map(list, number)), places)


def _translated(query: Query, answers: Sequence[str], tokenizer: Any, config: Any) -> Asked:
    start = getattr(config, "decoder_start_token_id", None)
    start = tokenizer.pad_token_id if start is None else start
    first, second = tokenizer.convert_tokens_to_ids(list(_SENTINELS))
    has_sentinel = None not in (first, second) and first != second and first != tokenizer.unk_token_id
    if query.has_gap and has_sentinel:
        source = query.filled(_SENTINELS[0])
        words = tokenizer(list(answers), add_special_tokens=False)["input_ids"]
        targets = [([first, *ids], list(range(1, len(ids) + 1))) for ids in words]
    elif query.has_gap and tokenizer.mask_token is not None:
        source = query.filled(tokenizer.mask_token)
        targets = _encoded([query.filled(answer) for answer in answers], query.before, answers, tokenizer)
    else:
        source = f"{query.before}{query.after}".rstrip()
        targets = [(ids, list(range(len(ids)))) for ids in tokenizer(text_target=list(answers))["input_ids"]]
    scored = _shared([([start, *ids], [spot + 1 for spot in spots]) for ids, spots in targets], answers)
    return Asked(scored.sequences, scored.places, tokenizer(source)["input_ids"])


def _encoded(
    texts: list[str], before: str, answers: Sequence[str], tokenizer: Any
) -> list[tuple[list[int], list[int]]]:
    """Return the token ids of texts and the places of those that hold a character of the answer after `before`.

    The blank between the two belongs to the answer: to some tokenizers it is part of its first token, to others one.
    """
    first = len(before.rstrip(" "))
    encoded = tokenizer(texts, return_offsets_mapping=True, return_special_tokens_mask=True)
    found = []
    for place, answer in enumerate(answers):
        spots = [
            spot
            for spot, ((start, end), special) in enumerate(
                zip(encoded["offset_mapping"][place], encoded["special_tokens_mask"][place], strict=True)
            )
            if not special and start < end and end > first and start < len(before) + len(answer)
        ]
        found.append((encoded["input_ids"][place], spots))
    return found


def _shared(answered: list[tuple[list[int], list[int]]], answers: Sequence[str]) -> Asked:
    """Return sequences that end before the last scored token, those left out that another one begins with."""
    ends = [tuple(ids[: spots[-1]]) if spots else () for ids, spots in answered]
    ordered = sorted({end for end in ends if end})
    kept = [one for one, after in pairwise([*ordered, ()]) if after[: len(one)] != one]
    places: list[Place] = []
    for candidate, ((ids, spots), end) in enumerate(zip(answered, ends, strict=True)):
        scored = [spot for spot in spots if spot]
        if not scored:
            raise _nothing_to_score(answers[candidate])
        sequence = bisect_left(kept, end)  # in this order what begins with it comes next
        places += [(candidate, sequence, spot - 1, ids[spot]) for spot in scored]
    return Asked(list(map(list, kept)), places)


def _nothing_to_score(answer: str) -> FinetuneError:
    return FinetuneError(
        f"evaluation.prompt: {answer!r} gives the tokenizer no token to score in the prompt",
        "Change evaluation.prompt.label_words, and let something stand before the answer in the template.",
    )
