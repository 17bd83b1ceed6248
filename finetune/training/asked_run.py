"""A run that only asks: a checkpoint on a recipe's data in words, with a record that compare understands."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune import ranks
from finetune.console import say
from finetune.data.sources import load_data
from finetune.errors import FinetuneError
from finetune.evaluation.baselines import majority_evaluation
from finetune.evaluation.scores import score
from finetune.models.build import open_checkpoint
from finetune.recipe.load import load_recipe
from finetune.runs.break_even import ASKED_NAMES
from finetune.runs.record import Run, run_to_json
from finetune.runs.report import closing_panel
from finetune.tasks import all_tasks, greater_is_better
from finetune.training.finish import write_predictions
from finetune.training.hardware import choose_precision, describe_hardware, pick_device, start_accelerator
from finetune.training.interrupts import Interrupted
from finetune.training.options import RunOptions
from finetune.training.prepare import Phase, what_is_asked
from finetune.training.prompted import Spent, Subject, ask_model, cost_of_asking, open_model
from finetune.training.quick_imports import quick_imports
from finetune.training.sections import checkpoint_section, data_section
from finetune.training.session import Session, open_session
from finetune.training.words import recipe_name, tell
from finetune.zero_shot.prompted import why_no_examples


@dataclass(frozen=True)
class AskRequest:
    """What the command line asks for; `words` are a recipe and key=value settings."""

    words: tuple[str, ...]
    country: str | None = None
    region: str | None = None
    output_dir: Path | None = None


def ask_in_turn(request: AskRequest, shots: Sequence[int], as_json: bool = False) -> int:
    """Ask with so many examples (0: zero-shot), a run for each, print their records and return the exit code."""
    for count in shots:
        try:
            run = ask_checkpoint(request, count)
        except Interrupted as interrupted:
            say(f"{signal.Signals(interrupted.signum).name}: ended before the answers were scored")
            return 128 + interrupted.signum
        print(json.dumps(run_to_json(run), indent=2) if as_json else closing_panel(run))
    return 0


def ask_checkpoint(request: AskRequest, shots: int = 0) -> Run:
    """Ask the checkpoint of a recipe about its data, and return the record; raises FinetuneError and Interrupted."""
    names = [word for word in request.words if "=" not in word]
    settings = [word for word in request.words if "=" in word]
    if len(names) != 1:
        raise FinetuneError(
            f"one recipe is needed, found {len(names)}: {' '.join(names)}",
            "finetune evaluate recipe.yaml --zero-shot model.name_or_path=CHECKPOINT",
        )
    settings += [f"output_dir={request.output_dir}"] if request.output_dir is not None else []
    settings += [f"evaluation.prompt.shots={shots}"] if shots else []
    loaded = load_recipe(names[0], settings)
    tell(loaded)
    method = "few_shot" if shots else "zero_shot"
    training = loaded.recipe.training.model_copy(update={"seeds": None})  # one run, with training.seed
    recipe = loaded.recipe.model_copy(update={"training": training})
    name = f"{recipe_name(loaded)}-{ASKED_NAMES[method]}"
    return _ask(RunOptions(recipe, name, country=request.country, region=request.region), method, shots)


def _ask(options: RunOptions, method: str, shots: int) -> Run:
    with open_session(options) as session:
        session.write(prompted={"scored": method})
        subject, model = open_subject(options, session.phase)
        if shots and (reason := why_no_examples(subject.data)):
            raise FinetuneError(f"few-shot: {reason}", "Leave dataset.streaming out.")
        split = "test" if "test" in subject.data.splits else "validation"
        count = sum(parameter.numel() for parameter in model.parameters())
        recorded = session.run.recipe
        session.write(
            model=checkpoint_section(options.recipe, subject.checkpoint, count, 0)
            | {"name_or_path": recorded["model"]["name_or_path"]},
            dataset=data_section(options.recipe, subject.data) | {"path": recorded["dataset"]["path"]},
            training={"steps": 0, "device": subject.accelerator.device.type, "mixed_precision": _precision(subject)},
            hardware=describe_hardware(subject.accelerator).to_dict(),
        )
        with session.phase("baseline"):
            session.write(baselines=_majority(subject, split))
        _finish(subject, session, model, method, split, shots)
    return session.run


def open_subject(options: RunOptions, phase: Phase) -> tuple[Subject, Any]:
    """Read data and checkpoint; raises FinetuneError where the checkpoint cannot be asked, and says why."""
    recipe = options.recipe
    with phase("load"), quick_imports():
        checkpoint = open_checkpoint(recipe.model)
        precision = choose_precision(recipe.training.mixed_precision, pick_device(), checkpoint.model_type)
        accelerator = start_accelerator(precision, [], options.recipe.output_dir)
    with phase("preprocess"):
        data = load_data(recipe, all_tasks()[recipe.task])
        asked = what_is_asked(recipe, data, checkpoint, checkpoint.max_length(None))
    for note in (*checkpoint.notes, *data.notes):
        say(f"note: {note}")
    subject = Subject(recipe, data, checkpoint, asked.context, accelerator, asked.metric_names, asked.generation)
    with phase("load"), quick_imports():
        model, reason = open_model(subject)
    if model is None:
        raise FinetuneError(f"the checkpoint cannot be asked in words: {reason}", "Take another checkpoint or task.")
    return subject, model


def _precision(subject: Subject) -> str:
    return str(describe_hardware(subject.accelerator).mixed_precision)


def _majority(subject: Subject, split: str) -> dict[str, Any]:
    data = subject.data
    if data.stream is not None:
        return {}
    constant = majority_evaluation(data.task, subject.context, data.splits["train"], data.splits[split])
    if constant is None:
        return {}
    return {"majority": score(constant, subject.metric_names, subject.recipe.evaluation.confidence)}


def _finish(subject: Subject, session: Session, model: Any, method: str, split: str, shots: int) -> None:
    """Ask, score, keep the answers, and measure what they cost."""
    spent = Spent(session)
    with session.phase("evaluate"):
        answered = ask_model(subject, session, model, split, shots)
        ranks.on_main(lambda: write_predictions(session.directory, split, answered.evaluation))
    facts = {**answered.facts, **spent.since_last()}
    with session.phase("other"):
        cost = cost_of_asking(answered, session, split)
    if cost["wh_per_1000_predictions"] is not None:
        session.inference = cost
    main = subject.metric_names[0]
    session.will_end(
        status="completed",
        prompted={"scored": method, method: {**facts, **cost}},
        metrics={split: answered.scores},
        main_metric={
            "name": main,
            **answered.scores[main],
            "split": split,
            "greater_is_better": greater_is_better(main),
        },
    )
