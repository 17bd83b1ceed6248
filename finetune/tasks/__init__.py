"""What the tool can fine-tune for: one file a task, and this folder is the registry.

A task's file imports only the standard library at its top, so that a recipe can be checked against it
without torch; heavy things are imported inside its functions.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from finetune.errors import FinetuneError

# Every other metric is better the greater it is.
LOWER_IS_BETTER = frozenset({"loss", "mse", "mae", "rmse", "perplexity", "brier_score", "wer", "cer", "ter"})

# The metrics with bounds at most 2 apart: a hundredth of 1 is a point of theirs.
BOUNDED_METRICS = frozenset(
    {
        "accuracy", "accuracy_unanswerable", "exact_match", "exact_match_answerable", "f1", "f1_answerable",
        "precision", "recall", "matthews_correlation", "pearson", "spearman", "brier_score",
        "rouge1", "rouge2", "rougeL", "rougeLsum",
        *(f"{name}_{average}" for name in ("f1", "precision", "recall") for average in ("macro", "micro", "weighted")),
    }
)  # fmt: skip


def greater_is_better(metric: str) -> bool:
    """Tell the direction of a metric."""
    return metric not in LOWER_IS_BETTER


@dataclass(frozen=True)
class Column:
    """A role that a column of the user's data can play, and the names under which it usually comes.

    `kind` is what its values are, by the names of data/kinds.py (text, tokens, texts) and, for a target,
    data/targets.py (label …): the data rooms check, clean and drop rows by it.
    """

    role: str
    usual_names: tuple[str, ...]
    required: bool = True
    several: bool = False  # the recipe may map the role to a list of columns (0/1 flags of a multi-label set)
    kind: str = "text"
    target: bool = False  # what is to be predicted; a task has one such column or, if texts are all it needs, none


@dataclass(frozen=True)
class LabelScheme:
    """How the labels of a dataset are read.

    problem_type is one of the task's own, by transformers' name where it has one. `names[i]` is the label with id i;
    empty where there are no classes.
    """

    problem_type: str
    names: tuple[str, ...] = ()

    @property
    def num_labels(self) -> int:
        """Return the number of outputs that the model's head needs."""
        return len(self.names) or 1


