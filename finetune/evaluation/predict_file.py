"""Use the model of a finished run: read rows as the run did, answer them batch by batch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.data.batching import evaluation_batches
from finetune.data.rows import PIPE_BATCH_ROWS, RowBatch, RowSource, read_rows
from finetune.errors import FinetuneError
from finetune.evaluation.answers import readable
from finetune.tasks import LabelScheme, Task, all_tasks
from finetune.text import did_you_mean, join_words, plural

if TYPE_CHECKING:
    from finetune.evaluation.predict import Predictor
    from finetune.runs.record import Run

MODEL_FOLDER = "model"


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
    truncation: bool
    batch_size: int
    columns: Mapping[str, str]

    @property
    def roles(self) -> tuple[str, ...]:
        """Return the roles of the model's inputs."""
        return tuple(column.role for column in self.task.columns if column.role != self.task.target)


@dataclass(frozen=True)
class Answer:
    """What the model says about one row: its number and texts, and the line of a result file (None: no text)."""

    row: int
    texts: Mapping[str, str]
    said: Mapping[str, Any] | None


def open_finished(run: Run) -> Finished:
    """Return how to use a run's model; raises FinetuneError when it has none (yet)."""
    directory = run.directory
    if directory is None or not (directory / MODEL_FOLDER / "config.json").is_file():
        raise _no_model(run)
    task = all_tasks().get(run.recipe.get("task", ""))
    known = ("max_length", "columns")
    if task is None or not all(run.dataset.get(key) for key in known):
        raise FinetuneError(
            f"{run.run_id}: the record does not say how its inputs are read (recipe.task, dataset.max_length, "
            "dataset.columns)",
            "Use a run of this version of finetune.",
        )
    trained = {role: name for role, name in run.dataset["columns"].items() if isinstance(name, str)}
    columns = tuple(
        replace(column, required=True)
        for column in task.columns
        if column.role in trained or column.role == task.target
    )
    return Finished(
        run=run,
        folder=directory / MODEL_FOLDER,
        task=replace(task, columns=columns),
        max_length=run.dataset["max_length"],
        truncation=run.recipe.get("preprocessing", {}).get("truncation", True),
        batch_size=run.recipe.get("training", {}).get("per_device_eval_batch_size", 64),
        columns={role: name for role, name in trained.items() if role != task.target},
    )


def _no_model(run: Run) -> FinetuneError:
    if run.status == "running":
        return FinetuneError(f"{run.run_id}: the run is still alive and has no model yet", "Wait for it to end.")
    if run.is_finished:
        return FinetuneError(
            f"{run.run_id}: the run is {run.status}, but its folder {MODEL_FOLDER}/ is gone", "Train it again."
        )
    return FinetuneError(
        f"{run.run_id}: the run is {run.status} and has no model yet", f"finetune run --resume {run.run_id}"
    )


