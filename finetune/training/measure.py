"""The scores of a run: baselines before, validation on the way, the final ones, and the cost of an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from finetune import ranks
from finetune.console import progress as show_progress
from finetune.emissions.forecast import INFERENCE_PASSES, INFERENCE_SECONDS
from finetune.evaluation.baselines import majority_evaluation
from finetune.evaluation.passes import Passes, cost_of_answers, passes_over
from finetune.evaluation.predict import Evaluation, evaluate_split
from finetune.evaluation.scores import score
from finetune.training.features import record, recorded_outputs
from finetune.training.prepare import Prepared
from finetune.training.session import Session


def reported_split(prepared: Prepared) -> str:
    """Return the split whose score stands for the run: test where there is one, else validation."""
    return "test" if "test" in prepared.encoded.splits else "validation"


def baseline_scores(prepared: Prepared, session: Session) -> dict[str, Any]:
    """Return the scores to beat on the reported split: the majority answer, and the model before its first step."""
    split = prepared.data.splits[reported_split(prepared)]
    found: dict[str, Any] = {}
    if "majority" in prepared.recipe.evaluation.baselines:
        constant = majority_evaluation(prepared.task, prepared.predictor.context, prepared.data.splits["train"], split)
        if constant is not None:
            found["majority"] = _final_score(prepared, constant)
    if "untrained" in prepared.recipe.evaluation.baselines:
        found["untrained"] = _final_score(prepared, evaluate_named(prepared, session, reported_split(prepared)))
    return found


def validation_scores(prepared: Prepared, session: Session) -> dict[str, Any]:
    """Return the validation scores without intervals, for the timeline."""
    evaluation = evaluate_named(prepared, session, "validation")
    loss = {"value": evaluation.loss, "low": None, "high": None, "n": evaluation.n}
    return ranks.on_main(lambda: {**score(evaluation, prepared.metric_names), "loss": loss})


def final_scores(prepared: Prepared, session: Session, name: str) -> tuple[Evaluation, dict[str, Any]]:
    """Return the predictions for a split and its scores with intervals."""
    evaluation = evaluate_named(prepared, session, name)
    return evaluation, _final_score(prepared, evaluation)


def evaluate_named(prepared: Prepared, session: Session, name: str) -> Evaluation:
    """Return the model's predictions for one of the run's splits."""
    split, predictor = prepared.encoded.splits[name], prepared.predictor
    record(prepared, session, name)
    if prepared.frozen.records.get(name):
        predictor = replace(predictor, recorded=lambda rows: recorded_outputs(prepared, name, rows))
    with show_progress(f"evaluating {name}", len(split)) as advance:
        rows, sources = prepared.data.splits[name], prepared.encoded.sources[name]
        return evaluate_split(predictor, split, rows, sources, session.check, lambda done: advance(done, ""))


def _final_score(prepared: Prepared, evaluation: Evaluation) -> dict[str, Any]:
    confidence = prepared.recipe.evaluation.confidence
    return ranks.on_main(lambda: score(evaluation, prepared.metric_names, confidence))


def energy_per_1000_predictions(prepared: Prepared, session: Session, name: str) -> dict[str, Any] | None:
    """Measure passes of the forward path over a split; None when no energy could be read.

    They last half a minute, long enough for a meter that reads every second, or else three passes; the model is warm
    from the evaluation before. Returns Wh per 1,000 rows and what it was measured with.
    """
    found = measured_passes(prepared, session, name, INFERENCE_PASSES, INFERENCE_SECONDS)
    return cost_of_answers(found, name, prepared.predictor.batch_size)


def measured_passes(prepared: Prepared, session: Session, name: str, passes: int, seconds: float) -> Passes:
    """Measure passes over a split of the run, as `passes_over`."""
    rows, split = len(prepared.data.splits[name]), prepared.encoded.splits[name]
    return passes_over(prepared.predictor, split, rows, session.mark, session.check, passes, seconds)
