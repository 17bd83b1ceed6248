"""Text classification: single text or pair; one label, several labels, or a number (regression)."""

from collections import Counter
from collections.abc import Sequence
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


def loss(
    logits: Any, labels: Any, scheme: LabelScheme, class_weights: Any = None, label_smoothing: float = 0.0
) -> tuple[Any, Any]:
    """Return the summed loss and the weight it was summed over, so that any split of a batch adds up exactly.

    Cross-entropy for one label (class-weighted as in torch: the divisor is the sum of the weights), binary
    cross-entropy averaged over the labels for several, squared error for regression.
    """
    import torch
    from torch.nn import functional

    logits = logits.float()
    if scheme.problem_type == SINGLE:
        total = functional.cross_entropy(
            logits, labels, weight=class_weights, label_smoothing=label_smoothing, reduction="sum"
        )
        count = torch.tensor(float(len(labels))) if class_weights is None else class_weights[labels].sum()
        return total, count.to(logits.device)
    if scheme.problem_type == MULTI:
        each = functional.binary_cross_entropy_with_logits(logits, labels, pos_weight=class_weights, reduction="none")
        return each.mean(dim=1).sum(), torch.tensor(float(len(labels)), device=logits.device)
    total = functional.mse_loss(logits.squeeze(-1), labels, reduction="sum")
    return total, torch.tensor(float(len(labels)), device=logits.device)


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
        return [
            {"prediction": (row > 0.5).astype(int).tolist(), "probabilities": row.tolist()} for row in chances
        ]
    chances = softmax(logits, axis=1)
    return [{"prediction": int(row.argmax()), "probabilities": row.tolist()} for row in chances]


def majority(labels: Sequence[Any], scheme: LabelScheme) -> Any:
    """Return the most frequent class, the labels that most rows carry, or the mean."""
    if scheme.problem_type == REGRESSION:
        return sum(labels) / len(labels)
    if scheme.problem_type == MULTI:
        return [int(2 * sum(flags) > len(labels)) for flags in zip(*labels, strict=True)]
    counts = Counter(labels)
    return min(counts, key=lambda label: (-counts[label], label))


TASK = Task(
    name="text-classification",
    summary="one label, several labels or a number for a text or a pair of texts",
    columns=(
        Column(
            "text",
            ("text", "sentence", "sentence1", "premise", "question", "question1", "review", "content", "tweet", "document", "message"),
        ),
        Column("text_pair", ("text_pair", "sentence2", "hypothesis", "question2", "text2"), required=False),
        Column("label", ("label", "labels", "target", "class", "category", "intent", "sentiment", "score"), several=True),
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
    predict=predict,
    majority=majority,
)
