"""`finetune audit`: probes of bias put to the model of a finished run, or to a checkpoint."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from finetune.audit.asking import Asker
from finetune.audit.cases import EvaluationTexts, evaluation_texts, file_texts
from finetune.audit.likelihood import LanguageModel, open_language_model, why_no_head
from finetune.audit.probes import AFTER, BEFORE, TASK, Said, Subject, look, open_probes, record_results
from finetune.audit.results import Result
from finetune.console import say
from finetune.data.sources import load_data
from finetune.errors import FinetuneError
from finetune.evaluation.predict import task_context
from finetune.evaluation.predict_file import open_finished, scored_task
from finetune.models.build import PROBLEM_TYPES, Checkpoint, build_model, open_checkpoint
from finetune.recipe.bias_keys import BiasProbe, bias_probes, entry_faults
from finetune.recipe.load import load_recipe
from finetune.recipe.schema import Model as ModelSettings
from finetune.runs.bias import CHECKPOINT
from finetune.runs.card import model_card
from finetune.runs.card_metadata import languages
from finetune.runs.files import write_atomically
from finetune.runs.record import RECORD_NAME, Run, find_run, names_a_run, read_run, write_run
from finetune.runs.sets import split_fingerprint
from finetune.tasks import LabelScheme, Task, all_tasks
from finetune.training.hardware import pick_device
from finetune.training.origins import stated_in_card
from finetune.using.model import open_predictor, place

_HEAD = "ForSequenceClassification"
_BATCH_ROWS = 32
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Request:
    """What the command line asks for: a run or checkpoint, probes as the recipe writes them, and where to look.

    probes: none of them means those of the run's own recipe. texts: a file whose rows are probed instead of the run's
    evaluation rows.
    """

    model: str
    probes: Sequence[Mapping[str, Any]] = ()
    output_dir: Path = Path("runs")
    texts: Path | None = None
    revision: str | None = None


@dataclass(frozen=True)
class _Audited:
    """A model to be audited: its labels, its evaluation texts, and how the probes reach it.

    scored: its task with the target. columns: by role, of the data that it was trained on.
    """

    subject: Subject
    labels: LabelScheme
    texts: Callable[[], EvaluationTexts]
    task: str
    scored: Task
    columns: Mapping[str, Any] = field(default_factory=dict)
    confidence: float = CONFIDENCE


def audit(request: Request) -> dict[str, Any]:
    """Put the probes to a model and return the `bias` section; that of a run is also written into its record.

    Raises FinetuneError for what the user can mend.
    """
    run = _run_of(request)
    settings = _settings(request, run)
    audited = _of_run(request, run) if run is not None else _of_checkpoint(request)
    if (file := request.texts) is not None:
        known = audited.scored, audited.columns, audited.labels
        audited = replace(audited, texts=lambda: file_texts(file, *known))
    probes = open_probes(settings, audited.labels, audited.texts, audited.task)
    results: list[Result] = []
    for probe in probes:
        say(f"audit: {probe.settings.probe}, {probe.head['data']}")
        results.append(look(probe, audited.subject, audited.confidence))
    when = BEFORE if run is None else AFTER
    section = record_results(probes, results, when, run.bias if run else None, audited.confidence)
    if run is None:
        return {"of": CHECKPOINT, **section}
    _write(run, section)
    asked = {repr(probe.settings) for probe in probes}
    return {"probes": section["probes"][-len(asked) :]}


def _run_of(request: Request) -> Run | None:
    path = Path(request.model)
    if (path / RECORD_NAME).is_file() or names_a_run(request.model, request.output_dir):
        run = read_run(find_run(request.model, request.output_dir))
        if run.status == "running":
            raise FinetuneError(f"{run.run_id}: the run is still alive", "Wait for it to end.")
        return run
    return None


def _settings(request: Request, run: Run | None) -> tuple[BiasProbe, ...]:
    for entry in request.probes:
        for fault in entry_faults(dict(entry)):
            raise FinetuneError(_as_option(fault), _HINT)
    if request.probes:
        return bias_probes([dict(entry) for entry in request.probes])
    own = bias_probes(_recipe_of(run).evaluation.bias) if run is not None else ()
    if not own:
        raise FinetuneError(
            "no probe is named" + (", and the run's recipe has none (evaluation.bias)" if run is not None else ""),
            _HINT,
        )
    return own


def _as_option(fault: str) -> str:
    """Return a fault of an entry as one of the command line, where the key that it begins with is an option."""
    key = re.split(r"\W", fault, maxsplit=1)[0]
    return f"--{key.replace('_', '-')}{fault[len(key) :]}" if key in BiasProbe.model_fields else fault


_HINT = "For example --swaps --language en, --pairs FILE, or --groups FILE --language en --hateful-label LABEL."


def _recipe_of(run: Run) -> Any:
    assert run.directory is not None
    return load_recipe(run.directory / "recipe.yaml").recipe


def _of_run(request: Request, run: Run) -> _Audited:
    finished = open_finished(run)
    task, recipe = finished.task, _recipe_of(run)
    said = None
    labels = LabelScheme(str(run.dataset.get("problem_type")), tuple(run.dataset.get("label_names") or ()))
    if task.name == TASK:
        said = Asker(open_predictor(finished)[0])
    settings = ModelSettings(name_or_path=str(finished.folder))
    subject = Subject(
        said,
        f"the probe needs labels for texts, and the task is {task.name}",
        lambda: (None, reason) if (reason := why_no_head(task.name)) else _language_model(settings),
        tuple(languages(run)),
    )

    def texts() -> EvaluationTexts:
        whole = all_tasks()[recipe.task]
        data = load_data(recipe, whole)
        split = "test" if "test" in data.splits else "validation"
        _require_same_data(run, split, data.fingerprints[split])
        return evaluation_texts(data, split, data.task, recipe)

    return _Audited(
        subject, labels, texts, task.name, scored_task(finished), run.dataset["columns"], recipe.evaluation.confidence
    )


def _require_same_data(run: Run, split: str, found: str) -> None:
    """Refuse rows that are not those that a run was scored on; raises FinetuneError."""
    recorded = split_fingerprint(run, split)
    if recorded is not None and recorded != found:
        raise FinetuneError(
            f"the data of {run.run_id} have changed since it was trained: its {split} rows are others",
            "Put the old data back, or name the rows to be probed: --texts FILE",
        )


def _language_model(settings: ModelSettings) -> tuple[LanguageModel | None, str | None]:
    return open_language_model(open_checkpoint(settings), settings, pick_device())


def _of_checkpoint(request: Request) -> _Audited:
    """Return a checkpoint: its likelihoods, and its answers where it was saved with a trained classifier."""
    settings = ModelSettings(name_or_path=request.model, revision=request.revision)
    checkpoint = open_checkpoint(settings)
    named = next((name for name in checkpoint.config.architectures or () if name.endswith(_HEAD)), None)
    labels = _labels_of(checkpoint) if named else LabelScheme(PROBLEM_TYPES[0])
    said, reason = (
        _said_by(checkpoint, settings, labels) if named else (None, "the checkpoint has no trained classifier")
    )
    subject = Subject(
        said,
        f"{reason}, so it gives no labels to texts",
        lambda: _language_model(settings),
        tuple(stated_in_card(checkpoint.reference, checkpoint.revision, "model")["language"] or ()),
    )

    def texts() -> EvaluationTexts:
        raise FinetuneError(
            "a checkpoint has no evaluation texts of its own", "Name a file with texts: --texts FILE, or audit a run."
        )

    return _Audited(subject, labels, texts, TASK if named else "", all_tasks()[TASK])


def _labels_of(checkpoint: Checkpoint) -> LabelScheme:
    config = checkpoint.config
    usual = PROBLEM_TYPES[0] if config.num_labels > 1 else "regression"
    names = tuple(str(config.id2label[index]) for index in range(config.num_labels)) if config.num_labels > 1 else ()
    return LabelScheme(config.problem_type or usual, names)


def _said_by(checkpoint: Checkpoint, settings: ModelSettings, labels: LabelScheme) -> tuple[Said | None, str | None]:
    """Return what asks a saved classifier, or None and what is missing of it."""
    task = all_tasks()[TASK]
    model, new_weights = build_model(checkpoint, settings, task, labels)
    if new_weights:
        return None, "the checkpoint lacks weights of its classifier"
    context = task_context(
        checkpoint.tokenizer, labels, checkpoint.kind, model.config, checkpoint.max_length(None), {}, {}
    )
    return Asker(place(model, task, context, _BATCH_ROWS, {})[0]), None


def _write(run: Run, section: Mapping[str, Any]) -> None:
    """Write the section into the record, and into the card unless somebody has changed it."""
    assert run.directory is not None
    card = run.directory / "model" / "README.md"
    is_ours = card.is_file() and card.read_text(encoding="utf-8") == model_card(run)
    audited = replace(run, bias=dict(section))
    write_run(audited, run.directory)
    if is_ours:
        write_atomically(card, model_card(audited))
    else:
        say(f"note: {card} was changed by hand or by another version and is left as it is")
