"""`finetune evaluate`: the model of a run on labelled rows that it has not seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from finetune.console import progress, say
from finetune.data.encoding import encode_split
from finetune.data.labelled import SPLIT, Labelled, read_labelled
from finetune.emissions.forecast import INFERENCE_PASSES, INFERENCE_SECONDS
from finetune.errors import FinetuneError
from finetune.evaluation.passes import cost_of_answers, passes_over
from finetune.evaluation.predict import Evaluation, evaluate_split
from finetune.evaluation.predict_file import Finished, open_finished, parse_columns, recorded_labels, scored_task
from finetune.evaluation.scores import score
from finetune.recipe.metric_names import short_metric
from finetune.runs.mistakes import Findings, look_through
from finetune.runs.record import Run, find_run, read_run
from finetune.tasks import greater_is_better
from finetune.using.energy import metered
from finetune.using.model import open_predictor


@dataclass(frozen=True)
class Request:
    """What the command line asks for; `columns` are role=name words."""

    target: str
    file: Path
    output_dir: Path
    columns: Sequence[str] = ()
    batch_size: int | None = None
    country: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Evaluated:
    """What came of an evaluation: the run it is of, its content as `--json` prints it, and what its tables show."""

    run: Run
    content: dict[str, Any]
    findings: Findings


def evaluate_file(request: Request) -> Evaluated:
    """Score a run's model on a labelled file, and measure what that takes.

    Raises FinetuneError when the file does not fit the run: its columns, its labels, its format.
    """
    finished = open_finished(read_run(find_run(request.target, request.output_dir)))
    run, task = finished.run, scored_task(finished)
    given = parse_columns(request.columns, finished, task)
    with metered(run, request.country, request.region) as meter:
        with meter.phase("preprocess"):  # what does not fit is said before the weights are loaded
            data = read_labelled(request.file, task, run.dataset["columns"], given, recorded_labels(finished))
        with meter.phase("load"):
            predictor, hardware = open_predictor(finished, request.batch_size, data.task)
        with meter.phase("preprocess"):
            context = predictor.context
            names = metric_names(finished, context.labels.problem_type)
            context = replace(context, writes=data.task.writes_for(names, context.labels.problem_type))
            predictor = replace(predictor, context=context)
            features, sources = encode_split(SPLIT, data.rows, data.task, context)
        for note in data.notes:
            say(f"note: {note}")
        with meter.phase("evaluate"), progress("evaluating", len(features)) as advance:
            evaluation = evaluate_split(predictor, features, data.rows, sources, advance=lambda done: advance(done, ""))
            scores = score(evaluation, names, _confidence(run))
        with meter.phase("other"):
            passes = passes_over(predictor, features, evaluation.n, meter.mark, lambda: None,
                                 INFERENCE_PASSES, INFERENCE_SECONDS)  # fmt: skip
            inference = cost_of_answers(passes, SPLIT, predictor.batch_size) or {}
    findings = look_through(answer_lines(evaluation), context.labels.problem_type, context.labels.names)
    content = {
        "run_id": run.run_id,
        "file": request.file.name,
        **data_section(data, context.labels.problem_type),
        **score_section(evaluation, scores, run),
        **findings_section(findings),
        "emissions": {"wh_per_1000_predictions": None, **meter.summary(), **inference},
        "hardware": hardware.to_dict(),
        "notes": list(data.notes),
    }
    return Evaluated(run, content, findings)


def metric_names(finished: Finished, problem_type: str) -> tuple[str, ...]:
    """Return the metrics of the run, the main one first."""
    own = finished.task.metrics[problem_type]
    asked = (finished.run.recipe.get("evaluation") or {}).get("metrics") or ()
    return (*own, *(name for name in asked if name not in own))


def _confidence(run: Run) -> float:
    return float((run.recipe.get("evaluation") or {}).get("confidence") or 0.95)


def answer_lines(evaluation: Evaluation) -> Iterator[dict[str, Any]]:
    """Yield for each row what the predictions of a run hold, and the inputs."""
    task, context = evaluation.task, evaluation.context
    roles = [column.role for column in task.inputs]
    for row, answer in evaluation.answered():
        line = {"row": row["row"], **task.line(answer, row, context), "inputs": {role: row[role] for role in roles}}
        yield {**line, "reference": task.words(row[task.target], context.labels)} if task.target else line


def data_section(data: Labelled, problem_type: str) -> dict[str, Any]:
    """Return what is known of the rows."""
    return {
        "task": data.task.name,
        "problem_type": problem_type,
        "rows": len(data.rows),
        "dropped_rows": data.dropped,
        "fingerprint": data.fingerprint,
        "columns": data.columns,
    }


def score_section(evaluation: Evaluation, scores: dict[str, Any], run: Run) -> dict[str, Any]:
    """Return scores and loss, with the score that the run itself is judged by first."""
    main = next(iter(scores))
    own = run.score(main, str(run.main_metric.get("split")))
    return {
        "main_metric": {"name": main, **scores[main], "greater_is_better": greater_is_better(short_metric(main))},
        "metrics": scores,
        "loss": evaluation.loss,
        "of_the_run": {"split": run.main_metric.get("split"), "name": main, **own.to_json()} if own else None,
    }


def findings_section(findings: Findings) -> dict[str, Any]:
    """Return classes and mistakes; the texts of a mistake are shortened."""
    from finetune.runs.page.confusion import as_words, inputs_words

    tables = findings.classes
    return {
        "classes": list(tables.classes) if tables else None,
        "matrix": tables.matrix if tables else None,
        "per_class": [dict(row) for row in tables.per_class] if tables else None,
        "counted": tables.unit if tables else None,
        "mistakes_ordered_by": findings.ordered_by,
        "mistakes": [
            {**asdict(mistake), "reference": as_words(mistake.reference), "prediction": as_words(mistake.prediction),
             "inputs": inputs_words(mistake.inputs or {})}
            for mistake in findings.mistakes
        ],
    }  # fmt: skip


def require_file(file: Path | None, target: str) -> Path:
    """Return the file to evaluate on; raises FinetuneError without one."""
    if file is None:
        raise FinetuneError(
            "evaluate needs labelled rows: --on FILE",
            f"finetune evaluate {target} --on new.jsonl; the run's own scores: finetune show {target}",
        )
    return file
