"""One forward path for baselines, validation, test and `finetune predict`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.arrow_files import table_of
from finetune.data.batching import batch_columns, evaluation_batches, make_batch, model_inputs
from finetune.data.spool import as_array
from finetune.evaluation.answers import Answers
from finetune.tasks import Context, LabelScheme, Task

if TYPE_CHECKING:
    import numpy
    import pyarrow
    import torch

_ROWS_AT_ONCE = 1000


# The keys of the recipe's preprocessing that are no task's own: they say how much, and by how many, is tokenised.
_COMMON = ("max_length", "truncation", "doc_stride", "num_proc")


def task_context(
    tokenizer: Any,
    labels: LabelScheme,
    kind: str,
    config: Any,
    max_length: int | None,
    preprocessing: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> Context:
    """Return what a task's functions work with, from the sections of a recipe."""
    return Context(
        tokenizer=tokenizer,
        labels=labels,
        kind=kind,
        max_length=max_length,
        truncation=preprocessing.get("truncation", True),
        doc_stride=preprocessing.get("doc_stride", 128),
        settings={name: value for name, value in preprocessing.items() if name not in _COMMON},
        generation=generation,
        config=config,
    )


@dataclass(frozen=True)
class Evaluation:
    """What a model said about a split; no logits are kept.

    rows: the split by role. answers: of its features; sources: the place of each feature's row, ascending (None: they
    are the rows one by one). Of several ranks, rank 0 has the whole of it, the others nothing.
    """

    task: Task
    context: Context
    rows: pyarrow.Table
    answers: Answers
    sources: numpy.ndarray | None = None
    loss: float | None = None

    @property
    def n(self) -> int:
        """Return the number of rows that were answered."""
        return int(self.rows.num_rows)

    def answered(self) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
        """Yield each row by role, in the order of the split, and the answer to it."""
        import numpy

        starts = None if self.sources is None else numpy.searchsorted(self.sources, numpy.arange(self.n + 1))
        for first in range(0, self.n, _ROWS_AT_ONCE):
            for place, row in enumerate(self.rows.slice(first, _ROWS_AT_ONCE).to_pylist(), first):
                places = range(place, place + 1) if starts is None else range(starts[place], starts[place + 1])
                yield row, whole_answer(self.task, [self.answers.feature(at) for at in places], row, self.context)


def whole_answer(task: Task, features: list[dict[str, Any]], row: dict[str, Any], context: Context) -> dict[str, Any]:
    """Return the answer to a row from what was kept of its features."""
    return features[0] if task.answer is None else task.answer(features, row, context)


@dataclass(frozen=True)
class Predictor:
    """A model ready to be asked, with what its forward path needs.

    recorded: takes places in the split and gives outputs and batch, when the frozen part of the forward path is on
    record.
    """

    model: torch.nn.Module
    task: Task
    context: Context
    batch_size: int
    device: Any
    autocast: Callable[[], Any]
    recorded: Callable[[Any], tuple[Any, dict[str, Any]]] | None = None

    def outputs(self, features: dict[str, list[Any]]) -> tuple[Any, dict[str, Any]]:
        """Return the model's outputs for some features, and their batch."""
        import torch

        batch = make_batch(features, self.task, self.context, self.device)
        # Not inference_mode(): FSDP would keep buffers that no later training step may write to.
        with torch.no_grad(), self.autocast():
            if self.task.ask is not None:
                return self.task.ask(self.model, batch, self.context), batch
            return self.model(**model_inputs(batch)), batch


def predict_rows(
    predictor: Predictor,
    split: Any,
    batches: Iterable[Any],
    check: Callable[[], None],
    keep: Callable[[Any, dict[str, Any]], Any] = lambda outputs, batch: None,
) -> Iterator[tuple[Any, Any]]:
    """Yield, for each batch of places in an encoded split, the places and what `keep` makes of outputs and batch.

    Nothing else is kept, so memory stays flat. `check` is called between batches and may raise to interrupt.
    """
    predictor.model.eval()
    features = batch_columns(split, predictor.task)

    def work(places: Any) -> tuple[Any, Any]:
        asked = predictor.recorded(places) if predictor.recorded else predictor.outputs(features[places])
        return places, keep(*asked)

    if predictor.recorded or predictor.device.type != "cpu" or ranks.size() > 1:
        for places in batches:
            check()
            yield work(places)
        return
    for places, kept in in_threads(work, batches):
        check()
        yield places, kept


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


def evaluate_split(
    predictor: Predictor,
    split: Any,
    rows: Any,
    sources: Any = None,
    check: Callable[[], None] = lambda: None,
    advance: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Return the answers to the rows of a split (a datasets.Dataset by role) in their order, and the mean loss.

    `split` holds their features, `sources` the place of each one's row. The ranks share the batches, and rank 0 takes
    their answers in the order of the batches: those of one process.
    """
    import numpy
    import torch

    task, context = predictor.task, predictor.context

    def keep(outputs: Any, batch: dict[str, Any]) -> tuple[dict[str, Any], float, float]:
        with torch.no_grad():
            loss, weight = task.loss(outputs, batch, context), task.loss_weight(batch, context)
            return task.reduce(outputs, batch, context), float(loss), float(weight)

    table = table_of(rows)
    answers = Answers(len(split))
    lengths = as_array(table_of(split).column("length"), numpy.int32)
    own = ranks.share(list(evaluation_batches(lengths, predictor.batch_size)), filler=lambda batch: batch[-1:])
    asked = predict_rows(predictor, split, (places for places, _ in own), check, keep)
    loss_sum = weight_sum = 0.0
    done = 0
    for (places, kept), (_, counts) in zip(asked, own, strict=True):
        for answered, (reduced, loss, weight) in filter(None, ranks.gather((places, kept) if counts else None)):
            loss_sum, weight_sum = loss_sum + loss, weight_sum + weight
            if ranks.is_main():
                answers.put(answered, reduced)
            done += len(answered)
        advance(done)
    if not ranks.is_main():
        return Evaluation(task, context, table.slice(0, 0), answers)
    return Evaluation(task, context, table, answers, sources, loss_sum / weight_sum if weight_sum else None)