@dataclass(frozen=True)
class Context:
    """What the functions of a task work with beside rows and tensors; without class weights it travels to processes.

    predicting: rows come without targets, to be answered for a user (`finetune predict`); top_k: how many answers to
    each are wanted then, where a task ranks them (None: as many as it gives by itself).
    first_position: the position of the first token of a text in a packed row.
    single: a row may be one feature only, as in a stream, whose steps are counted in rows.
    writes: scores are asked for of what the model writes, in a task where they are optional.
    max_length: the limit in tokens (None: none). settings: the keys of the recipe's `preprocessing` that are the
    task's own. generation: the recipe's section. class_weights (a tensor) and label_smoothing are set in training only.
    """

    tokenizer: Any
    labels: LabelScheme
    kind: str  # encoder-only | decoder-only | encoder-decoder
    max_length: int | None
    truncation: bool = True
    predicting: bool = False
    top_k: int | None = None
    single: bool = False
    writes: bool = False
    first_position: int = 0
    doc_stride: int = 128
    settings: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    config: Any = None  # the checkpoint's
    class_weights: Any = None
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Task:
    """One kind of fine-tuning, as data and plain functions.

    A *row* is one of the user's data, as a dict by role; a *feature* is what the model takes at once. Most tasks make
    one feature of a row; windows of a long text are several.

    metrics: problem type → metric names, the main one first. optional_metrics: names of those that take more work, and
        so are computed only where `evaluation.metrics` names them.
    auto_classes: kind of transformer → transformers' class.
    forms: other sets of columns in which the same data may come. settings: keys of `preprocessing` that are its own.

    encode(rows, context): columns by role (lists of equal length) → columns of features (input_ids …, lists, unpadded).
        Without truncation one feature a row. With it there may be several, which together hold the whole row: then
        `source` says of which of the rows each is, and `cut` (0 or 1) of which tokens are lost all the same. `length`
        counts tokens where that is not the length of input_ids, and `longest` those that the limit holds for where it
        is not that either. If `encodes_target`, the rows have their target (not when predicting) and `labels` is made
        of it here.
    pads: columns of features that a batch needs beside the model's inputs → what fills them up (None: one number each).
    redraw(features, context): features as they are drawn anew for each batch, before padding (masking). In training
        `draw` seeds each by the run's seed, the step and its place; elsewhere they must come out alike each time.
    collate(features, context): the tensors of a batch, where padding is not enough; by their names they are the model's
        inputs (`data.batching.INPUTS`) or for the task itself.
    loss(outputs, batch, context): the loss summed over what it counts; loss_weight(batch, context): how much that is.
        So any way of cutting a batch adds up to the same.
    ask(model, batch, context): the outputs when evaluating, where that is more than one forward pass (generation).
        Without a target it has just what an answer needs.
    generates(context): the settings of generation that follow from the task's own; None: it writes no text.
    reduce(outputs, batch, context): all that is kept of a batch's outputs, one entry a feature: arrays, or lists of
        one-dimensional arrays or texts. `prediction` is one of them. Never logits: memory stays flat.
    answer(features, row, context): the reduced features of a row put together (None: it has one).
    ranked: the problem types whose lines rank several answers, of which `context.top_k` are given.
    line(answer, row, context): the answer as JSON, in the user's words. words(target, labels): a target alike.
    reference(row): what an answer is compared with, where it is a part of an input (None: it is the target).

    Scores: without `measure`, `prediction` is a label and is compared with the target (accuracy, F1 …). With it,
    measure(answer, row, context) gives numbers that add up over rows, and formulas(labels) the metrics, each a function
    of such sums (… × numbers); those of optional metrics have their numbers only where they are asked for. unit(row)
    tells which rows depend on each other (None: none do).

    balanced_weights(known, labels): class weights from all training targets (labels as an array, else the column);
        None: the task has no classes to weight.
    majority(known, rows, labels): the best constant answer for a table of rows, as `answer` or `reduce` has it; None:
        there is none.

    Asked in words, before it is fine-tuned (zero_shot, few_shot): prompts are templates of roles, the target's among
    them; the first whose roles are all in the data is taken. candidates(row, words): the answers to choose among by
    likelihood, in the order of the target's numbers, `words` being those of the labels; None: the answer is written.
    to_text(target), from_text(text): of a task that points at its answers, a target as a model would write it, and the
        answer in a text that one has written (None: it writes, or chooses).
    unprompted: problem type → why its rows cannot be asked so; "" is for rows that no prompt fits.
    """

    name: str
    summary: str
    columns: tuple[Column, ...]
    problem_types: tuple[str, ...]
    metrics: Mapping[str, tuple[str, ...]]
    auto_classes: Mapping[str, str]
    encode: Callable[[dict[str, list[Any]], Context], dict[str, list[Any]]]
    loss: Callable[[Any, Mapping[str, Any], Context], Any]
    loss_weight: Callable[[Mapping[str, Any], Context], Any]
    reduce: Callable[[Any, Mapping[str, Any], Context], dict[str, Any]]
    line: Callable[[Mapping[str, Any], Mapping[str, Any], Context], dict[str, Any]]
    words: Callable[[Any, LabelScheme], Any]
    optional_metrics: tuple[str, ...] = ()
    forms: tuple[tuple[Column, ...], ...] = ()
    settings: tuple[str, ...] = ()
    ranked: tuple[str, ...] = ()
    encodes_target: bool = False
    pads: Mapping[str, int | None] = field(default_factory=dict)
    redraw: Callable[[dict[str, list[Any]], Context], dict[str, list[Any]]] | None = None
    collate: Callable[[dict[str, list[Any]], Context], dict[str, Any]] | None = None
    ask: Callable[[Any, Mapping[str, Any], Context], Any] | None = None
    generates: Callable[[Context], dict[str, Any]] | None = None
    answer: Callable[[list[dict[str, Any]], Mapping[str, Any], Context], dict[str, Any]] | None = None
    measure: Callable[[Mapping[str, Any], Mapping[str, Any], Context], list[float]] | None = None
    formulas: Callable[[LabelScheme], dict[str, Callable[[Any], Any]]] | None = None
    reference: Callable[[Mapping[str, Any]], Any] | None = None
    unit: Callable[[Mapping[str, Any]], Any] | None = None
    balanced_weights: Callable[[Any, LabelScheme], list[float]] | None = None
    majority: Callable[[Any, Any, LabelScheme], dict[str, Any]] | None = None
    prompts: tuple[str, ...] = ()
    candidates: Callable[[Mapping[str, Any], Sequence[str]], Sequence[str]] | None = None
    to_text: Callable[[Any], str] | None = None
    from_text: Callable[[str], Any] | None = None
    unprompted: Mapping[str, str] = field(default_factory=dict)

    @property
    def target(self) -> str | None:
        """Return the role of what is to be predicted."""
        return next((column.role for column in self.columns if column.target), None)

    @property
    def inputs(self) -> tuple[Column, ...]:
        """Return the columns that the model reads."""
        return tuple(column for column in self.columns if not column.target)

    @property
    def all_inputs(self) -> tuple[Column, ...]:
        """Return what the model reads in any form, each role once."""
        return tuple(column for column in self.all_columns if not column.target)

    @property
    def all_columns(self) -> tuple[Column, ...]:
        """Return the columns of every form, each role once."""
        columns: dict[str, Column] = {}
        for form in (self.columns, *self.forms):
            for column in form:
                columns.setdefault(column.role, column)
        return tuple(columns.values())

    def column(self, role: str) -> Column:
        """Return the column that plays a role."""
        return next(column for column in self.columns if column.role == role)

    @property
    def has_references(self) -> bool:
        """Tell whether rows of these columns hold what an answer can be compared with."""
        return self.target is not None or (self.reference is not None and self.columns[0].kind == "messages")

    def reference_of(self, row: Mapping[str, Any], labels: LabelScheme) -> Any:
        """Return what the answer to a row is compared with, in the user's words."""
        return self.words(row[self.target] if self.target else self.reference and self.reference(row), labels)

    def writes_for(self, names: Iterable[str], problem_type: str) -> bool:
        """Tell whether metrics need the model to write, in a task that otherwise does without."""
        return bool(self.optional_metrics) and not set(names) <= set(self.metrics[problem_type])

    def all_metrics(self) -> tuple[str, ...]:
        """Return every metric of the task once, whatever the problem type."""
        every = (name for names in self.metrics.values() for name in names)
        return tuple(dict.fromkeys((*every, *self.optional_metrics)))


