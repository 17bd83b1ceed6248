"""The scores of a run: baselines before, validation on the way, the final ones, and the cost of an answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

from finetune import ranks
from finetune.console import progress as show_progress
from finetune.data.arrow_files import table_of
from finetune.data.batching import evaluation_batches, without_targets
from finetune.data.spool import as_array
from finetune.emissions.forecast import INFERENCE_PASSES, INFERENCE_SECONDS
from finetune.evaluation.baselines import majority_evaluation
from finetune.evaluation.predict import Evaluation, evaluate_split, predict_rows
from finetune.evaluation.scores import score
from finetune.training.features import record, recorded_outputs
from finetune.training.prepare import Prepared
from finetune.training.session import Session

_MICROJOULES_PER_WH = 3.6e9


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
    if found.microjoules is None:
        return None
    return {
        "wh_per_1000_predictions": found.microjoules / _MICROJOULES_PER_WH * 1000 / found.rows,
        "inference": {
            "split": name,
            "rows": found.rows,
            "duration_s": found.duration_s,
            "batch_size": prepared.predictor.batch_size,
            "mean_length_tokens": found.tokens / found.rows,
        },
    }


@dataclass(frozen=True)
class Passes:
    """Rows and tokens that went through the forward path, and what that took; None where no energy could be read."""

    rows: int
    tokens: int
    duration_s: float
    microjoules: int | None


def measured_passes(prepared: Prepared, session: Session, name: str, passes: int, seconds: float) -> Passes:
    """Measure passes of the forward path over a split, until there were so many or the time is over.

    Batches come in random order, since they differ in length. Of several ranks, all compute and rank 0 knows the
    energy.
    """
    import itertools

    import numpy

    split, predictor = without_targets(prepared.encoded.splits[name]), prepared.predictor
    lengths = as_array(table_of(split).column("length"), numpy.int32)
    batches = list(evaluation_batches(lengths, predictor.batch_size))
    draw = numpy.random.default_rng(0)
    endless = (batches[place] for _ in itertools.count() for place in draw.permutation(len(batches)))
    rounds = -(-passes * len(batches) // ranks.size())
    order = itertools.islice(endless, ranks.rank(), rounds * ranks.size(), ranks.size())
    rows, tokens = 0, 0
    before, began = session.mark(), time.perf_counter()
    # The time is asked where batches are handed out: what is begun is finished and counted.
    in_time = itertools.takewhile(lambda _: not ranks.largest(time.perf_counter() - began > seconds), order)
    for places, _ in predict_rows(predictor, split, in_time, session.check):
        rows, tokens = rows + len(places), tokens + int(lengths[places].sum())
    after, duration_s = session.mark(), time.perf_counter() - began
    known = before.energy_kwh is not None and after.energy_kwh is not None
    spent = after.microjoules - before.microjoules if known else None
    source_rows = round(ranks.total(rows) * len(prepared.data.splits[name]) / len(split))  # one may be several features
    return Passes(source_rows, ranks.total(tokens), duration_s, spent)
