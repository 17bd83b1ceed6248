"""What a trial's own process is told on its command line, and how it asks its sweep whether to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from finetune.training.options import Trial
from finetune.training.stopping import PRUNED


@dataclass(frozen=True)
class Question:
    """Where a trial asks: the storage, the study, the number of its entry, and the metric that it reports."""

    place: str
    study: str
    number: int
    metric: str


def as_option(question: Question | None) -> str:
    """Return the value of the option --trial that a trial's process is started with."""
    return json.dumps(asdict(question) if question is not None else {})


def as_trial(option: str) -> Trial:
    """Return what the option --trial says."""
    content = json.loads(option)
    # The ranks send each other their options: a partial can be pickled, a function inside another cannot.
    return Trial(partial(_ask, Question(**content)) if content else None)


def _ask(question: Question, number: int, point: Mapping[str, Any]) -> str | None:
    """Return why a trial should end after its evaluation of this number, or None."""
    from finetune.sweep.store import should_prune

    value = point["metrics"][question.metric]
    if value is None:  # not defined on what the model answered: nothing to be held against others
        return None
    if not should_prune(question.place, question.study, question.number, number, value):
        return None
    return f"{PRUNED}{question.metric} {value:.4g} at evaluation {number} is behind the better half of the trials"
