"""From a recipe to live objects: data read and tokenised, model built, optimizer and calendar made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.batching import batch_columns
from finetune.data.encoding import EncodedData, encode_data
from finetune.data.packing import pack_train
from finetune.data.sources import LoadedData, load_data
from finetune.data.stream import WINDOW_ROWS
from finetune.data.token_cache import cache_directory
from finetune.errors import FinetuneError
from finetune.evaluation.metrics import load_metric
from finetune.evaluation.predict import Predictor, task_context
from finetune.evaluation.scores import targets_of
from finetune.models.adapters import frozen_digest, has_adapters
from finetune.models.build import Checkpoint, build_model, open_checkpoint
from finetune.models.generation import generation_config
from finetune.models.heads import require_head
from finetune.models.packing import packing_context
from finetune.models.shrink import shrink_config
from finetune.recipe.metric_names import short_metric, without_bounds
from finetune.recipe.schema import Recipe, Training
from finetune.tasks import BOUNDED_METRICS, Context, LabelScheme, Task, all_tasks, greater_is_better
from finetune.training.checkpoints import Trainable
from finetune.training.fast import open_threads, speed_up_model
from finetune.training.features import Frozen, find_frozen
from finetune.training.gradients import Threads
from finetune.training.hardware import (
    Hardware,
    choose_precision,
    describe_hardware,
    pick_device,
    start_accelerator,
)
from finetune.training.optimization import build_schedule
from finetune.training.plan import Plan, make_plan
from finetune.training.quick_imports import quick_imports
from finetune.training.random_state import seed_everything, seed_rank
from finetune.training.sharding import distribute
from finetune.training.unfreezing import Unfreezing, freeze_unreached, plan_unfreezing

if TYPE_CHECKING:
    from accelerate import Accelerator

Phase = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Prepared:
    """Everything that the loop works with."""

    recipe: Recipe
    task: Task
    checkpoint: Checkpoint
    data: LoadedData
    encoded: EncodedData
    train_rows: Any  # the training split with just the columns of a batch
    accelerator: Accelerator
    hardware: Hardware
    model: Any  # as Accelerate wraps it
    optimizer: Any
    schedule: Any
    unfreezing: Unfreezing | None
    plan: Plan
    max_length: int
    metric_names: tuple[str, ...]
    best_metric: str
    context: Context  # of training: with class weights and label smoothing
    frozen: Frozen
    frozen_weights: str | None  # identifies what checkpoints leave out, with adapters
    parameter_counts: tuple[int, int]  # of the whole model, and of what is trained of it at any time
    threads: Threads | None
    notes: tuple[str, ...]
    frame: Any = None  # of a model that FSDP has cut up

    @property
    def labels(self) -> LabelScheme:
        """Return how the labels are read."""
        return self.data.labels

    @property
    def bare_model(self) -> Any:
        """Return the model without Accelerate's wrapping."""
        return self.accelerator.unwrap_model(self.model)

    @property
    def trainable(self) -> Trainable:
        """Return the objects that a checkpoint holds."""
        return Trainable(self.bare_model, self.optimizer, self.schedule, self.accelerator.scaler)

    @property
    def predictor(self) -> Predictor:
        """Return the forward path for evaluations."""
        return Predictor(
            self.model,
            self.task,
            replace(self.context, class_weights=None, label_smoothing=0.0),  # evaluations have the plain loss
            self.recipe.training.per_device_eval_batch_size,
            self.accelerator.device,
            self.accelerator.autocast,
        )

    @property
    def train_features(self) -> int:
        """Return how many features an epoch has."""
        return count_train_features(self.data, self.encoded)

    @property
    def rows_at_once(self) -> int:
        """Return how many rows one forward-backward pass takes; threads share the rows of a device."""
        rows = self.recipe.training.per_device_train_batch_size
        return rows if self.threads is None else -(-rows // self.threads.count)


@dataclass(frozen=True)
class Asked:
    """How a model is asked, and by which metrics its answers are scored, the main one first.

    best_metric decides which model is best; generation is a GenerationConfig, of a task that writes text.
    """

    context: Context
    metric_names: tuple[str, ...]
    best_metric: str
    generation: Any = None


@dataclass(frozen=True)
class Inputs:
    """What is known of a run before its weights are loaded."""

    recipe: Recipe
    task: Task
    checkpoint: Checkpoint
    precision: str
    max_length: int
    data: LoadedData
    encoded: EncodedData
    asked: Asked

    @property
    def known_rows(self) -> Any | None:
        """Return all rows that will be trained on, None when they come as a stream."""
        return self.encoded.splits["train"] if self.data.stream is None else None


def prepare(recipe: Recipe, phase: Phase, directory: Path, smoke: bool = False, with_test: bool = True) -> Prepared:
    """Do everything up to the first step: the cheap checks first, the weights last.

    `smoke` shrinks the model to a tiny random one of the same architecture; without `with_test` the test split is left
    out, and the model is judged by validation.
    """
    inputs = read_inputs(recipe, phase, smoke, with_test)
    with phase("load"), quick_imports():
        return load_objects(inputs, directory)


def read_inputs(recipe: Recipe, phase: Phase, smoke: bool, with_test: bool = True) -> Inputs:
    """Read the checkpoint's configuration and tokenizer and the data, and check what depends on them."""
    task = all_tasks()[recipe.task]
    with phase("load"), quick_imports(), ranks.local_main_first():
        checkpoint = open_checkpoint(recipe.model)
        if not recipe.model.trust_remote_code:
            require_head(task, checkpoint.kind, checkpoint.model_type, checkpoint.reference)
        if smoke:
            shrink_config(checkpoint.config)
        precision = choose_precision(recipe.training.mixed_precision, pick_device(), checkpoint.model_type)
        max_length = checkpoint.max_length(recipe.preprocessing.max_length)
        checkpoint.max_length(recipe.preprocessing.max_target_length, "max_target_length")
    with phase("preprocess"), ranks.local_main_first():
        data = load_data(recipe, task, rows_needed(recipe.training), with_test)
        asked = what_is_asked(recipe, data, checkpoint, max_length)
        encoded = encode_data(
            splits_to_encode(data), data.task, asked.context, recipe.preprocessing.num_proc, cache_directory(),
            streamed=data.stream is not None,
        )  # fmt: skip
        if recipe.preprocessing.packing:
            encoded = pack_train(encoded, max_length)
    return Inputs(recipe, data.task, checkpoint, precision, max_length, data, encoded, asked)


def what_is_asked(recipe: Recipe, data: LoadedData, checkpoint: Checkpoint, max_length: int) -> Asked:
    """Return how a model reads the rows, by what its answers are scored, and how it writes them.

    Raises FinetuneError for metrics or settings of generation that do not fit.
    """
    task = data.task
    metric_names, best_metric = choose_metrics(recipe, task, data.labels)
    context = task_context(
        checkpoint.tokenizer, data.labels, checkpoint.kind, checkpoint.config, max_length,
        recipe.preprocessing.model_dump(), recipe.generation or {},
    )  # fmt: skip
    context = replace(context, writes=task.writes_for(metric_names, data.labels.problem_type))
    if task.generates is None:
        return Asked(context, metric_names, best_metric)
    own = checkpoint.source, checkpoint.revision, checkpoint.config, checkpoint.tokenizer
    generation = generation_config(*own, recipe.generation or {}, task.generates(context))
    return Asked(context, metric_names, best_metric, generation)


def load_objects(inputs: Inputs, directory: Path) -> Prepared:
    """Load the weights and make all that trains them."""
    recipe, checkpoint, data, encoded = inputs.recipe, inputs.checkpoint, inputs.data, inputs.encoded
    accelerator = start_accelerator(inputs.precision, _trackers(recipe), str(directory))
    model, notes = _new_model(inputs)
    task, context = inputs.task, _training_context(inputs, accelerator.device)
    if recipe.preprocessing.packing:
        context = packing_context(model, encoded.splits["train"], task, context)
    frozen_weights = frozen_digest(model) if has_adapters(model) else None
    plan = make_plan(recipe.training, count_train_features(data, encoded), ranks.size())
    notes += freeze_unreached(model, recipe.training.gradual_unfreezing, plan)
    counts = _count_parameters(model)
    if accelerator.device.type == "cpu" and not accelerator.is_fsdp2:
        # What a task adds when it makes a batch is not in the rows.
        speed_up_model(model, recipe, None if inputs.task.collate or inputs.task.redraw else inputs.known_rows)
    unfreezing = plan_unfreezing(model, recipe.training.gradual_unfreezing, plan)
    model, optimizer, frame = distribute(accelerator, model, recipe.training)
    frozen, frozen_notes = find_frozen(
        accelerator.unwrap_model(model), recipe, encoded.splits["train"], task, context, accelerator
    )
    train_rows = batch_columns(encoded.splits["train"], task)
    return Prepared(
        recipe=recipe,
        task=task,
        checkpoint=checkpoint,
        data=data,
        encoded=encoded,
        train_rows=train_rows,
        accelerator=accelerator,
        hardware=describe_hardware(accelerator),
        model=model,
        optimizer=optimizer,
        # Counted in optimizer steps whatever the number of processes, so it is not handed to Accelerate.
        schedule=build_schedule(optimizer, recipe.training, plan.total_steps),
        unfreezing=unfreezing,
        plan=plan,
        max_length=inputs.max_length,
        metric_names=inputs.asked.metric_names,
        best_metric=inputs.asked.best_metric,
        context=context,
        frozen=frozen,
        frozen_weights=frozen_weights,
        parameter_counts=counts,
        threads=None if frozen.head_alone else open_threads(model, accelerator, recipe, task, context, train_rows),
        notes=(*checkpoint.notes, *data.notes, *encoded.notes, *notes, *frozen_notes),
        frame=frame,
    )


def _new_model(inputs: Inputs) -> tuple[Any, tuple[str, ...]]:
    recipe = inputs.recipe
    seed_everything(recipe.training.seed)  # decides the new head's weights, or all of them from scratch
    model, notes = build_model(inputs.checkpoint, recipe.model, inputs.task, inputs.data.labels, recipe.peft)
    if inputs.asked.generation is not None:
        model.generation_config = inputs.asked.generation
    seed_rank(recipe.training.seed, ranks.rank())
    if recipe.training.gradient_checkpointing:
        recompute_activations(model)
    if recipe.training.torch_compile:
        model.compile()
    return model, notes


def _count_parameters(model: Any) -> tuple[int, int]:
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def splits_to_encode(data: LoadedData) -> dict[str, Any]:
    """Return the splits to tokenise beforehand; of a streamed train its first rows, to know how long texts are."""
    import datasets

    if data.stream is None:
        return data.splits
    head = next(data.stream.windows(WINDOW_ROWS))
    return data.splits | {"train": datasets.Dataset(head, fingerprint=f"{data.fingerprint[:32]}-head")}


def rows_needed(training: Training) -> int | None:
    """Return how many training rows a run will see at most, but enough to know the data; None: all there are."""
    if training.max_steps is None:
        return None
    each = training.per_device_train_batch_size * training.gradient_accumulation_steps
    return max(WINDOW_ROWS, training.max_steps * each * ranks.size())


def recompute_activations(model: Any) -> None:
    """Let a model recompute activations in the backward pass; raises FinetuneError for a family that cannot."""
    if not model.supports_gradient_checkpointing:
        raise FinetuneError(
            f"training.gradient_checkpointing: {type(model).__name__} cannot recompute its activations",
            "Leave it out; fewer rows in training.per_device_train_batch_size and more "
            "training.gradient_accumulation_steps save memory too.",
        )
    model.activation_checkpointing_enable()


def choose_metrics(recipe: Recipe, task: Task, labels: LabelScheme) -> tuple[tuple[str, ...], str]:
    """Return the metrics of the run (the main one first) and the one that decides which model is best.

    Raises FinetuneError for a metric of the task that does not fit the labels, or that evaluate cannot load.
    """
    own = task.metrics[labels.problem_type]
    extra = tuple(name for name in recipe.evaluation.metrics or () if name not in own)
    unfit = [name for name in extra if name in task.all_metrics() and name not in task.optional_metrics]
    best = short_metric(recipe.training.metric_for_best_model or own[0])
    if unfit or best not in (*own, *map(short_metric, extra), "loss"):
        key = "evaluation.metrics" if unfit else "training.metric_for_best_model"
        raise FinetuneError(
            f"{key}: {', '.join(unfit) or best} does not fit labels read as {labels.problem_type}",
            f"It has: {', '.join(own)}. dataset.problem_type says how the labels are read.",
        )
    if recipe.emissions.max_g_per_point is not None and best not in BOUNDED_METRICS:
        raise FinetuneError(
            f"emissions.max_g_per_point: {without_bounds(best)}",
            f"Choose the best model by another one ({', '.join(own)}), or leave it out.",
        )
    if extra and not task.has_references:
        raise FinetuneError(
            f"evaluation.metrics: {extra[0]} compares what the model writes with a reference, which "
            f"{task.columns[0].kind} alone does not hold",
            f"Leave it out (there are {', '.join(own)}), or give the data as prompt and completion: "
            "dataset.columns: {prompt: …, completion: …}",
        )
    for name in extra:
        if name not in task.optional_metrics:
            load_metric(name)
    return (*own, *extra), best


def better(prepared: Prepared) -> bool:
    """Tell whether a greater value of the deciding metric is better."""
    return greater_is_better(prepared.best_metric)


def count_train_features(data: LoadedData, encoded: EncodedData) -> int:
    """Return how many features an epoch of training has: as many as rows, but for the windows of long ones."""
    return len(encoded.splits["train"] if data.stream is None else data.splits["train"])


def _training_context(inputs: Inputs, device: Any) -> Context:
    return replace(
        inputs.asked.context,
        class_weights=_class_weights(inputs.recipe, inputs.task, inputs.data, device),
        label_smoothing=inputs.recipe.training.label_smoothing_factor,
    )


def _class_weights(recipe: Recipe, task: Task, data: LoadedData, device: Any) -> Any:
    import torch

    wanted, labels = recipe.training.class_weights, data.labels
    if wanted is None:
        return None
    if task.balanced_weights is None:
        raise FinetuneError(f"training.class_weights: {task.name} has no classes to weight", "Leave it out.")
    if wanted == "balanced":
        weights = task.balanced_weights(targets_of(data.splits["train"], task, labels), labels)
    else:
        weights = list(wanted)
    if len(weights) != labels.num_labels:
        some = ", ".join(labels.names[:8])
        raise FinetuneError(
            f"training.class_weights: {len(weights)} weights for {labels.num_labels} labels ({some})",
            "Give one weight a label in this order, or write balanced.",
        )
    return torch.tensor(weights, dtype=torch.float32, device=device)


def _trackers(recipe: Recipe) -> list[str]:
    wanted = recipe.tracking.report_to
    names = [wanted] if isinstance(wanted, str) else list(wanted)
    return [name for name in names if name != "none"]
