"""A task asked in words: answers are chosen by likelihood, on the forward path that every evaluation takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from finetune.models.architecture import ENCODER_DECODER
from finetune.models.generation import bare_model
from finetune.tasks import Context, Task
from finetune.zero_shot.tokens import Asked

_LOGITS_AT_ONCE = 1 << 26  # floats: 256 MB
_COLUMNS = ("sequences", "source", "places", "candidates")


def choosing(task: Task, prior: Any = None) -> Task:
    """Return a task whose features are those of `features_of` and whose answer is the likeliest candidate.

    prior: log-probabilities of the labels when the text says nothing; each candidate's score is less its own
    (contextual calibration, Zhao et al., ICML 2021).
    """

    def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
        return chosen(outputs, prior, as_table=bool(context.labels.names))

    return replace(
        task, pads=dict.fromkeys(_COLUMNS), collate=collate, redraw=None, ask=ask, loss=no_loss, loss_weight=no_loss,
        reduce=reduce, answer=None,
    )  # fmt: skip


def features_of(rows: list[Asked]) -> dict[str, list[Any]]:
    """Return rows as columns of features; `length` counts all tokens that are read for a row."""
    return {
        "sequences": [row.sequences for row in rows],
        "source": [row.source or [] for row in rows],
        "places": [[list(place) for place in row.places] for row in rows],
        "candidates": [1 + max(place[0] for place in row.places) for row in rows],
        "length": [row.tokens for row in rows],
    }


def collate(features: dict[str, list[Any]], context: Context) -> dict[str, Any]:
    """Return all sequences of some rows one below the other, padded on the right, and the scored places in them.

    places: (candidate, sequence, position, token), counted over the batch. candidates: how many each row has.
    """
    import torch

    places, owners = [], []
    first_candidate = first_sequence = 0
    for row, (sequences, of_row) in enumerate(zip(features["sequences"], features["places"], strict=True)):
        places += [
            (first_candidate + candidate, first_sequence + sequence, position, token)
            for candidate, sequence, position, token in of_row
        ]
        owners += [row] * len(sequences)
        first_candidate += features["candidates"][row]
        first_sequence += len(sequences)
    pad = context.tokenizer.pad_token_id
    flat = [ids for sequences in features["sequences"] for ids in sequences]
    sources = _padded(features["source"], pad) if context.kind == ENCODER_DECODER else {}
    return {
        **_padded(flat, pad),
        **{f"source_{name}": tensor for name, tensor in sources.items()},
        "places": torch.tensor(places),
        "owners": torch.tensor(owners),
        "candidates": torch.tensor(features["candidates"]),
    }


def _padded(rows: list[list[int]], pad: int) -> dict[str, Any]:
    import torch

    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return {"input_ids": ids, "attention_mask": mask}


def ask(model: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the mean log-probability of each candidate's tokens (`scores`), and how many candidates each row has.

    So many sequences run at once that their logits take 256 MB at most, and no more than the batch has rows.
    """
    import torch

    forward = _forward(model, batch, context)
    mask, places = batch["attention_mask"], batch["places"]
    lengths = mask.sum(1)
    order = torch.argsort(lengths, descending=True)
    vocabulary = bare_model(model).get_output_embeddings().weight.shape[0]
    log_chances = torch.zeros(len(places), device=mask.device)
    start = 0
    while start < len(order):
        width = int(lengths[order[start]])
        rows = order[start : start + max(1, min(len(batch["candidates"]), _LOGITS_AT_ONCE // (width * vocabulary)))]
        logits = forward(rows, width)
        inside = (places[:, 1, None] == rows).nonzero()
        which, row = inside[:, 0], inside[:, 1]
        chances = logits[row, places[which, 2]].float().log_softmax(-1)
        log_chances[which] = chances.gather(1, places[which, 3, None])[:, 0]
        start += len(rows)
    count = int(batch["candidates"].sum())
    sums = torch.zeros(count, device=mask.device).index_add(0, places[:, 0], log_chances)
    tokens = torch.bincount(places[:, 0], minlength=count)
    return SimpleNamespace(scores=sums / tokens, candidates=batch["candidates"])


def _forward(model: Any, batch: Mapping[str, Any], context: Context) -> Callable[[Any, int], Any]:
    """Return what gives the logits of some sequences, cut to a width; an encoder reads each source once."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    if context.kind != ENCODER_DECODER:
        return lambda rows, width: model(input_ids=ids[rows, :width], attention_mask=mask[rows, :width]).logits
    from transformers.modeling_outputs import BaseModelOutput

    read = batch["source_attention_mask"]
    encoder = bare_model(model).get_encoder()
    states = encoder(input_ids=batch["source_input_ids"], attention_mask=read).last_hidden_state

    def decoded(rows: Any, width: int) -> Any:
        owners = batch["owners"][rows]
        return model(
            encoder_outputs=BaseModelOutput(last_hidden_state=states[owners]),
            attention_mask=read[owners],
            decoder_input_ids=ids[rows, :width],
            decoder_attention_mask=mask[rows, :width],
        ).logits

    return decoded


def chosen(outputs: Any, prior: Any, as_table: bool) -> dict[str, Any]:
    """Return for each row the likeliest candidate and the shares of all: rows × candidates, or a list of arrays."""
    import numpy
    from scipy.special import softmax

    scores = outputs.scores.cpu().numpy().astype(numpy.float64)
    ends = numpy.cumsum(outputs.candidates.cpu().numpy())
    rows = [row if prior is None else row - prior for row in numpy.split(scores, ends[:-1])]
    chances = [softmax(row) for row in rows]
    return {
        "prediction": numpy.array([row.argmax() for row in chances], dtype=numpy.int32),
        "probabilities": numpy.stack(chances) if as_table else chances,
    }


def no_loss(*_: Any) -> Any:
    """Return 0: an answer that is asked for in words has no training loss."""
    import torch

    return torch.tensor(0.0)
