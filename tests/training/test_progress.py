"""finetune.training.progress and stopping: the best so far, patience, and a round trip through JSON."""

import json

from hypothesis import given
from hypothesis import strategies as st

from finetune.emissions.budget import Budget
from finetune.training.progress import Progress
from finetune.training.stopping import Rules, stop_reason

SCORES = st.lists(st.none() | st.floats(-1, 1), max_size=20)


def after(scores, greater=True):
    progress = Progress()
    for step, score in enumerate(scores, start=1):
        progress.step = step
        progress.add_evaluation(score, greater)
    return progress


@given(SCORES, st.booleans())
def test_progress_keeps_the_first_best_score(scores, greater):
    progress = after(scores, greater)
    known = [score for score in scores if score is not None]
    if not known:
        assert progress.best_step is None
        return
    best = max(known) if greater else min(known)
    assert progress.best_score == best
    assert progress.best_step == scores.index(best) + 1
    assert progress.evaluations_without_best == len(scores) - progress.best_step


@given(SCORES, st.integers(1, 5))
def test_stop_reason_never_goes_away_without_a_new_best(scores, patience):
    rules = Rules("accuracy", patience, Budget(), None)
    progress = after(scores)
    if stop_reason(progress, rules):
        progress.step += 1
        progress.add_evaluation(None, True)
        assert stop_reason(progress, rules)


def test_stop_reason_without_patience_is_none():
    assert stop_reason(after([0.5, 0.1, 0.1, 0.1]), Rules("accuracy", None, Budget(), None)) is None


@given(st.floats(0, 10), st.floats(0, 10))
def test_progress_survives_json_exactly(first, second):
    progress = Progress()
    progress.add_step(first, 8, 100, 104)
    progress.add_step(second, 8, 90, 96)
    again = Progress(**json.loads(json.dumps(progress.to_json())))
    assert again == progress
    assert again.take_logged_loss() == (first + second) / 2
