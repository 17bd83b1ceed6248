"""Text classification: single text or pair; one label, several labels, or a number (regression)."""

from typing import Any

from finetune.tasks import Column, LabelScheme, Task

SINGLE = "single_label_classification"
MULTI = "multi_label_classification"
REGRESSION = "regression"

_CLASS_METRICS = ("f1_macro", "f1_micro", "f1_weighted", "precision_macro", "recall_macro")


def encode(rows: dict[str, list[Any]], tokenizer: Any, max_length: int, truncation: bool) -> dict[str, list[Any]]:
    """Turn texts, or pairs of texts, into token ids without padding."""
    pairs = (rows["text"], rows["text_pair"]) if "text_pair" in rows else (rows["text"],)
    return dict(tokenizer(*pairs, truncation=truncation, max_length=max_length if truncation else None, padding=False))


def loss(logits: Any, labels: Any, scheme: LabelScheme, class_weights: Any = None, label_smoothing: float = 0.0) -> Any:
    """Return the loss summed over the rows; divided by `loss_weight` of the same rows it is their mean.

    Cross-entropy for one label, binary cross-entropy averaged over the labels for several, squared error for
    regression. Class weights multiply the classes, as in torch.
    """
    from torch.nn import functional

    logits = logits.float()
    if scheme.problem_type == SINGLE:
        return functional.cross_entropy(
            logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="sum"
        )
    if scheme.problem_type == MULTI:
        each = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=class_weights, reduction="none")
        return each.mean(dim=1).sum()
    return functional.mse_loss(logits.squeeze(-1), labels, reduction="sum")


def loss_weight(labels: Any, scheme: LabelScheme, class_weights: Any = None) -> Any:
    """Return what the summed loss is divided by: the rows, or the sum of their class weights."""
    import torch

    if scheme.problem_type == SINGLE and class_weights is not None:
        return class_weights[labels].sum()
    return torch.tensor(float(len(labels)), device=labels.device)


def balanced_weights(labels: Any, scheme: LabelScheme) -> list[float]:
    """Return weights inverse to how often each class occurs: rows / (classes × rows of the class).

    For several labels the weight of the positive answers: rows without the label / rows with it.
    """
    import numpy

    if scheme.problem_type == MULTI:
        carrying = numpy.asarray(labels).sum(axis=0).tolist()
        return [(len(labels) - count) / max(count, 1) for count in carrying]
    counts = numpy.bincount(labels, minlength=scheme.num_labels).tolist()
    return [len(labels) / (scheme.num_labels * max(count, 1)) for count in counts]


def predict(logits: Any, scheme: LabelScheme) -> list[dict[str, Any]]:
    """Turn logits (rows × labels, numpy) into one prediction a row.

    {"prediction": label id, list of 0/1 per label, or number; "probabilities": one per label, absent for regression}.
    """
    import numpy
    from scipy.special import expit, softmax

    logits = logits.astype(numpy.float64)
    if scheme.problem_type == REGRESSION:
        return [{"prediction": float(value)} for value in logits[:, 0]]
    if scheme.problem_type == MULTI:
        chances = expit(logits)
        return [{"prediction": (row > 0.5).astype(int).tolist(), "probabilities": row.tolist()} for row in chances]
    chances = softmax(logits, axis=1)
    return [{"prediction": int(row.argmax()), "probabilities": row.tolist()} for row in chances]


def majority(labels: Any, scheme: LabelScheme) -> Any:
    """Return the most frequent class, the labels that most rows carry, or the mean."""
    import numpy

    if scheme.problem_type == REGRESSION:
        return float(numpy.mean(labels))
    if scheme.problem_type == MULTI:
        return [int(2 * count > len(labels)) for count in numpy.asarray(labels).sum(axis=0).tolist()]
    return int(numpy.bincount(labels).argmax())


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
            "label", ("label", "labels", "target", "class", "category", "intent", "sentiment", "score"), several=True
        ),
    ),
    target="label",
    problem_types=(SINGLE, MULTI, REGRESSION),
    metrics={
        SINGLE: ("accuracy", *_CLASS_METRICS, "matthews_correlation"),
        MULTI: ("f1_micro", "f1_macro", "f1_weighted", "precision_micro", "recall_micro", "exact_match"),
        REGRESSION: ("pearson", "spearman", "mse", "mae"),
    },
    auto_class="AutoModelForSequenceClassification",
    encode=encode,
    loss=loss,
    loss_weight=loss_weight,
    balanced_weights=balanced_weights,
    predict=predict,
    majority=majority,
)
