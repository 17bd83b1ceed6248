"""From the rows of a split to what a language model is asked: the task in words, and its features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from finetune.data.arrow_files import table_of
from finetune.data.batching import without_targets
from finetune.data.encoding import encode_window
from finetune.errors import FinetuneError
from finetune.models.architecture import DECODER_ONLY, ENCODER_ONLY
from finetune.recipe.prompt_keys import SCRATCH, label_words, template_roles
from finetune.tasks import Context, LabelScheme, Task, require_fast
from finetune.text import did_you_mean, join_words
from finetune.zero_shot.choosing import ask, choosing, collate, features_of
from finetune.zero_shot.examples import draw_examples
from finetune.zero_shot.fitting import Fitting, with_examples
from finetune.zero_shot.tokens import Asked, asked
from finetune.zero_shot.wording import Row, Wording, spelled_out
from finetune.zero_shot.writing import most_tokens, writing

if TYPE_CHECKING:
    from finetune.data.sources import LoadedData
    from finetune.models.build import Checkpoint
    from finetune.recipe.prompt_keys import Prompt
    from finetune.recipe.schema import Recipe

_ROWS_AT_ONCE = 1000
_SAYS_NOTHING = ("N/A", "[MASK]", "")  # the content-free inputs of Zhao et al., ICML 2021: characters, no mask token


@dataclass(frozen=True)
class Prompted:
    """A split as a language model is asked about it.

    task: with the functions of the asking. features: of the split's rows one by one, a datasets.Dataset. facts: what
    the record says of the prompt.
    """

    task: Task
    context: Context
    features: Any
    facts: dict[str, Any]


@dataclass(frozen=True)
class Asking:
    """A recipe's way to put its rows in words, for one checkpoint and its data.

    context: of the model, with its own limit in tokens: prompts are longer than the rows that training sees.
    """

    wording: Wording
    prompt: Prompt
    context: Context
    seed: int

    @property
    def task(self) -> Task:
        """Return the task whose rows are put in words."""
        return self.wording.task


def why_not_asked(recipe: Recipe, data: LoadedData, kind: str) -> str | None:
    """Return why these rows cannot be put in words to a kind of model, or its answers are noise; None: they can."""
    task = data.task
    if recipe.model.init == "scratch":
        return SCRATCH
    if data.labels.problem_type in task.unprompted:
        return task.unprompted[data.labels.problem_type]
    if task.from_text is not None and kind == ENCODER_ONLY:
        return "a span of the text needs a head that points at it, and an encoder-only model cannot write it either"
    if recipe.evaluation.prompt.template is None and _own_template(task, data) is None:
        return task.unprompted.get("", "no prompt of the task fits the columns of its rows")
    return None


def why_no_examples(data: LoadedData) -> str | None:
    """Return why there are no solved examples to show."""
    return "the training rows are a stream, of which no examples are drawn" if data.stream is not None else None


def _own_template(task: Task, data: LoadedData) -> str | None:
    return next((text for text in task.prompts if set(template_roles(text)) <= set(data.columns)), None)


def open_asking(recipe: Recipe, data: LoadedData, checkpoint: Checkpoint, context: Context) -> Asking:
    """Return how the rows of a run are put in words; raises FinetuneError where template or label words do not fit."""
    prompt, task, labels = recipe.evaluation.prompt, data.task, data.labels
    template = prompt.template or _own_template(task, data)
    assert template is not None
    for role in template_roles(template):
        if role not in data.columns:
            raise FinetuneError(
                f"evaluation.prompt.template: {{{role}}} is in no column of the data, which has "
                f"{join_words(data.columns, 'and')}",
                f"Say which column it is (dataset.columns.{role}), or leave it out of the template.",
            )
    _require_known_labels(prompt, labels)
    require_fast(
        checkpoint.tokenizer,
        "asking in words needs to know which characters each token covers",
        ", or leave zero_shot and few_shot out of evaluation.baselines",
    )
    own = replace(context, max_length=checkpoint.max_length(None), predicting=False, label_smoothing=0.0,
                  class_weights=None)  # fmt: skip
    wording = Wording(task, template, label_words(labels.names, prompt.label_words))
    return Asking(wording, prompt, own, recipe.training.seed)


def _require_known_labels(prompt: Prompt, labels: LabelScheme) -> None:
    for name in prompt.label_words or {}:
        if name not in labels.names:
            near = did_you_mean(name, labels.names)
            raise FinetuneError(
                f"evaluation.prompt.label_words: {name!r} is no label of the data, which has "
                f"{join_words(labels.names[:12], 'and')}",
                f"Did you mean {near}?" if near else "Name labels as they stand in the data.",
            )
    chosen = label_words(labels.names, prompt.label_words)
    owner: dict[str, str] = {}
    for name, word in chosen.items():
        if owner.setdefault(word.lower(), name) != name:
            raise FinetuneError(
                f"evaluation.prompt.label_words: {owner[word.lower()]} and {name} have the same word, {word!r}",
                "Give each label words of its own.",
            )


def prompted(asking: Asking, data: LoadedData, split: Any, model: Any, shots: int = 0) -> Prompted:
    """Return a split as a model is asked about it, after `shots` solved training rows.

    The model itself is only asked here where it is calibrated. Raises FinetuneError where prompts do not fit.
    """
    limit = asking.context.max_length or 0
    fitting = Fitting(asking.context.tokenizer, limit, asking.context.truncation)
    wording, passed_over = asking.wording, 0
    shown: list[Row] = []
    if shots:
        train = data.splits["train"]
        drawn, passed_over = draw_examples(train, split, asking.task, data.labels, shots, asking.seed)
        shown = spelled_out(drawn, asking.task, asking.context.tokenizer)
        wording = with_examples(wording, shown, fitting)
    cut_examples, fitting.cut = fitting.cut, 0
    if asking.task.candidates is None:
        task = asking.task if asking.task.from_text is None else writing(asking.task)
        features = _written(asking, task, wording, split, fitting)
    else:
        features = _chosen(asking, wording, split, fitting)
        task = choosing(asking.task, _prior(asking, wording, model) if asking.prompt.calibrate else None)
    facts = {
        "template": wording.template,
        "label_words": dict(wording.words) or None,
        "shots": len(shown),
        "example_rows": [row["row"] for row in shown],
        "passed_over_rows": passed_over,
        "calibrate": asking.prompt.calibrate and asking.task.candidates is not None,
        "max_length": limit,
        "cut_rows": fitting.cut,
        "cut_examples": cut_examples,
    }
    return Prompted(task, asking.context, features, facts)


def _rows(split: Any, asking: Asking) -> Iterator[list[Row]]:
    table = table_of(split)
    for first in range(0, table.num_rows, _ROWS_AT_ONCE):
        rows = table.slice(first, _ROWS_AT_ONCE).to_pylist()
        yield spelled_out(rows, asking.task, asking.context.tokenizer)


def _chosen(asking: Asking, wording: Wording, split: Any, fitting: Fitting) -> Any:
    """Return the features of a split whose answers are chosen."""
    import datasets
    import pyarrow

    read = _reader(asking, wording)
    ids = pyarrow.list_(pyarrow.list_(pyarrow.int32()))
    kinds = {"sequences": ids, "places": ids, "source": pyarrow.list_(pyarrow.int32())}
    batches = []
    for rows in _rows(split, asking):
        features = features_of([read(fitting.fit(row, wording, lambda own: read(own).length)) for row in rows])
        arrays = {name: pyarrow.array(values, kinds.get(name)) for name, values in features.items()}
        batches.append(pyarrow.RecordBatch.from_pydict(arrays))
    return datasets.Dataset(pyarrow.Table.from_batches(batches), fingerprint="prompted")


def _reader(asking: Asking, wording: Wording) -> Callable[[Row], Asked]:
    context = asking.context

    def read(row: Row) -> Asked:
        return asked(wording.query(row), wording.answers(row), context.tokenizer, context.kind, context.config)

    return read


def _prior(asking: Asking, wording: Wording, model: Any) -> Any:
    """Return the log of the labels' mean probabilities for texts that say nothing."""
    import numpy
    import torch
    from scipy.special import softmax

    read = _reader(asking, wording)
    nothing = spelled_out((dict.fromkeys(wording.inputs, text) for text in _SAYS_NOTHING), asking.task,
                          asking.context.tokenizer)  # fmt: skip
    rows = [read(row) for row in nothing]
    features = {name: values for name, values in features_of(rows).items() if name != "length"}
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in collate(features, asking.context).items()}
    with torch.no_grad():
        scores = ask(model, batch, asking.context).scores.cpu().numpy().astype(numpy.float64)
    return numpy.log(softmax(scores.reshape(len(rows), -1), axis=1).mean(axis=0))


