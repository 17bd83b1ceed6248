"""Use the model of a finished run: read rows as the run did, answer them batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.batching import evaluation_batches
from finetune.data.columns import choose_form
from finetune.data.encoding import FULL_LENGTH, SOURCE, encode_rows
from finetune.data.rows import FILE_BATCH_ROWS, PIPE_BATCH_ROWS, RowBatch, RowSource, read_rows, without_target
from finetune.errors import FinetuneError
from finetune.evaluation.answers import Answers
from finetune.evaluation.predict import task_context, whole_answer
from finetune.models.architecture import transformer_kind
from finetune.models.heads import auto_class
from finetune.runs.record import Run
from finetune.runs.usable import model_folder
from finetune.tasks import Context, LabelScheme, Task, all_tasks
from finetune.text import did_you_mean, first_line, join_words, plural

if TYPE_CHECKING:
    from finetune.evaluation.predict import Predictor


@dataclass(frozen=True)
class Finished:
    """What a finished run left for use, without its weights.

    `task` has only the columns that the model was trained on, all of them required; `columns` says how they were
    called in its data.
    """

    run: Run
    folder: Path
    task: Task
    max_length: int
    preprocessing: Mapping[str, Any]
    generation: Mapping[str, Any]
    batch_size: int
    columns: Mapping[str, str]

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles of the model's inputs."""
        return tuple(column.role for column in self.task.inputs)


@dataclass(frozen=True)
class Answer:
    """What the model says about one row: its number and inputs, and the line of a result file (None: no text)."""

    row: int
    texts: Mapping[str, Any]
    said: Mapping[str, Any] | None


def open_finished(run: Run) -> Finished:
    """Return how to use a run's model; raises FinetuneError when it has none, or its record lacks what that takes."""
    folder = model_folder(run)
    task = all_tasks().get(run.recipe.get("task", ""))
    known = ("max_length", "columns")
    if task is None or not all(run.dataset.get(key) for key in known):
        raise FinetuneError(
            f"{run.run_id}: the record does not say how its inputs are read (recipe.task, dataset.max_length, "
            "dataset.columns)",
            "Use a run of this version of finetune.",
        )
    trained = {role: name for role, name in run.dataset["columns"].items() if isinstance(name, str)}
    return Finished(
        run=run,
        folder=folder,
        task=_as_trained(task, trained),
        max_length=run.dataset["max_length"],
        preprocessing=run.recipe.get("preprocessing", {}),
        generation=run.recipe.get("generation") or {},
        batch_size=run.recipe.get("training", {}).get("per_device_eval_batch_size", 64),
        columns={role: name for role, name in trained.items() if role in {column.role for column in task.all_inputs}},
    )


def _as_trained(task: Task, trained: Mapping[str, str]) -> Task:
    """Return a task with the inputs that its model was trained on, all of them required; other forms stay."""
    forms = [task.columns, *task.forms]
    inputs = [tuple(column for column in form if not column.target) for form in forms]
    own = next((form for form in inputs if any(column.role in trained for column in form)), inputs[0])
    columns = tuple(replace(column, required=True) for column in own if column.role in trained)
    return replace(task, columns=columns, forms=tuple(form for form in inputs if form is not own))


def scored_task(finished: Finished) -> Task:
    """Return the task of a run with its target: the inputs that the model was trained on, and other forms."""
    whole, own = all_tasks()[finished.task.name], set(finished.roles)
    forms = [whole.columns, *whole.forms]
    trained = next(form for form in forms if own <= {column.role for column in form})
    columns = (*finished.task.columns, *(column for column in trained if column.target))
    return replace(whole, columns=columns, forms=tuple(form for form in forms if form is not trained))


