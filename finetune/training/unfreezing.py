"""Gradual unfreezing (ULMFiT: Howard and Ruder 2018, arXiv:1801.06146, section 3.3): the head first, then downwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.models.depth import parameters_by_depth
from finetune.text import plural

if TYPE_CHECKING:
    import torch

    from finetune.training.plan import Plan


@dataclass(frozen=True)
class Unfreezing:
    """Which parameters learn in which step: a function of the step alone, so that a resumed run agrees.

    `groups` are those of parameters_by_depth that have something to train. The first learns from the first step on,
    and one more after every `steps_each` steps.
    """

    groups: tuple[Sequence[torch.nn.Parameter], ...]
    steps_each: int

    def open_groups(self, step: int) -> int:
        """Return how many groups learn in a step; steps count from 1."""
        return min(len(self.groups), 1 + (step - 1) // self.steps_each)

    @property
    def last_opening(self) -> int:
        """Return the number of steps after which all groups learn."""
        return (len(self.groups) - 1) * self.steps_each

    def before(self, step: int) -> None:
        """Let the parameters of this step learn, and those of later steps not.

        A parameter that does not learn has no gradient, so the optimizer passes it by: no update, no decay, no state.
        """
        count = self.open_groups(step)
        for index, group in enumerate(self.groups):
            for parameter in group:
                parameter.requires_grad_(index < count)


def freeze_unreached(model: Any, epochs_each: float | None, plan: Plan) -> tuple[str, ...]:
    """Freeze for good the groups whose turn would come after the last step, so they count as not trained.

    Returns what the user should know of the calendar.
    """
    every = plan_unfreezing(model, epochs_each, plan)
    if every is None:
        return ()
    reached = every.open_groups(plan.total_steps)
    for group in every.groups[reached:]:
        for parameter in group:
            parameter.requires_grad_(False)
    count, later = len(every.groups), len(every.groups) - reached
    said = f"gradual unfreezing: {plural(count, 'group')} of layers, one more every {plural(every.steps_each, 'step')}"
    return (f"{said}; the run ends before the lowest {later} of them learn" if later else said,)


def plan_unfreezing(model: Any, epochs_each: float | None, plan: Plan) -> Unfreezing | None:
    """Return when each group of trainable parameters begins to learn, None without gradual unfreezing."""
    if epochs_each is None:
        return None
    groups = tuple(group for group in parameters_by_depth(model) if group)
    return Unfreezing(groups, max(1, math.ceil(epochs_each * plan.steps_per_epoch - 1e-9)))
