"""How much work a run has: tokens to train on and to evaluate, bytes to save, by step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from finetune.data.batching import padding
from finetune.emissions.forecast import Work
from finetune.training.batches import row_lengths, rows_together
from finetune.training.disk import disk_estimate

if TYPE_CHECKING:
    from finetune.training.plan import Plan
    from finetune.training.prepare import Prepared
    from finetune.training.progress import Progress


@dataclass(frozen=True)
class Workload:
    """What the parts of a run amount to; `epoch_tokens` count padding and are None for a stream, whose rows come later.

    `split_tokens` are those of the evaluated splits; the bytes are those of a checkpoint, of best weights, and of the
    saved model.
    """

    plan: Plan
    epoch_tokens: float | None
    split_tokens: dict[str, int]
    checkpoint_bytes: int
    best_bytes: int
    model_bytes: int

    def step_tokens(self, progress: Progress) -> float:
        """Return the tokens of a step, padding too, on average."""
        if self.epoch_tokens is not None:
            return self.epoch_tokens / self.plan.steps_per_epoch
        return progress.padded_tokens_seen / progress.step if progress.step else 0.0

    def done(self, progress: Progress) -> Work:
        """Return the work that is behind a run."""
        saved = progress.best_saves * self.best_bytes + progress.checkpoint_saves * self.checkpoint_bytes
        return Work(progress.padded_tokens_seen, len(progress.timeline) * self.split_tokens.get("validation", 0), saved)

    def until(self, progress: Progress, step: int) -> Work:
        """Return the work up to a later step: training, evaluations (each may find a new best) and checkpoints."""
        tokens = self.step_tokens(progress)
        if step == self.plan.total_steps:  # what came before was not the average
            train = max(0.0, tokens * step - progress.padded_tokens_seen)
        else:
            train = tokens * (step - progress.step)
        evaluations = self.plan.evaluations_between(progress.step, step)
        saved = evaluations * self.best_bytes + self.plan.saves_between(progress.step, step) * self.checkpoint_bytes
        return Work(train, evaluations * self.split_tokens.get("validation", 0), saved)

    def ending(self) -> Work:
        """Return the work at the end of a run: load the best weights, score all splits, save the model."""
        return Work(0.0, sum(self.split_tokens.values()), self.best_bytes + self.model_bytes)

    def stop(self) -> Work:
        """Return the work when a rule stops a run between two evaluations: one more of them, then the end."""
        extra = self.split_tokens.get("validation", 0) if self.plan.eval_every else 0
        return self.ending() + Work(0.0, extra, self.best_bytes)


def workload_of(prepared: Prepared, directory: Path) -> Workload:
    """Return the work of a run that is prepared."""
    plan, training, splits = prepared.plan, prepared.recipe.training, prepared.encoded.splits
    epoch_tokens = None
    if prepared.data.stream is None:
        lengths = row_lengths(splits["train"])
        share = padding(
            lengths, plan.global_batch_size, rows_together(prepared), training.train_sampling_strategy, training.seed
        )
        epoch_tokens = share * int(lengths.sum(dtype="int64"))
    disk = disk_estimate(prepared, directory)
    evaluated = [name for name in ("validation", "test") if name in splits]
    return Workload(
        plan,
        epoch_tokens,
        {name: int(row_lengths(splits[name]).sum(dtype="int64")) for name in evaluated},
        disk.checkpoint_bytes,
        disk.best_bytes,
        disk.model_bytes,
    )
