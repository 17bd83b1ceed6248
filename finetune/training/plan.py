"""How many steps a run takes, and after which of them to log, evaluate and save."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.recipe.schema import Training

_DEFAULT_EVERY = 100


@dataclass(frozen=True)
class Plan:
    """The calendar of a run, counted in optimizer steps."""

    rows: int
    global_batch_size: int
    steps_per_epoch: int
    total_steps: int
    logging_steps: int
    eval_every: int | None
    save_every: int | None

    def epoch_at(self, step: int) -> float:
        """Return how many epochs are done after a step."""
        return step / self.steps_per_epoch

    def logs_at(self, step: int) -> bool:
        """Tell whether a line of the log is due after this step."""
        return step % self.logging_steps == 0 or step == self.total_steps

    def evaluates_at(self, step: int) -> bool:
        """Tell whether an evaluation is due after this step; the last step always has one."""
        return bool(self.eval_every) and (step % (self.eval_every or 1) == 0 or step == self.total_steps)

    def saves_at(self, step: int) -> bool:
        """Tell whether a checkpoint is due after this step; after the last one the model itself is saved."""
        return bool(self.save_every) and step % (self.save_every or 1) == 0 and step < self.total_steps

    def evaluations_between(self, after: int, until: int) -> int:
        """Return how many evaluations are due after the steps `after` + 1 to `until`."""
        if not self.eval_every:
            return 0
        last = until >= self.total_steps > after and self.total_steps % self.eval_every > 0
        return until // self.eval_every - after // self.eval_every + last

    def saves_between(self, after: int, until: int) -> int:
        """Return how many checkpoints are due after the steps `after` + 1 to `until`."""
        last = min(until, self.total_steps - 1)
        return max(0, last // self.save_every - after // self.save_every) if self.save_every else 0


def make_plan(training: Training, rows: int, world: int = 1) -> Plan:
    """Return the calendar for so many training rows on `world` processes."""
    global_batch = training.per_device_train_batch_size * training.gradient_accumulation_steps * world
    per_epoch = math.ceil(rows / global_batch)
    total = training.max_steps or math.ceil(training.num_train_epochs * per_epoch)
    eval_steps = training.eval_steps or _DEFAULT_EVERY
    every = {"no": None, "epoch": per_epoch, "steps": eval_steps}
    save_steps = training.save_steps or (eval_steps if training.eval_strategy == "steps" else _DEFAULT_EVERY)
    save_every = save_steps if training.save_strategy == "steps" else every[training.save_strategy]
    return Plan(rows, global_batch, per_epoch, total, training.logging_steps, every[training.eval_strategy], save_every)
