"""When to stop before the last step: each rule looks at the progress and gives a reason or None."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finetune.text import plural

if TYPE_CHECKING:
    from finetune.recipe.schema import Training
    from finetune.training.progress import Progress


def stop_reason(progress: Progress, training: Training) -> str | None:
    """Return why the run should end now, or None to go on."""
    patience = training.early_stopping_patience
    if patience is not None and progress.evaluations_without_best >= patience:
        count = plural(patience, "evaluation")
        return f"early stopping: {count} in a row without a new best (best at step {progress.best_step})"
    return None
