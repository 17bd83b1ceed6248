"""A trained model, placed where this machine computes best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from finetune.evaluation.predict import Predictor
from finetune.evaluation.predict_file import Finished, load_model
from finetune.training.hardware import Hardware, choose_precision, describe_hardware, pick_device, start_accelerator

if TYPE_CHECKING:
    from finetune.tasks import Context, Task


def open_predictor(
    finished: Finished, batch_size: int | None = None, scored: Task | None = None
) -> tuple[Predictor, Hardware]:
    """Load the model of a run to where the machine computes best; also return where that is.

    `scored` is the task with its target, when rows are not answered for a user but scored. Raises FinetuneError when
    the model cannot be loaded.
    """
    model, context = load_model(finished, predicting=scored is None)
    task, size = scored or finished.task, batch_size or finished.batch_size
    return place(model, task, context, size, finished.run.training)


def place(
    model: Any, task: Task, context: Context, batch_size: int, trained: Mapping[str, Any]
) -> tuple[Predictor, Hardware]:
    """Return the forward path of a model where the machine computes best, and where that is.

    The precision is that of its training (`trained`, a section of the record) on the same kind of device, so that its
    answers come out again; else what suits.
    """
    device = pick_device()
    precision = trained.get("mixed_precision") if trained.get("device") == device else None
    precision = precision or choose_precision("auto", device, model.config.model_type)
    accelerator = start_accelerator(precision, [], ".")
    predictor = Predictor(
        model.to(accelerator.device), task, context, batch_size, accelerator.device, accelerator.autocast
    )  # fmt: skip
    return predictor, describe_hardware(accelerator)
