"""By which score a run is judged, and whether higher is better."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finetune.errors import FinetuneError
from finetune.runs.record import Run, Score, as_number
from finetune.runs.statistics import CONFIDENCE
from finetune.tasks import greater_is_better
from finetune.text import did_you_mean, join_words

SPLITS = ("test", "validation")


@dataclass(frozen=True)
class Scored:
    """The score that a comparison judges a run by, and what it is a score of."""

    metric: str
    split: str
    score: Score
    greater_is_better: bool


def scored_run(run: Run, metric: str | None = None) -> Scored | None:
    """Return the score of a run under a metric (test before validation), None when it has none."""
    name, split = str(run.main_metric.get("name")), str(run.main_metric.get("split"))
    if metric is None:
        score = run.main_score()
        return Scored(name, split, score, _greater_is_better(run, name)) if score else None
    asked_split, _, asked = metric.rpartition(".")
    for candidate in (asked_split,) if asked_split else SPLITS:
        score = run.score(asked, candidate)
        if score is not None:
            return Scored(asked, candidate, score, _greater_is_better(run, asked))
    return None


def recorded_confidence(run: Run) -> float:
    """Return the confidence of the intervals of a run's scores; a record that does not say has the usual one."""
    evaluation = run.recipe.get("evaluation")
    stated = as_number(evaluation.get("confidence")) if isinstance(evaluation, Mapping) else None
    return stated if stated is not None and 0.5 < 0.5 + stated / 2 < 1 else CONFIDENCE


def metric_names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return every metric that any of the runs has."""
    splits = [run.metrics.get(split) for run in runs for split in SPLITS]
    return tuple(dict.fromkeys(name for split in splits if isinstance(split, Mapping) for name in split))


def _greater_is_better(run: Run, metric: str) -> bool:
    stated = run.main_metric.get("greater_is_better")
    if metric == run.main_metric.get("name") and isinstance(stated, bool):
        return stated
    return greater_is_better(metric)


def check_metric(metric: str, runs: Sequence[Run]) -> None:
    """Raise FinetuneError when none of the runs has the metric."""
    if any(scored_run(run, metric) for run in runs):
        return
    known = metric_names(runs)
    near = did_you_mean(metric.rpartition(".")[2], known)
    raise FinetuneError(
        f"--metric {metric}: none of these runs has it" + (f"; did you mean {near}?" if near else ""),
        f"They have {join_words(known, 'and')}; test.{known[0]} or validation.{known[0]} names the split."
        if known
        else "None of these runs has a score yet.",
    )
