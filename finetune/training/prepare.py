"""From a recipe to live objects: data read and tokenised, model built, optimizer and calendar made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.data.encoding import EncodedData, encode_data
from finetune.data.sources import LoadedData, load_data
from finetune.data.token_cache import cache_directory
from finetune.errors import FinetuneError
from finetune.evaluation.metrics import load_metric
from finetune.evaluation.predict import Predictor
from finetune.models.adapters import frozen_digest, has_adapters
from finetune.models.build import Checkpoint, build_model, open_checkpoint
from finetune.models.shrink import shrink_config
from finetune.recipe.metric_names import short_metric
from finetune.recipe.schema import Recipe
from finetune.tasks import LabelScheme, Task, all_tasks, greater_is_better
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
    class_weights: Any
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
            self.checkpoint.tokenizer,
            self.task,
            self.labels,
            self.max_length,
            self.recipe.training.per_device_eval_batch_size,
            self.accelerator.device,
            self.accelerator.autocast,
        )

    @property
    def rows_at_once(self) -> int:
        """Return how many rows one forward-backward pass takes; threads share the rows of a device."""
        rows = self.recipe.training.per_device_train_batch_size
        return rows if self.threads is None else -(-rows // self.threads.count)


def prepare(recipe: Recipe, phase: Phase, directory: Path, smoke: bool = False) -> Prepared:
    """Do everything up to the first step.

    The cheap checks come first: checkpoint's configuration, precision, data, metrics; the weights are loaded last.
    `smoke` shrinks the model to a tiny random one of the same architecture.
    """
    task = all_tasks()[recipe.task]
    with phase("load"), quick_imports(), ranks.local_main_first():
        checkpoint = open_checkpoint(recipe.model)
        if smoke:
            shrink_config(checkpoint.config)
        precision = choose_precision(recipe.training.mixed_precision, pick_device(), checkpoint.model_type)
        max_length = checkpoint.max_length(recipe.preprocessing.max_length)
    with phase("preprocess"), ranks.local_main_first():
        data = load_data(recipe, task)
        metric_names, best_metric = choose_metrics(recipe, task, data.labels)
        encoded = encode_data(
            data.splits, checkpoint.tokenizer, task, recipe.preprocessing, max_length, cache_directory()
        )
    with phase("load"), quick_imports():
        accelerator = start_accelerator(precision, _trackers(recipe), str(directory))
        seed_everything(recipe.training.seed)  # decides the new head's weights, or all of them from scratch
        model, notes = build_model(checkpoint, recipe.model, task, data.labels, recipe.peft)
        frozen_weights = frozen_digest(model) if has_adapters(model) else None
        seed_rank(recipe.training.seed, ranks.rank())
        if recipe.training.gradient_checkpointing:
            recompute_activations(model)
        if recipe.training.torch_compile:
            model.compile()
        plan = make_plan(recipe.training, len(encoded.splits["train"]), ranks.size())
        notes += freeze_unreached(model, recipe.training.gradual_unfreezing, plan)
        counts = _count_parameters(model)
        if accelerator.device.type == "cpu" and not accelerator.is_fsdp2:
            speed_up_model(model, recipe, encoded.splits["train"])
        unfreezing = plan_unfreezing(model, recipe.training.gradual_unfreezing, plan)
        # The schedule steps once an optimizer step whatever the number of processes, so it is not handed to Accelerate.
        model, optimizer, frame = distribute(accelerator, model, recipe.training)
        frozen, frozen_notes = find_frozen(
            accelerator.unwrap_model(model),
            recipe,
            encoded.splits["train"],
            checkpoint.tokenizer,
            max_length,
            accelerator,
        )
        schedule = build_schedule(optimizer, recipe.training, plan.total_steps)
        train_rows = _batch_columns(encoded.splits["train"])
        threads = None if frozen.cut else open_threads(model, accelerator, recipe, checkpoint, train_rows)
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
        schedule=schedule,
        unfreezing=unfreezing,
        plan=plan,
        max_length=max_length,
        metric_names=metric_names,
        best_metric=best_metric,
        class_weights=_class_weights(recipe, task, data.labels, encoded, accelerator.device),
        frozen=frozen,
        frozen_weights=frozen_weights,
        parameter_counts=counts,
        threads=threads,
        notes=(*checkpoint.notes, *data.notes, *encoded.notes, *notes, *frozen_notes),
        frame=frame,
    )


def _count_parameters(model: Any) -> tuple[int, int]:
    parameters = list(model.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)


def _batch_columns(split: Any) -> Any:
    wanted = ("input_ids", "attention_mask", "token_type_ids", "labels")
    return split.select_columns([name for name in wanted if name in split.column_names])


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
    unfit = [name for name in extra if name in task.all_metrics()]
    best = short_metric(recipe.training.metric_for_best_model or own[0])
    if unfit or best not in (*own, *map(short_metric, extra), "loss"):
        key = "evaluation.metrics" if unfit else "training.metric_for_best_model"
        raise FinetuneError(
            f"{key}: {', '.join(unfit) or best} does not fit labels read as {labels.problem_type}",
            f"It has: {', '.join(own)}. dataset.problem_type says how the labels are read.",
        )
    for name in extra:
        load_metric(name, labels.problem_type)
    return (*own, *extra), best


def better(prepared: Prepared) -> bool:
    """Tell whether a greater value of the deciding metric is better."""
    return greater_is_better(prepared.best_metric)


def _class_weights(recipe: Recipe, task: Task, labels: LabelScheme, encoded: EncodedData, device: Any) -> Any:
    import torch

    wanted = recipe.training.class_weights
    if wanted is None:
        return None
    weights = task.balanced_weights(encoded.splits["train"]["labels"], labels) if wanted == "balanced" else list(wanted)
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