def ratio(above: Any, below: Any) -> Any:
    """Divide arrays; 0 where there is nothing to divide by, as scikit-learn counts it."""
    import numpy

    below = numpy.asarray(below, dtype=float)
    return numpy.divide(above, below, out=numpy.zeros_like(below), where=below > 0)


def chosen_loss(logits: Any, known: Any, chosen: Any, smoothing: float) -> Any:
    """Return the cross-entropy, summed over the rows, of choosing one of the places that are known (rows × places).

    Smoothing spreads that share of the target evenly over the known places.
    """
    import torch

    chances = logits.masked_fill(~known, torch.finfo(logits.dtype).min).log_softmax(-1)
    missed = -chances.gather(1, chosen[:, None])[:, 0]
    if smoothing:
        evenly = -chances.masked_fill(~known, 0.0).sum(-1) / known.sum(-1)
        missed = (1 - smoothing) * missed + smoothing * evenly
    return missed.sum()


def require_room(context: Context, pair: bool = False, added: int = 0, before: str = "") -> None:
    """Raise FinetuneError where max_length leaves no token for a text, or for each of a pair, beside the special ones.

    `added` are special tokens that the tokenizer does not put there itself; `before` is put before every text.
    """
    if context.max_length is None or not context.truncation:
        return
    taken = context.tokenizer.num_special_tokens_to_add(pair=pair) + added
    said = f"{taken} of which are special ones"
    if before:
        prefix = len(context.tokenizer(before, add_special_tokens=False)["input_ids"])
        taken, said = taken + prefix, f"{said} and {prefix} those of preprocessing.source_prefix"
    if context.max_length < taken + 1 + pair:
        texts = "two texts" if pair else "a text"
        raise FinetuneError(
            f"preprocessing.max_length: {context.max_length} tokens, {said}, leave no room for {texts}",
            f"Set preprocessing.max_length to {taken + 1 + pair} at least; the texts need more.",
        )


def require_fast(
    tokenizer: Any, needs: str = "the task needs to know which characters each token covers", otherwise: str = ""
) -> None:
    """Raise FinetuneError for a slow tokenizer, which does not say of what its tokens are.

    `needs` says who needs to know what; `otherwise` goes on with the hint.
    """
    if not tokenizer.is_fast:
        raise FinetuneError(
            f"model.name_or_path: its tokenizer is slow (no tokenizer.json), and {needs}",
            f"Take a checkpoint with a fast tokenizer (tokenizer.json){otherwise}.",
        )


@cache
def all_tasks() -> Mapping[str, Task]:
    """Return the tasks by name, read from the files of this folder: a file has a TASK, or TASKS much alike."""
    modules = (importlib.import_module(f"{__name__}.{entry.name}") for entry in pkgutil.iter_modules(__path__))
    return {task.name: task for module in modules for task in getattr(module, "TASKS", None) or (module.TASK,)}
