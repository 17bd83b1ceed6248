"""One forward path for baselines, validation, test and `finetune predict`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.batching import collate, evaluation_batches
from finetune.errors import FinetuneError
from finetune.evaluation.intervals import confidence_interval
from finetune.evaluation.metrics import compute_metrics
from finetune.tasks import LabelScheme, Task

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Evaluation:
    """What a model said about a split: one prediction a row in the order of the split, and what was true.

    Of several ranks, rank 0 has the whole of it, the others nothing.
    """

    predictions: list[dict[str, Any]]
    references: list[Any]
    rows: list[int]
    loss: float | None = None

    @property
    def answers(self) -> list[Any]:
        """Return the predictions as the metrics want them."""
        return [entry["prediction"] for entry in self.predictions]


@dataclass(frozen=True)
class Predictor:
    """A model ready to be asked, with what its forward path needs.

    recorded: takes places in the split and gives their logits, when the frozen part of the forward path is on record.
    """

    model: torch.nn.Module
    tokenizer: Any
    task: Task
    labels: LabelScheme
    max_length: int
    batch_size: int
    device: Any
    autocast: Callable[[], Any]
    recorded: Callable[[Any], Any] | None = None

    def logits(self, rows: dict[str, list[Any]]) -> Any:
        """Return the head's output for a batch of encoded rows (rows × labels, float32, on the CPU)."""
        import torch

        batch = collate(rows, self.tokenizer, self.max_length, self.device.type)
        with torch.inference_mode(), self.autocast():
            inputs = {name: tensor.to(self.device) for name, tensor in batch.items()}
            return self.model(**inputs).logits.float().cpu()


def predict_rows(
    predictor: Predictor, split: Any, batches: Iterable[Any], check: Callable[[], None]
) -> Iterator[tuple[Any, Any]]:
    """Yield (places in the split, logits) for each batch of places; nothing is kept, so memory stays flat.

    `check` is called between batches and may raise to interrupt.
    """
    predictor.model.eval()
    tokens = split.select_columns([name for name in _TOKEN_COLUMNS if name in split.column_names])
    for places in batches:
        check()
        yield places, predictor.recorded(places) if predictor.recorded else predictor.logits(tokens[places])


_TOKEN_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


def evaluate_split(
    predictor: Predictor, split: Any, check: Callable[[], None], advance: Callable[[int], None] = lambda done: None
) -> Evaluation:
    """Return the predictions for a labelled split, in its own order, and its mean loss.

    The ranks share the batches, and rank 0 takes their answers in the order of the batches: those of one process.
    """
    import torch

    task, labels = predictor.task, predictor.labels
    predictions: list[Any] = [None] * len(split)
    references = list(split["labels"])
    loss_sum = weight_sum = 0.0
    done = 0
    batches = list(evaluation_batches(split["length"], predictor.batch_size))
    own = ranks.share(batches, filler=lambda batch: batch[-1:])
    asked = predict_rows(predictor, split, (places for places, _ in own), check)
    for (places, logits), (_, counts) in zip(asked, own, strict=True):
        truth = torch.tensor([references[place] for place in places])
        loss, weight = float(task.loss(logits, truth, labels)), float(task.loss_weight(truth, labels))
        answers = (places, task.predict(logits.numpy(), labels), loss, weight) if counts else None
        for answered, found, batch_loss, batch_weight in filter(None, ranks.gather(answers)):
            loss_sum, weight_sum = loss_sum + batch_loss, weight_sum + batch_weight
            for place, prediction in zip(answered, found, strict=True):
                predictions[place] = prediction
            done += len(answered)
        advance(done)
    if not ranks.is_main():
        return Evaluation([], [], [])
    return Evaluation(
        predictions, _plain(references, labels), list(split["row"]), loss_sum / weight_sum if weight_sum else None
    )


def _plain(references: list[Any], labels: LabelScheme) -> list[Any]:
    if labels.problem_type == "multi_label_classification":
        return [[int(flag) for flag in flags] for flags in references]
    return references


def score(
    evaluation: Evaluation, names: Sequence[str], labels: LabelScheme, confidence: float | None = None
) -> dict[str, dict[str, Any]]:
    """Return each metric as {value, low, high, n}, with its interval where a confidence is given.

    A value that is undefined (a correlation with a constant) is null, never a number.
    Raises FinetuneError when a model's outputs are not numbers.
    """
    if any(isinstance(answer, float) and not math.isfinite(answer) for answer in evaluation.answers):
        raise FinetuneError(
            "the model's predictions are not finite numbers (NaN or infinity)",
            "Lower training.learning_rate, or set training.mixed_precision: no.",
        )
    values = compute_metrics(names, evaluation.answers, evaluation.references, labels)
    scores = {}
    for name, value in values.items():
        interval = None
        if confidence is not None and math.isfinite(value):
            interval = confidence_interval(name, evaluation.answers, evaluation.references, labels, confidence)
        low, high = interval or (None, None)
        n = len(evaluation.references)
        scores[name] = {"value": value if math.isfinite(value) else None, "low": low, "high": high, "n": n}
    return scores
