"""Fill-mask: texts of which some tokens are hidden and guessed from both sides (masked language modelling, BERT).

Of the tokens a share is drawn (`preprocessing.mlm_probability`); of those 80 % become the mask token, 10 % another
token, 10 % stay as they are (Devlin and others 2019), and all are predicted. In training each pass over a row hides
other tokens, drawn from seed, step and row; in evaluation those that the text itself decides, so that scores of
several evaluations can be compared.
"""

import zlib
from collections.abc import Mapping
from typing import Any

from finetune.errors import FinetuneError
from finetune.tasks import Column, Context, LabelScheme, Task, require_fast, require_room
from finetune.tasks.text_generation import IGNORED, answer, measure, token_formulas, token_sums

MASKED = "masked_lm"
_MASKED, _REPLACED = 0.8, 0.9  # the shares, added up
_FILLS = 5  # as transformers' pipeline


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn texts into token ids; what is longer than the limit goes on in further features, so that nothing is lost."""
    tokenizer = context.tokenizer
    if tokenizer.mask_token is None:
        raise FinetuneError(
            "model.name_or_path: its tokenizer has no mask token, so that nothing can be hidden",
            "Take a checkpoint that was trained with masks, for example distilbert/distilbert-base-uncased.",
        )
    if context.predicting and not any(tokenizer.mask_token in text for text in rows["text"]):
        raise FinetuneError(
            f"no text has {tokenizer.mask_token}, the place to be filled",
            f"Write {tokenizer.mask_token} for the word that is to be found.",
        )
    require_room(context)
    require_fast(tokenizer, "the task needs to know which tokens are one word, and where a long text goes on")
    goes_on = context.truncation and not (context.predicting or context.single)
    encoded = tokenizer(
        rows["text"],
        truncation=context.truncation,
        max_length=context.max_length if context.truncation else None,
        return_overflowing_tokens=goes_on,
    )
    features: dict[str, list[Any]] = {name: list(values) for name, values in encoded.items()}
    features["source"] = features.pop("overflow_to_sample_mapping", list(range(len(rows["text"]))))
    if context.settings.get("whole_word_mask"):
        count = len(features["source"])
        features["words"] = [[-1 if word is None else word for word in encoded.word_ids(at)] for at in range(count)]
    return features


def redraw(features: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Hide tokens and say in `labels` which; `draw` seeds each row, or its own tokens do."""
    import numpy

    if context.predicting:
        return features
    kept = {name: values for name, values in features.items() if name not in ("draw", "words")}
    ids, labels = [], []
    for place, tokens in enumerate(features["input_ids"]):
        own = [zlib.crc32(numpy.asarray(tokens, numpy.int32).tobytes())]
        draw = numpy.random.default_rng(features["draw"][place] if "draw" in features else own)
        hidden, label = _hidden(tokens, features["words"][place] if "words" in features else None, draw, context)
        ids.append(hidden)
        labels.append(label)
    return {**kept, "input_ids": ids, "labels": labels}


def _hidden(tokens: list[int], words: list[int] | None, draw: Any, context: Context) -> tuple[list[int], list[int]]:
    """Return the tokens of a row with some hidden, and the labels; sub-words of a word are hidden together or not."""
    import numpy

    tokenizer = context.tokenizer
    ids = numpy.asarray(tokens)
    # A word goes on where neighbours have the same number; of packed texts special tokens stand in between.
    groups = numpy.arange(len(ids)) if words is None else numpy.cumsum(numpy.diff(words, prepend=-2) != 0)
    share = context.settings.get("mlm_probability", 0.15)
    drawn = (draw.random(len(ids) + 1) < share)[groups] & ~numpy.isin(ids, tokenizer.all_special_ids)
    fate = draw.random(len(ids))
    others = draw.integers(0, len(tokenizer), len(ids))
    hidden = numpy.where(drawn & (fate < _MASKED), tokenizer.mask_token_id, ids)
    hidden = numpy.where(drawn & (fate >= _MASKED) & (fate < _REPLACED), others, hidden)
    return hidden.tolist(), numpy.where(drawn, ids, IGNORED).tolist()


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the cross-entropy summed over the hidden tokens."""
    from torch.nn import functional

    return functional.cross_entropy(
        outputs.logits.flatten(0, 1).float(),
        batch["labels"].flatten(),
        ignore_index=IGNORED,
        label_smoothing=context.label_smoothing,
        reduction="sum",
    )


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return how many tokens are hidden."""
    return (batch["labels"] != IGNORED).sum().float()


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return for each feature the hidden tokens, how many were the likeliest one, and their summed loss.

    To predict, the tokens of the text, and for each mask in it the likeliest tokens with their probabilities.
    """
    if not context.predicting:
        return token_sums(outputs.logits, batch["labels"])
    kept: dict[str, Any] = {"ids": [], "tokens": [], "scores": []}
    for ids, mask, logits in zip(batch["input_ids"], batch["attention_mask"], outputs.logits, strict=True):
        scores = logits[ids == context.tokenizer.mask_token_id].float().softmax(-1)
        scores, tokens = scores.topk(min(context.top_k or _FILLS, scores.shape[-1]))
        kept["ids"].append(ids[mask == 1].cpu().numpy())
        kept["tokens"].append(tokens.flatten().cpu().numpy())
        kept["scores"].append(scores.flatten().cpu().numpy())
    return kept


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the text with its masks filled, and for each mask the likeliest tokens, as transformers' pipeline does.

    They are `top_k`, or five as there.
    Of a row that was scored: its hidden tokens and their mean loss. Without a mask in the text there is no prediction.
    """
    if not context.predicting:
        tokens = int(answer["tokens"])
        return {"tokens": tokens, "loss": answer["loss"] / tokens if tokens else None}
    tokenizer = context.tokenizer
    ids = answer["ids"].tolist()
    masks = [place for place, token in enumerate(ids) if token == tokenizer.mask_token_id]
    tokens, scores = (answer[name].reshape(len(masks), -1).tolist() if masks else [] for name in ("tokens", "scores"))

    def filled(fills: Mapping[int, int], clean: bool) -> str:
        return str(
            tokenizer.decode([fills.get(place, token) for place, token in enumerate(ids)], skip_special_tokens=clean)
        )

    fills = [
        [
            {
                "score": score,
                "token": token,
                "token_str": tokenizer.decode([token]),
                "sequence": filled({place: token}, len(masks) == 1),
            }
            for token, score in zip(tokens[at], scores[at], strict=True)
        ]
        for at, place in enumerate(masks)
    ]
    best = {place: tokens[at][0] for at, place in enumerate(masks)}
    return {"prediction": filled(best, True) if masks else None, "fills": fills}


def words(target: Any, labels: LabelScheme) -> Any:
    """Return what is to be predicted, which no column of the data holds."""
    return target


TASK = Task(
    name="fill-mask",
    summary="texts of which some words are hidden and guessed from both sides",
    columns=(Column("text", ("text", "content", "document", "sentence", "story", "line")),),
    settings=("packing", "mlm_probability", "whole_word_mask"),
    problem_types=(MASKED,),
    ranked=(MASKED,),
    metrics={MASKED: ("perplexity", "accuracy")},
    auto_classes={"encoder-only": "AutoModelForMaskedLM"},
    encode=encode,
    redraw=redraw,
    pads={"labels": IGNORED, "words": -1},
    loss=loss,
    loss_weight=loss_weight,
    reduce=reduce,
    answer=answer,
    line=line,
    words=words,
    measure=measure,
    formulas=token_formulas,
    unprompted={MASKED: "hidden words are guessed without a prompt, which is what untrained says"},
)
