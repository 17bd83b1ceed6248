"""The probes of evaluation.bias: the same ones before the first step and on the model that is saved."""

from __future__ import annotations

from typing import Any

from finetune import ranks
from finetune.audit.asking import Asker
from finetune.audit.cases import EvaluationTexts, evaluation_texts
from finetune.audit.likelihood import LanguageModel, open_language_model, why_no_head
from finetune.audit.probes import AFTER, BEFORE, TASK, OpenProbe, Subject, look, open_probes, record_results
from finetune.audit.results import Result
from finetune.console import say
from finetune.errors import FinetuneError
from finetune.models.architecture import ENCODER_ONLY
from finetune.models.build import open_checkpoint
from finetune.recipe.bias_keys import bias_probes
from finetune.recipe.schema import Recipe
from finetune.runs.card_metadata import languages
from finetune.training.hardware import without_autocast
from finetune.training.measure import reported_split
from finetune.training.memory import explain_shortage
from finetune.training.outlook import Outlook
from finetune.training.prepare import Prepared
from finetune.training.random_state import restore_random_state, take_random_state
from finetune.training.session import Session


def open_audit(prepared: Prepared, session: Session) -> tuple[OpenProbe, ...]:
    """Read the files of the recipe's probes; raises FinetuneError, before anything is trained, for what is wrong."""
    probes = bias_probes(prepared.recipe.evaluation.bias)
    task = prepared.task

    def texts() -> EvaluationTexts:
        return evaluation_texts(prepared.data, reported_split(prepared), task, prepared.recipe)

    if not probes:
        return ()
    with session.phase("audit"):
        return open_probes(probes, prepared.labels, texts, task.name)


def audit_before(prepared: Prepared, session: Session, probes: tuple[OpenProbe, ...], smoke: bool) -> None:
    """Put the probes to the model before its first step, and write what they found; a resumed run has it already.

    Likelihoods are those of the checkpoint, with the head that it came with. The run's random generators are as before:
    training goes as it would without probes.
    """
    if not probes or session.run.bias is not None:
        return
    with session.phase("audit"):
        settings = prepared.recipe.model

        def language_model() -> tuple[LanguageModel | None, str | None]:
            if smoke or settings.init == "scratch":
                return None, "the run begins from random weights: their likelihoods are noise"
            return open_language_model(open_checkpoint(settings), settings, prepared.accelerator.device, session.check)

        state = take_random_state()  # a head that the checkpoint lacks is drawn before it is found out
        found = _results(prepared, session, probes, language_model, is_saved=False)
        restore_random_state(state)
        session.write(bias=record_results(probes, found, BEFORE, None, prepared.recipe.evaluation.confidence))


def audit_after(prepared: Prepared, session: Session, probes: tuple[OpenProbe, ...], outlook: Outlook) -> None:
    """Put the probes to the trained model and hand what they found to the record that ends the run.

    The model is saved by then: what goes wrong with a probe is the reason why it found nothing, and no failure.
    """
    if not probes:
        return
    no_room = outlook.no_room_for_audit()
    with session.phase("audit"):
        reason = why_no_head(prepared.task.name)

        def language_model() -> tuple[LanguageModel | None, str | None]:
            if reason is not None:
                return None, reason
            model, checkpoint = prepared.bare_model.eval(), prepared.checkpoint
            is_masked = checkpoint.kind == ENCODER_ONLY
            return LanguageModel(
                model, checkpoint.tokenizer, is_masked, prepared.accelerator.device, session.check
            ), None

        if no_room is not None:
            found = [Result(reason=no_room)] * len(probes)
        else:
            # Likelihoods in float32, as those before are; labels come from the predictor, which has its own autocast.
            with without_autocast(prepared.bare_model):
                found = _results(prepared, session, probes, language_model, is_saved=True)
    confidence = prepared.recipe.evaluation.confidence
    session.will_end(bias=record_results(probes, found, AFTER, session.run.bias, confidence))


def _results(
    prepared: Prepared, session: Session, probes: tuple[OpenProbe, ...], language_model: Any, is_saved: bool
) -> list[Result]:
    is_classifier = prepared.task.name == TASK
    subject = Subject(
        Asker(prepared.predictor, session.check) if is_classifier else None,
        None if is_classifier else f"the probe needs labels for texts, and the task is {prepared.task.name}",
        language_model,
        tuple(languages(session.run)),
    )
    put, found = _look_safely if is_saved else _look, []
    for probe in probes:
        session.check()
        say(f"audit: {probe.settings.probe}, {probe.head['data']}")
        found.append(put(probe, subject, prepared.recipe))
    return found


def _look(probe: OpenProbe, subject: Subject, recipe: Recipe) -> Result:
    return look(probe, subject, recipe.evaluation.confidence)


def _look_safely(probe: OpenProbe, subject: Subject, recipe: Recipe) -> Result:
    """Put a probe to the model; what a user could mend, and too little memory, become the reason of a result.

    Not where one of several processes alone has too little memory: the others would wait for it.
    """
    try:
        return _look(probe, subject, recipe)
    except (FinetuneError, MemoryError, RuntimeError) as error:
        explained = explain_shortage(error, recipe.training, "audit")
        is_local = not isinstance(error, FinetuneError) or isinstance(error.__cause__, MemoryError | RuntimeError)
        if not isinstance(explained, FinetuneError) or (is_local and ranks.size() > 1):
            raise
        say(f"note: the probe {probe.settings.probe} found nothing: {explained.message}")
        return Result(reason=explained.message)
