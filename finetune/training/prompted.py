"""What a checkpoint answers when it is asked in words before it is fine-tuned, and what asking it costs."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune import ranks
from finetune.console import progress as show_progress
from finetune.console import say
from finetune.emissions.components import MICROJOULES_PER_KWH
from finetune.emissions.forecast import INFERENCE_PASSES, INFERENCE_SECONDS
from finetune.evaluation.passes import cost_of_answers, passes_over, spent_between
from finetune.evaluation.predict import Evaluation, Predictor, evaluate_split
from finetune.evaluation.scores import score
from finetune.models.language import load_language_model
from finetune.recipe.prompt_keys import PROMPTED
from finetune.text import plural
from finetune.training.measure import reported_split
from finetune.training.random_state import restore_random_state, take_random_state
from finetune.zero_shot.prompted import Prompted, open_asking, prompted, why_no_examples, why_not_asked
from finetune.zero_shot.writing import writing_config

if TYPE_CHECKING:
    from accelerate import Accelerator

    from finetune.data.sources import LoadedData
    from finetune.models.build import Checkpoint
    from finetune.recipe.schema import Recipe
    from finetune.tasks import Context
    from finetune.training.prepare import Prepared
    from finetune.training.session import Session

_HINT = "Take a checkpoint with safetensors weights, or leave zero_shot and few_shot out of evaluation.baselines."


@dataclass(frozen=True)
class Subject:
    """A checkpoint and the data that it is asked about; generation: how it writes, of a task that writes text."""

    recipe: Recipe
    data: LoadedData
    checkpoint: Checkpoint
    context: Context
    accelerator: Accelerator
    metric_names: tuple[str, ...]
    generation: Any = None


@dataclass(frozen=True)
class Answered:
    """What came of asking: the answers, their scores with intervals, what the record says of it, how it was asked."""

    evaluation: Evaluation
    scores: dict[str, Any]
    facts: dict[str, Any]
    predictor: Predictor
    features: Any


def prompted_baselines(prepared: Prepared, session: Session) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the scores of zero_shot and few_shot on the reported split, None where it makes none, and their facts.

    The run's random generators are as before: training goes as it would without these baselines.
    """
    wanted = [name for name in PROMPTED if name in prepared.recipe.evaluation.baselines]
    if not wanted:
        return {}, {}
    generation = getattr(prepared.bare_model, "generation_config", None) if prepared.task.generates else None
    subject = Subject(
        prepared.recipe, prepared.data, prepared.checkpoint, prepared.context, prepared.accelerator,
        prepared.metric_names, generation,
    )  # fmt: skip
    state, spent = take_random_state(), Spent(session)
    model, reason = open_model(subject)
    scores: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    for name in wanted:
        why = reason or (why_no_examples(subject.data) if name == "few_shot" else None)
        if why is not None:
            say(f"note: evaluation.baselines: {name} is null: {why}")
            scores[name], facts[name] = None, {"reason": why}
        else:
            shots = subject.recipe.evaluation.prompt.shots if name == "few_shot" else 0
            answered = ask_model(subject, session, model, reported_split(prepared), shots)
            cost = cost_of_asking(answered, session, reported_split(prepared))
            scores[name], facts[name] = answered.scores, {**answered.facts, **cost}
        facts[name] |= spent.since_last()
    restore_random_state(state)
    return scores, facts


class Spent:
    """What a run spends from one place to the next; the first stretch begins where this is made."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reading, self._began = session.mark(), time.perf_counter()

    def since_last(self) -> dict[str, Any]:
        """Return energy_kwh (None without a reading) and duration_s since the last call."""
        reading, now = self._session.mark(), time.perf_counter()
        microjoules, _ = spent_between(self._reading, reading)
        seconds, self._reading, self._began = now - self._began, reading, now
        return {"energy_kwh": None if microjoules is None else microjoules / MICROJOULES_PER_KWH, "duration_s": seconds}


def open_model(subject: Subject) -> tuple[Any, str | None]:
    """Return the checkpoint as a language model on the run's device, or None and why it cannot be asked."""
    reason = why_not_asked(subject.recipe, subject.data, subject.checkpoint.kind)
    if reason is None:
        model, reason = load_language_model(subject.checkpoint, subject.recipe.model, _HINT)
    if reason is not None:
        return None, reason
    if subject.data.task.from_text is not None:
        model.generation_config = writing_config(subject.checkpoint, subject.context)
    elif subject.generation is not None:
        model.generation_config = subject.generation
    return model.to(subject.accelerator.device), None


def ask_model(subject: Subject, session: Session, model: Any, name: str, shots: int) -> Answered:
    """Ask a language model about a split, after `shots` solved training rows, and score its answers."""
    asking = open_asking(subject.recipe, subject.data, subject.checkpoint, subject.context)
    rows = subject.data.splits[name]
    about = prompted(asking, subject.data, rows, model, shots)
    for note in notes_of(about, shots):
        say(f"note: {note}")
    predictor = Predictor(
        model, about.task, about.context, subject.recipe.training.per_device_eval_batch_size,
        subject.accelerator.device, subject.accelerator.autocast,
    )  # fmt: skip
    words = "few-shot" if shots else "zero-shot"
    with show_progress(f"{words} on {name}", len(about.features)) as advance:
        evaluation = evaluate_split(
            predictor, about.features, rows, None, session.check, lambda done: advance(done, "")
        )
    confidence = subject.recipe.evaluation.confidence
    scores = ranks.on_main(lambda: score(evaluation, subject.metric_names, confidence))
    facts = {"reason": None, "kind": subject.checkpoint.kind, "split": name, **about.facts}
    return Answered(evaluation, scores, facts, predictor, about.features)


def notes_of(about: Prompted, shots: int) -> list[str]:
    """Return what should be known of the prompts."""
    facts, names = about.facts, about.context.labels.names
    notes = []
    if shots and facts["shots"] < shots:
        notes.append(f"few-shot: the training split has {facts['shots']} rows to show, of {shots} asked for")
    if facts["passed_over_rows"]:
        notes.append(f"few-shot: {plural(facts['passed_over_rows'], 'training row')} passed over, whose text is asked "
                     "about, word for word")  # fmt: skip
    if names and 0 < facts["shots"] < len(names):
        notes.append(f"few-shot: {facts['shots']} examples show not all of the {len(names)} labels")
    if facts["cut_examples"]:
        notes.append(f"few-shot: {facts['cut_examples']} of {facts['shots']} examples were cut to their share of the "
                     f"{facts['max_length']:,} tokens that the model reads")  # fmt: skip
    if facts["cut_rows"]:
        notes.append(f"{facts['cut_rows']:,} of {len(about.features):,} texts were cut to fit into the prompt")
    if names and all(word.lstrip("-").isdigit() for word in facts["label_words"].values()):
        notes.append("the labels are numbers, which say little to a model: evaluation.prompt.label_words names them")
    return notes


def cost_of_asking(answered: Answered, session: Session, name: str) -> dict[str, Any]:
    """Measure passes over what was asked, as the cost of a tuned model's answers is; null where nothing is read."""
    predictor, rows = answered.predictor, answered.features
    found = passes_over(predictor, rows, len(rows), session.mark, session.check, INFERENCE_PASSES, INFERENCE_SECONDS)
    return cost_of_answers(found, name, predictor.batch_size) or {"wh_per_1000_predictions": None, "inference": None}