def load_model(finished: Finished, predicting: bool = True) -> tuple[Any, Context]:
    """Load model (float32, on the CPU) and what goes with it; nothing is downloaded and no foreign code is run.

    `predicting`: rows come without targets, to be answered for a user. Raises FinetuneError when the folder cannot be
    loaded.
    """
    import torch
    import transformers

    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    attention = finished.run.recipe.get("model", {}).get("attn_implementation")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(finished.folder, **options)
        config = transformers.AutoConfig.from_pretrained(finished.folder, **options)
        kind = transformer_kind(config.to_dict())
        auto = getattr(transformers, auto_class(finished.task, kind, config.model_type))
        model = auto.from_pretrained(
            finished.folder, dtype=torch.float32, use_safetensors=True, attn_implementation=attention, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = first_line(error)
        raise FinetuneError(
            f"{finished.folder}: the model cannot be loaded: {reason}",
            "Train the run again, or use the folder with transformers directly.",
        ) from error
    model.eval()
    labels = _label_scheme(finished, model.config)
    known = finished.max_length, finished.preprocessing, finished.generation
    return model, replace(task_context(tokenizer, labels, kind, model.config, *known), predicting=predicting)


def _label_scheme(finished: Finished, config: Any) -> LabelScheme:
    problem_type = finished.run.dataset.get("problem_type") or config.problem_type
    if not finished.run.dataset.get("label_names", True):
        return LabelScheme(problem_type)
    return LabelScheme(problem_type, tuple(config.id2label[index] for index in range(config.num_labels)))


def recorded_labels(finished: Finished) -> LabelScheme:
    """Return how a run read its labels; raises FinetuneError when its record does not say."""
    known, problem_type = finished.run.dataset.get("label_names"), finished.run.dataset.get("problem_type")
    if not isinstance(known, list) or problem_type not in finished.task.problem_types:
        raise FinetuneError(
            f"{finished.run.run_id}: the record does not say how its labels are read (dataset.problem_type, "
            "dataset.label_names)",
            "Use a run of this version of finetune.",
        )
    return LabelScheme(problem_type, tuple(known))


def parse_columns(words: Iterable[str], finished: Finished, scored: Task | None = None) -> dict[str, str]:
    """Read role=name pairs of the command line; raises FinetuneError for a role that the model has no input for.

    `scored` is the task with its target, which then has a column too.
    """
    columns = {}
    for word in words:
        role, equals, name = word.partition("=")
        if not (equals and name):
            raise FinetuneError(
                f"--column {word}: expected role=name", f"For example --column {finished.roles[0]}=body"
            )
        roles = [column.role for column in (scored.all_columns if scored else finished.task.all_inputs)]
        if role not in roles:
            near = did_you_mean(role, roles)
            raise FinetuneError(
                f"--column {word}: the model has no {'column' if scored else 'input'} {role!r}; it has "
                f"{join_words(roles, 'and')}",
                f"Did you mean {near}={name}?" if near else f"For example --column {finished.roles[0]}={name}",
            )
        columns[role] = name
    return columns


def roles_in(source: RowSource, finished: Finished, given: Mapping[str, str]) -> tuple[str, ...]:
    """Return the roles of the inputs in the form in which a source has them."""
    form = choose_form(source.split, without_target(finished.task), _known_columns(source, finished) | dict(given))
    return tuple(column.role for column in form.columns)


def _known_columns(source: RowSource, finished: Finished) -> dict[str, str]:
    return {role: name for role, name in finished.columns.items() if name in source.columns}


def read_inputs(
    source: RowSource, finished: Finished, given: Mapping[str, str], predictor: Predictor | None = None
) -> Iterator[RowBatch]:
    """Yield the rows of a source by role; of a pipe at least a batch of the predictor at once, when they are there.

    A column is found by what `given` says, else by its name in the run's own data, else by the usual names. Texts that
    are generated come a few batches at a time. Raises FinetuneError, in the words of the command line.
    """
    columns = _known_columns(source, finished) | dict(given)
    at_once = max(predictor.batch_size if predictor else 0, PIPE_BATCH_ROWS)
    of_file = FILE_BATCH_ROWS if finished.task.ask is None else at_once
    try:
        yield from read_rows(source, finished.task, columns, at_once, of_file)
    except FinetuneError as error:
        if "dataset.columns" not in f"{error.message} {error.hint}":
            raise
        message = error.message.replace("dataset.columns.", "--column ")
        inputs = " ".join(f"--column {role}=<column>" for role in finished.roles)
        raise FinetuneError(message, f"Say which column it is: {inputs}") from error


def answer_batch(predictor: Predictor, batch: RowBatch) -> list[Answer]:
    """Return an answer for every row of a batch, in the order of the source.

    Rows without text, or of which the tokenizer makes nothing, get the answer None. Raises FinetuneError when a row
    is too long and the run did not truncate, and when the model's outputs are not numbers.
    """
    said: dict[int, Mapping[str, Any]] = {}
    if batch.numbers:
        features = encode_rows(batch.rows, predictor.task, predictor.context)
        _check_lengths(batch, features, predictor.context)
        said = _answers(predictor, batch, features)
    answers = [
        Answer(number, {role: texts[place] for role, texts in batch.rows.items()}, said.get(place))
        for place, number in enumerate(batch.numbers)
    ]
    answers += [Answer(number, {}, None) for number in batch.empty]
    return sorted(answers, key=lambda answer: answer.row)


def _answers(predictor: Predictor, batch: RowBatch, features: dict[str, list[Any]]) -> dict[int, Mapping[str, Any]]:
    """Return the lines of the rows that have tokens, by their place in the batch."""
    task, context = predictor.task, predictor.context
    filled = [place for place, length in enumerate(features["length"]) if length]
    kept = Answers(len(features["length"]))
    for chosen in evaluation_batches([features["length"][place] for place in filled], predictor.batch_size):
        places = [filled[index] for index in chosen]
        reduced = _reduced(predictor, {name: [values[at] for at in places] for name, values in features.items()})
        kept.put(places, reduced)
    of_row: dict[int, list[dict[str, Any]]] = {}
    for place in filled:
        of_row.setdefault(features[SOURCE][place], []).append(kept.feature(place))
    said: dict[int, Mapping[str, Any]] = {}
    for source, parts in of_row.items():
        row = {role: values[source] for role, values in batch.rows.items()}
        said[source] = task.line(whole_answer(task, parts, row, context), row, context)
    return said


def _reduced(predictor: Predictor, features: dict[str, list[Any]]) -> dict[str, Any]:
    import numpy
    import torch

    try:
        reduced = predictor.task.reduce(*predictor.outputs(features), predictor.context)
    except torch.OutOfMemoryError as error:
        size = predictor.batch_size
        raise FinetuneError(
            f"out of memory with batches of {plural(size, 'row')}", f"--batch-size {max(1, size // 2)}"
        ) from error
    arrays = [part for values in reduced.values() for part in (values if isinstance(values, list) else [values])]
    if not all(numpy.isfinite(array).all() for array in arrays if not isinstance(array, str)):
        raise FinetuneError(
            "the model's outputs are not finite numbers (NaN or infinity)",
            "Its training went wrong: finetune show tells; train it again with a lower training.learning_rate.",
        )
    return reduced


def _check_lengths(batch: RowBatch, features: dict[str, list[Any]], context: Context) -> None:
    limit = context.max_length
    for source, length in zip(features[SOURCE], features[FULL_LENGTH], strict=True):
        if limit is not None and length > limit and not context.truncation:
            raise FinetuneError(
                f"row {batch.numbers[source]}: {length:,} tokens, where {limit:,} is the limit, and the run was made "
                "with preprocessing.truncation: false",
                "Shorten the text.",
            )
