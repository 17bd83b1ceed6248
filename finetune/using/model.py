"""The model of a run, placed where this machine computes best."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.evaluation.predict import Predictor
from finetune.evaluation.predict_file import Finished, load_model
from finetune.training.hardware import Hardware, choose_precision, describe_hardware, pick_device, start_accelerator

if TYPE_CHECKING:
    from finetune.tasks import Task


def open_predictor(
    finished: Finished, batch_size: int | None, scored: Task | None = None
) -> tuple[Predictor, Hardware]:
    """Load the model of a run to where the machine computes best; also return where that is.

    The precision is the run's own on the same kind of device, so that its answers come out again; else what suits.
    `scored` is the task with its target, when rows are not answered for a user but scored. Raises FinetuneError when
    the model cannot be loaded.
    """
    device, trained = pick_device(), finished.run.training
    model, context = load_model(finished, predicting=scored is None)
    precision = trained.get("mixed_precision") if trained.get("device") == device else None
    precision = precision or choose_precision("auto", device, model.config.model_type)
    accelerator = start_accelerator(precision, [], str(finished.folder.parent))
    predictor = Predictor(
        model.to(accelerator.device), scored or finished.task, context, batch_size or finished.batch_size,
        accelerator.device, accelerator.autocast,
    )  # fmt: skip
    return predictor, describe_hardware(accelerator)
