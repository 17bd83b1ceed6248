"""The end of a run: final scores, predictions, the cost of an answer, the saved model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune import ranks
from finetune.console import say
from finetune.evaluation.predict import Evaluation
from finetune.models.adapters import ADAPTER_FOLDER, has_adapters, merge_adapters, merged_weights, save_adapter
from finetune.models.fast.vocabulary import whole_vocabulary
from finetune.runs.card_metadata import public_name
from finetune.runs.files import make_readable, whole_folder, write_atomically
from finetune.tasks import greater_is_better
from finetune.training.measure import energy_per_1000_predictions, final_scores, reported_split
from finetune.training.outlook import Outlook
from finetune.training.prepare import Prepared
from finetune.training.progress import Progress
from finetune.training.sections import training_section
from finetune.training.session import Session
from finetune.training.sharding import gathered_model
from finetune.training.stopping import PRUNED


def finish(prepared: Prepared, progress: Progress, session: Session, outlook: Outlook, reason: str | None) -> None:
    """Score the final model on validation and test, save it, and hand the results to the session."""
    metrics: dict[str, Any] = {}
    merge_adapters(prepared.bare_model)  # what is scored is what is saved
    with session.phase("evaluate"):
        for name in [split for split in ("validation", "test") if split in prepared.encoded.splits]:
            evaluation, metrics[name] = final_scores(prepared, session, name)
            if ranks.is_main():
                write_predictions(session.directory, name, evaluation)
    # Not "evaluate": what it costs to measure an answer is no part of what it cost to make the model.
    if reason is not None and reason.startswith(PRUNED):  # nobody will use the model: its answers are not priced
        no_room: str | None = "the cost of a prediction was not measured: the trial was pruned"
    else:
        no_room = outlook.no_room_for_inference(progress, reported_split(prepared))
    if no_room:
        session.notes.append(no_room)
        say(f"note: {no_room}")
    else:
        with session.phase("other"):
            session.inference = energy_per_1000_predictions(prepared, session, reported_split(prepared)) or {}
    with session.phase("save"):
        whole = gathered_model(prepared.bare_model, prepared.frame)
        ranks.on_main(lambda: save_model(prepared, whole, session.directory))
    split, main = reported_split(prepared), prepared.metric_names[0]
    session.will_end(
        status="stopped" if reason else "completed",
        status_reason=reason,
        metrics=metrics,
        main_metric={
            "name": main,
            **metrics[split][main],
            "split": split,
            "greater_is_better": greater_is_better(main),
        },
        timeline=tuple(progress.timeline),
        training=training_section(prepared, progress),
    )
    for tracker in prepared.accelerator.trackers:  # end_training() would part the ranks, which have a record to finish
        tracker.finish()


def write_predictions(directory: Path, split: str, evaluation: Evaluation) -> None:
    """Write predictions-<split>.jsonl: source row, what the task says of it (prediction …), and the reference."""
    task, context = evaluation.task, evaluation.context

    def entries() -> Iterator[dict[str, Any]]:
        for row, answer in evaluation.answered():
            reference = {"reference": task.words(row[task.target], context.labels)} if task.target else {}
            yield {"row": row["row"], **task.line(answer, row, context), **reference}

    write_atomically(
        directory / f"predictions-{split}.jsonl",
        (json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries()),
    )


def save_model(prepared: Prepared, model: Any, directory: Path) -> None:
    """Write model/ (safetensors weights, configuration, tokenizer) whole or not at all."""
    checkpoint = prepared.checkpoint
    if hasattr(checkpoint.config, "use_cache"):
        model.config.use_cache = checkpoint.config.use_cache
    with whole_folder(directory / "model") as building:
        with whole_vocabulary(model):
            if has_adapters(model):
                model.save_pretrained(building, state_dict=merged_weights(model))
                base = public_name(
                    {"name_or_path": checkpoint.reference, "revision": checkpoint.revision}, "name_or_path"
                )
                save_adapter(model, building / ADAPTER_FOLDER, base, checkpoint.revision)
            else:
                model.save_pretrained(building)
        checkpoint.tokenizer.save_pretrained(building)
        for path in building.rglob("*.safetensors"):
            make_readable(path)
