"""One forward path for baselines, validation, test and `finetune predict`."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.arrow_files import table_of
from finetune.data.batching import collate, evaluation_batches
from finetune.data.spool import as_array, scratch_array
from finetune.errors import FinetuneError
from finetune.evaluation.intervals import confidence_interval
from finetune.evaluation.metrics import compute_metrics
from finetune.tasks import LabelScheme, Task

if TYPE_CHECKING:
    import numpy
    import pyarrow
    import torch


@dataclass(frozen=True)
class Evaluation:
    """What a model said about a split, in the order of the split; no logits are kept.

    Of several ranks, rank 0 has the whole of it, the others nothing.
    answers: label ids (int32), or rows × labels of 0/1 (uint8), or numbers (float64); references: what was true, alike.
    rows: where they stand in the source. probabilities: rows × labels, in a mapped file when they are many; None for
    regression, and where nothing was computed.
    """

    answers: numpy.ndarray
    references: numpy.ndarray
    rows: numpy.ndarray
    probabilities: numpy.ndarray | None = None
    loss: float | None = None

    def predictions(self) -> Iterator[dict[str, Any]]:
        """Yield the prediction of each row, as the task's `predict` gives it."""
        for place, answer in enumerate(self.answers):
            chances = {} if self.probabilities is None else {"probabilities": self.probabilities[place].tolist()}
            yield {"prediction": answer.tolist(), **chances}


def label_array(column: pyarrow.ChunkedArray, labels: LabelScheme) -> numpy.ndarray:
    """Return a column of labels as one array: ids, rows × labels of 0/1, or numbers."""
    import numpy

    if labels.problem_type == "regression":
        return as_array(column, numpy.float64)
    if labels.problem_type != "multi_label_classification":
        return as_array(column, numpy.int32)
    flags = numpy.empty((len(column), labels.num_labels), numpy.uint8)
    start = 0
    for chunk in column.chunks:
        flags[start : start + len(chunk)] = chunk.flatten().to_numpy().reshape(len(chunk), -1)
        start += len(chunk)
    return flags


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
        # Not inference_mode(): FSDP would keep buffers that no later training step may write to.
        with torch.no_grad(), self.autocast():
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
    if predictor.recorded or predictor.device.type != "cpu" or ranks.size() > 1:
        for places in batches:
            check()
            yield places, predictor.recorded(places) if predictor.recorded else predictor.logits(tokens[places])
        return
    for places, logits in in_threads(lambda places: (places, predictor.logits(tokens[places])), batches):
        check()
        yield places, logits


def in_threads(work: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
    """Yield the results of `work` in the order of the items, one item a core at a time.

    Cores that share out every operation of one item wait for each other far longer than they compute.
    """
    import torch

    cores = torch.get_num_threads()
    with ThreadPoolExecutor(cores, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting: deque[Any] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > cores:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_TOKEN_COLUMNS = ("input_ids", "attention_mask", "token_type_ids")


def evaluate_split(
    predictor: Predictor, split: Any, check: Callable[[], None], advance: Callable[[int], None] = lambda done: None
) -> Evaluation:
    """Return the predictions for a labelled split, in its own order, and its mean loss.

    The ranks share the batches, and rank 0 takes their answers in the order of the batches: those of one process.
    """
    import numpy
    import torch

    task, labels = predictor.task, predictor.labels
    references = label_array(table_of(split).column("labels"), labels)
    # As the loss wants them: flags are numbers to it, ids whole ones.
    truth_type = torch.int64 if labels.problem_type == "single_label_classification" else torch.float32
    answers = numpy.empty_like(references)
    with_chances = labels.problem_type != "regression" and ranks.is_main()
    chances = scratch_array((len(split), labels.num_labels), numpy.float64) if with_chances else None
    lengths = as_array(table_of(split).column("length"), numpy.int32)
    own = ranks.share(list(evaluation_batches(lengths, predictor.batch_size)), filler=lambda batch: batch[-1:])
    asked = predict_rows(predictor, split, (places for places, _ in own), check)
    loss_sum = weight_sum = 0.0
    done = 0
    for (places, logits), (_, counts) in zip(asked, own, strict=True):
        truth = torch.tensor(references[places], dtype=truth_type)
        loss, weight = float(task.loss(logits, truth, labels)), float(task.loss_weight(truth, labels))
        found = (places, *_columns(task.predict(logits.numpy(), labels)), loss, weight) if counts else None
        for answered, said, shares, batch_loss, batch_weight in filter(None, ranks.gather(found)):
            loss_sum, weight_sum = loss_sum + batch_loss, weight_sum + batch_weight
            answers[answered] = said
            if chances is not None:
                chances[answered] = shares
            done += len(answered)
        advance(done)
    rows = as_array(table_of(split).column("row"), numpy.int64)
    if not ranks.is_main():
        return Evaluation(answers[:0], references[:0], rows[:0])
    return Evaluation(answers, references, rows, chances, loss_sum / weight_sum if weight_sum else None)


def _columns(said: list[dict[str, Any]]) -> tuple[list[Any], list[Any]]:
    """Return predictions and probabilities (none for regression) of some rows."""
    return [entry["prediction"] for entry in said], [entry.get("probabilities") for entry in said]


def score(
    evaluation: Evaluation, names: Sequence[str], labels: LabelScheme, confidence: float | None = None
) -> dict[str, dict[str, Any]]:
    """Return each metric as {value, low, high, n}, with its interval where a confidence is given.

    A value that is undefined (a correlation with a constant) is null, never a number.
    Raises FinetuneError when a model's outputs are not numbers.
    """
    import numpy

    if not numpy.isfinite(evaluation.answers).all():
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
