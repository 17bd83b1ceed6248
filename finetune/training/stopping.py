"""When to stop before the last step: each rule looks at the progress and gives a reason or None."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from finetune.emissions.budget import Account, Budget, shortage
from finetune.runs.formats import significant
from finetune.tasks import greater_is_better
from finetune.text import plural

if TYPE_CHECKING:
    from finetune.recipe.schema import Recipe
    from finetune.training.progress import Progress

PRUNED = "pruned: "  # begins the reason of a trial that its sweep ended
_EVALUATIONS = 2  # over which a gain is judged: one alone is mostly noise


@dataclass(frozen=True)
class Rules:
    """The limits of a recipe; None: no limit. `metric` decides which model is best."""

    metric: str
    patience: int | None
    budget: Budget
    max_g_per_point: float | None


def rules_of(recipe: Recipe, metric: str) -> Rules:
    """Return the rules that a recipe states."""
    limits = recipe.emissions
    budget = Budget(limits.max_energy_kwh, limits.max_emissions_g)
    return Rules(metric, recipe.training.early_stopping_patience, budget, limits.max_g_per_point)


def stop_reason(progress: Progress, rules: Rules, account: Account | None = None) -> str | None:
    """Return why the run should end now, or None to go on; `account` is what it has spent and needs next."""
    return _lost_patience(progress, rules) or _used_budget(progress, rules, account) or _gains_little(progress, rules)


def _lost_patience(progress: Progress, rules: Rules) -> str | None:
    if rules.patience is None or progress.evaluations_without_best < rules.patience:
        return None
    count = plural(rules.patience, "evaluation")
    return f"early stopping: {count} in a row without a new best (best at step {progress.best_step})"


def _used_budget(progress: Progress, rules: Rules, account: Account | None) -> str | None:
    short = shortage(rules.budget, account) if account is not None else None
    if short is None:
        return None
    unit = short.unit
    return (
        f"{short.kind} budget of {short.budget:g} {unit}: {significant(short.spent)} {unit} were spent at step "
        f"{progress.step}, and going on, scoring and saving would need about {significant(short.needed)} {unit}"
    )


def _gains_little(progress: Progress, rules: Rules) -> str | None:
    """Stop when the last two evaluations improved the score by too little for their emissions; no gain is too little.

    A point is a hundredth of the metric.
    """
    if rules.max_g_per_point is None or len(progress.timeline) <= _EVALUATIONS:
        return None
    sign = 1 if greater_is_better(rules.metric) else -1
    scores = [point["metrics"].get(rules.metric) for point in progress.timeline]
    best, before = (
        max((sign * score for score in known if score is not None), default=None)
        for known in (scores, scores[:-_EVALUATIONS])
    )
    latest, earlier = (progress.timeline[place]["emissions_g"] for place in (-1, -1 - _EVALUATIONS))
    if best is None or before is None or latest is None or earlier is None:
        return None
    points, grams = 100 * (best - before), latest - earlier
    if points > 0 and grams / points <= rules.max_g_per_point:
        return None
    gained = f"{significant(points)} points of {rules.metric}" if points > 0 else f"no gain in {rules.metric}"
    return (
        f"marginal gain: {significant(grams)} g over the last two evaluations brought {gained} "
        f"(emissions.max_g_per_point: {rules.max_g_per_point:g})"
    )