def _written(asking: Asking, task: Task, wording: Wording, split: Any, fitting: Fitting) -> Any:
    """Return the features of a split whose answers are written: the task's own, of rows with the prompt as input."""
    import pyarrow

    context, role = asking.context, task.inputs[0].role

    def prompt(row: Row) -> str:
        before = wording.query(row).before
        return before if context.kind == DECODER_ONLY else before.rstrip()

    def length(row: Row) -> int:
        alone = replace(context, truncation=False, predicting=True)
        return len(task.encode({role: [prompt(row)]}, alone)["input_ids"][0]) + _answer_room(row, wording, context)

    put = []
    for rows in _rows(split, asking):
        for row in rows:
            text = prompt(fitting.fit(row, wording, length))
            is_apart = context.kind == DECODER_ONLY and task.from_text is None
            put.append(_apart(row, role, text, task.target) if is_apart else {**row, role: text.rstrip()})
    table = pyarrow.Table.from_pylist(put, schema=table_of(split).schema)
    features = encode_window(table, task, context)
    return features if task.from_text is None else without_targets(features)


def _answer_room(row: Row, wording: Wording, context: Context) -> int:
    """Return the tokens of the answer that the model reads in one sequence with the prompt, and the end after it."""
    if context.kind != DECODER_ONLY:
        return 0
    if wording.task.from_text is not None:
        return most_tokens(context)
    answer = context.tokenizer(wording.right_answer(row), add_special_tokens=False)["input_ids"]
    return min(len(answer), (context.max_length or 0) // 2) + 1


def _apart(row: Row, role: str, text: str, target: str | None) -> dict[str, Any]:
    """Return a row whose blank between prompt and answer belongs to the answer, as tokenizers of text have it."""
    bare = text.rstrip(" ")
    return {**row, role: bare, str(target): text[len(bare) :] + str(row[str(target)])}
