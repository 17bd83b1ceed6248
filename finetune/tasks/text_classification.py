"""Text classification: single text or pair; one label, several labels, or a number (regression)."""

from collections.abc import Mapping, Sequence
from typing import Any

from finetune.tasks import Column, Context, LabelScheme, Task, require_room

SINGLE = "single_label_classification"
MULTI = "multi_label_classification"
REGRESSION = "regression"

_CLASS_METRICS = ("f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro")


def encode(rows: dict[str, list[Any]], context: Context) -> dict[str, list[Any]]:
    """Turn texts, or pairs of texts, into token ids without padding."""
    require_room(context, pair="text_pair" in rows)
    pairs = (rows["text"], rows["text_pair"]) if "text_pair" in rows else (rows["text"],)
    limit = context.max_length if context.truncation else None
    return dict(context.tokenizer(*pairs, truncation=context.truncation, max_length=limit, padding=False))


def loss(outputs: Any, batch: Mapping[str, Any], context: Context) -> Any:
    """Return the loss summed over the rows; divided by `loss_weight` of the same rows it is their mean.

    Cross-entropy for one label, binary cross-entropy averaged over the labels for several, squared error for
    regression. Class weights multiply the classes, as in torch.
    """
    from torch.nn import functional

    logits, labels, weights = outputs.logits.float(), batch["labels"], context.class_weights
    if context.labels.problem_type == SINGLE:
        return functional.cross_entropy(
            logits, labels, weight=weights, label_smoothing=context.label_smoothing, reduction="sum"
        )
    if context.labels.problem_type == MULTI:
        each = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=weights, reduction="none")
        return each.mean(dim=1).sum()
    return functional.mse_loss(logits.squeeze(-1), labels, reduction="sum")


def loss_weight(batch: Mapping[str, Any], context: Context) -> Any:
    """Return what the summed loss is divided by: the rows, or the sum of their class weights."""
    import torch

    labels = batch["labels"]
    if context.labels.problem_type == SINGLE and context.class_weights is not None:
        return context.class_weights[labels].sum()
    return torch.tensor(float(len(labels)), device=labels.device)


def balanced_weights(known: Any, labels: LabelScheme) -> list[float]:
    """Return weights inverse to how often each class occurs: rows / (classes × rows of the class).

    For several labels the weight of the positive answers: rows without the label / rows with it.
    """
    import numpy

    if labels.problem_type == MULTI:
        carrying = numpy.asarray(known).sum(axis=0).tolist()
        return [(len(known) - count) / max(count, 1) for count in carrying]
    counts = numpy.bincount(known, minlength=labels.num_labels).tolist()
    return [len(known) / (labels.num_labels * max(count, 1)) for count in counts]


def reduce(outputs: Any, batch: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return the prediction of each row (label id, 0/1 for each label, or number) and the probabilities of the labels.

    A regression has no probabilities.
    """
    import numpy
    from scipy.special import expit, softmax

    logits = outputs.logits.float().cpu().numpy().astype(numpy.float64)
    if context.labels.problem_type == REGRESSION:
        return {"prediction": logits[:, 0]}
    if context.labels.problem_type == MULTI:
        chances = expit(logits)
        return {"prediction": (chances > 0.5).astype(numpy.uint8), "probabilities": chances}
    chances = softmax(logits, axis=1)
    return {"prediction": chances.argmax(axis=1).astype(numpy.int32), "probabilities": chances}


def words(target: Any, labels: LabelScheme) -> Any:
    """Return a label id as its name, 0/1 flags as the list of the names that are set, a number as itself."""
    if not labels.names:
        return target
    if isinstance(target, list):
        return [name for name, flag in zip(labels.names, target, strict=True) if flag]
    return labels.names[target]


def line(answer: Mapping[str, Any], row: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Return prediction, its probability (one label only) and the probabilities by label name (not of a regression).

    With `top_k` only the most probable labels, the first of them first.
    """
    choice, labels = answer["prediction"], context.labels
    said = {"prediction": words(choice, labels)}
    if "probabilities" not in answer:
        return said
    chances = answer["probabilities"]
    if not isinstance(choice, list):
        said["probability"] = chances[choice]
    named = dict(zip(labels.names, chances, strict=True))
    if context.top_k is not None:
        named = dict(sorted(named.items(), key=lambda pair: -pair[1])[: context.top_k])
    return {**said, "probabilities": named}


def most_common(known: Any, labels: LabelScheme) -> Any:
    """Return the most frequent class, the labels that most rows carry, or the mean."""
    import numpy

    if labels.problem_type == REGRESSION:
        return float(numpy.mean(known))
    if labels.problem_type == MULTI:
        return [int(2 * count > len(known)) for count in numpy.asarray(known).sum(axis=0).tolist()]
    return int(numpy.bincount(known).argmax())


def majority(known: Any, rows: Any, labels: LabelScheme) -> dict[str, Any]:
    """Return the most common answer for every row."""
    import numpy

    constant = numpy.asarray(most_common(known, labels))
    return {"prediction": numpy.broadcast_to(constant, (len(rows), *constant.shape))}


def candidates(row: Mapping[str, Any], words: Sequence[str]) -> Sequence[str]:
    """Return the answers that a model asked in words chooses among: the words of the labels."""
    return words


TASK = Task(
    name="text-classification",
    summary="one label, several labels or a number for a text or a pair of texts",
    columns=(
        Column(
            "text",
            (
                "text",
                "sentence",
                "sentence1",
                "premise",
                "question",
                "question1",
                "review",
                "content",
                "tweet",
                "document",
                "message",
            ),
        ),
        Column("text_pair", ("text_pair", "sentence2", "hypothesis", "question2", "text2"), required=False),
        Column(
            "label",
            ("label", "labels", "target", "class", "category", "intent", "sentiment", "score"),
            several=True,
            kind="label",
            target=True,
        ),
    ),
    problem_types=(SINGLE, MULTI, REGRESSION),
    ranked=(SINGLE, MULTI),
    metrics={
        SINGLE: ("accuracy", *_CLASS_METRICS, "matthews_correlation"),
        MULTI: ("f1_micro", "f1_macro", "f1_weighted", "precision_micro", "recall_micro", "exact_match"),
        REGRESSION: ("pearson", "spearman", "mse", "mae"),
    },
    auto_classes=dict.fromkeys(
        ("encoder-only", "decoder-only", "encoder-decoder"), "AutoModelForSequenceClassification"
    ),
    encode=encode,
    loss=loss,
    loss_weight=loss_weight,
    reduce=reduce,
    line=line,
    words=words,
    balanced_weights=balanced_weights,
    majority=majority,
    prompts=("{text}\n{text_pair}\nCategory: {label}", "{text}\nCategory: {label}"),
    candidates=candidates,
    unprompted={
        MULTI: "a row with several labels has no one answer to choose among words",
        REGRESSION: "a number is no answer to choose among words",
    },
)