def load_model(finished: Finished) -> tuple[Any, Any, LabelScheme]:
    """Load model (float32, on the CPU), tokenizer and labels; nothing is downloaded and no foreign code is run.

    Raises FinetuneError when the folder cannot be loaded.
    """
    import torch
    import transformers

    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    attention = finished.run.recipe.get("model", {}).get("attn_implementation")
    auto = getattr(transformers, finished.task.auto_class)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(finished.folder, **options)
        model = auto.from_pretrained(
            finished.folder, dtype=torch.float32, use_safetensors=True, attn_implementation=attention, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise FinetuneError(
            f"{finished.folder}: the model cannot be loaded: {reason}",
            "Train the run again, or use the folder with transformers directly.",
        ) from error
    model.eval()
    return model, tokenizer, _label_scheme(model.config)


def _label_scheme(config: Any) -> LabelScheme:
    if config.problem_type == "regression":
        return LabelScheme("regression")
    return LabelScheme(config.problem_type, tuple(config.id2label[index] for index in range(config.num_labels)))


def parse_columns(words: Iterable[str], finished: Finished) -> dict[str, str]:
    """Read role=name pairs of the command line; raises FinetuneError for a role that the model has no input for."""
    columns = {}
    for word in words:
        role, equals, name = word.partition("=")
        if not (equals and name):
            raise FinetuneError(
                f"--column {word}: expected role=name", f"For example --column {finished.roles[0]}=body"
            )
        if role not in finished.roles:
            near = did_you_mean(role, finished.roles)
            raise FinetuneError(
                f"--column {word}: the model has no input {role!r}; it has {join_words(finished.roles, 'and')}",
                f"Did you mean {near}={name}?" if near else f"For example --column {finished.roles[0]}={name}",
            )
        columns[role] = name
    return columns


def read_inputs(
    source: RowSource, finished: Finished, given: Mapping[str, str], batch_size: int = PIPE_BATCH_ROWS
) -> Iterator[RowBatch]:
    """Yield the rows of a source by role; of a pipe at least `batch_size` at once, when they are there.

    A column is found by what `given` says, else by its name in the run's own data, else by the usual names.
    Raises FinetuneError, in the words of the command line.
    """
    known = {role: name for role, name in finished.columns.items() if name in source.columns}
    try:
        yield from read_rows(source, finished.task, known | dict(given), max(batch_size, PIPE_BATCH_ROWS))
    except FinetuneError as error:
        if "dataset.columns" not in f"{error.message} {error.hint}":
            raise
        message = error.message.replace("dataset.columns.", "--column ")
        inputs = " ".join(f"--column {role}=<column>" for role in finished.roles)
        raise FinetuneError(message, f"Say which column it is: {inputs}") from error


def answer_batch(predictor: Predictor, truncation: bool, batch: RowBatch) -> list[Answer]:
    """Return an answer for every row of a batch, in the order of the source.

    Rows without text, or of which the tokenizer makes nothing, get the answer None. Raises FinetuneError when a row
    is too long and the run did not truncate, and when the model's outputs are not numbers.
    """
    task, labels = predictor.task, predictor.labels
    encoded: dict[str, list[Any]] = {"input_ids": []}
    if batch.numbers:
        encoded = task.encode(batch.rows, predictor.tokenizer, predictor.max_length, truncation)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    _check_lengths(batch, lengths, predictor.max_length)
    filled = [place for place, length in enumerate(lengths) if length]
    said: dict[int, Mapping[str, Any]] = {}
    for chosen in evaluation_batches([lengths[place] for place in filled], predictor.batch_size):
        places = [filled[index] for index in chosen]
        logits = _logits(predictor, {name: [values[place] for place in places] for name, values in encoded.items()})
        if not bool(logits.isfinite().all()):
            raise FinetuneError(
                "the model's outputs are not finite numbers (NaN or infinity)",
                "Its training went wrong: finetune show tells; train it again with a lower training.learning_rate.",
            )
        for place, prediction in zip(places, task.predict(logits.numpy(), labels), strict=True):
            said[place] = readable(prediction, labels)
    answers = [
        Answer(number, {role: texts[place] for role, texts in batch.rows.items()}, said.get(place))
        for place, number in enumerate(batch.numbers)
    ]
    answers += [Answer(number, {}, None) for number in batch.empty]
    return sorted(answers, key=lambda answer: answer.row)


def _logits(predictor: Predictor, rows: dict[str, list[Any]]) -> Any:
    import torch

    try:
        return predictor.logits(rows)
    except torch.OutOfMemoryError as error:
        size = predictor.batch_size
        raise FinetuneError(
            f"out of memory with batches of {plural(size, 'row')}", f"--batch-size {max(1, size // 2)}"
        ) from error


def _check_lengths(batch: RowBatch, lengths: list[int], limit: int) -> None:
    # Only a run without truncation leaves rows that are longer.
    for number, length in zip(batch.numbers, lengths, strict=True):
        if length > limit:
            raise FinetuneError(
                f"row {number}: {length:,} tokens, where {limit:,} is the limit, and the run was made with "
                "preprocessing.truncation: false",
                "Shorten the text.",
            )
