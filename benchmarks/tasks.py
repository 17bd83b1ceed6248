"""Six data sets of four tasks: finetune from one recipe each, and a transformers.Trainer script with equal settings.

Both run in a process of their own, seed by seed, taking turns at who goes first, and the answers of both are scored by
the same functions (task_scores.py). Only scores are kept, no times. Every finished run is stored at once; --resume goes
on with what is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_words, surroundings, timed, today, usable_cores, versions
from benchmarks.pairs import difference_by_row, mean
from benchmarks.publishing import FOLDER, markdown_table, publish, read_published
from benchmarks.task_scores import METRICS, contributions, from_words, in_words, score

RECIPES = FOLDER / "recipes"
SPLITS = ("train", "validation", "test")
SYSTEMS = ("finetune", "Trainer")
_THREADS = 2
_SAME_SCORE = 1e-6


@dataclass(frozen=True)
class Outcome:
    """One run. rows: what each test row adds to the metric, as task_scores.in_words writes it."""

    dataset: str
    system: str
    seed: int
    steps: int
    validation: float
    test: float
    rows: str


def run(data: Path | None, seeds: Sequence[int], resume: bool = False, names: Sequence[str] = tuple(METRICS)) -> None:
    """Run what is missing, and store figures and table after every run; data sets that are not there are left out."""
    if data is None:
        print("tasks: skipped: --data names the folder that holds the data sets")
        return
    data = data.resolve()  # a relative path in a recipe starts at the recipe
    there = [name for name in names if all((data / name / f"{split}.jsonl").is_file() for split in SPLITS)]
    for name in sorted(set(names) - set(there)):
        print(f"tasks: {name} skipped: {data / name} holds no train, validation and test .jsonl")
    heading = {
        "benchmark": "tasks",
        "date": today(),
        "machine": machine_words(),
        "versions": versions(),
        "threads": min(_THREADS, usable_cores()),
    }
    stored = read_published("tasks") if resume or set(there) < set(METRICS) else {}
    settings = dict(stored.get("settings", {})) | {name: settings_of(data, name) for name in there}
    outcomes = _kept(stored, heading, settings, redo=() if resume else there)
    majority = dict(stored.get("majority", {}))
    for name, system, seed in turns(there, seeds, {(o.dataset, o.system, o.seed) for o in outcomes}):
        print(f"tasks: {name}, {system}, seed {seed}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            if system == "finetune":
                outcome, majority[name] = run_finetune(data / name, name, seed, Path(folder))
            else:
                outcome = run_trainer(data / name, name, seed, settings[name], Path(folder))
        outcomes.append(outcome)
        print(f"tasks: {outcome.test:.4f}, validation {outcome.validation:.4f}", file=sys.stderr, flush=True)
        publish_runs(heading, settings, majority, outcomes)
    if outcomes:
        print(publish_runs(heading, settings, majority, outcomes))


def _kept(
    stored: Mapping[str, Any], heading: Mapping[str, Any], settings: Mapping[str, Any], redo: Sequence[str]
) -> list[Outcome]:
    """Return the stored runs that were taken with the same versions and settings, but for data sets to `redo`."""
    if stored.get("versions") != heading["versions"]:
        return []
    runs = [Outcome(**entry) for entry in stored.get("runs", ())]
    same = {name for name in settings if stored["settings"].get(name) == settings[name] and name not in redo}
    return [outcome for outcome in runs if outcome.dataset in same]


def publish_runs(
    heading: Mapping[str, Any], settings: Mapping[str, Any], majority: Mapping[str, float], outcomes: Sequence[Outcome]
) -> str:
    """Store the figures so far and return their Markdown."""
    differences = {name: difference(outcomes, name) for name in METRICS}
    result = {
        **heading,
        "settings": settings,
        "majority": majority,
        "differences": differences,
        "runs": [asdict(outcome) for outcome in outcomes],
    }
    content = describe(result)
    publish("tasks", result, content)
    return content


def turns(names: Sequence[str], seeds: Sequence[int], done: set[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """Return (data set, system, seed) in the order to run them: a seed of all data sets before the next seed."""
    order = []
    for index, seed in enumerate(seeds):
        systems = SYSTEMS if index % 2 == 0 else SYSTEMS[::-1]
        order += [(name, system, seed) for name in names for system in systems]
    return [turn for turn in order if turn not in done]


def settings_of(data: Path, name: str) -> dict[str, Any]:
    """Return what both systems share, as the recipe of a data set has it."""
    from finetune.recipe.load import load_recipe
    from finetune.training.hardware import choose_precision, pick_device

    recipe = load_recipe(RECIPES / f"{name}.yaml", [f"dataset.path={data / name}"]).recipe
    training, preprocessing = recipe.training, recipe.preprocessing
    settings = {
        "task": recipe.task,
        "model": recipe.model.name_or_path,
        "learning-rate": training.learning_rate,
        "epochs": training.num_train_epochs,
        "batch-size": training.per_device_train_batch_size,
        "eval-batch-size": training.per_device_eval_batch_size,
        "weight-decay": training.weight_decay,
        "warmup-steps": training.warmup_steps,
        "max-length": preprocessing.max_length,
        "train-rows": recipe.dataset.max_train_samples,
        "mixed-precision": choose_precision(training.mixed_precision, pick_device(), "bert"),
    }
    if recipe.task == "question-answering":
        settings |= {"doc-stride": preprocessing.doc_stride, "max-answer-length": preprocessing.max_answer_length}
    return {key: value for key, value in settings.items() if value is not None}


def run_finetune(data: Path, name: str, seed: int, folder: Path) -> tuple[Outcome, float]:
    """Run the recipe through the command line; return its outcome and the score of the majority answer.

    Raises RuntimeError when the record says another score than the answers give.
    """
    command = [sys.executable, "-m", "finetune", "run", str(RECIPES / f"{name}.yaml"), f"dataset.path={data}",
               f"training.seed={seed}", "--output-dir", str(folder / "runs"), "--offline"]  # fmt: skip
    timed(command, _environment(folder))
    (path,) = (folder / "runs").glob("*/run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    said = [entry["prediction"] for entry in _lines(path.parent / "predictions-test.jsonl")]
    metric, _ = METRICS[name]
    scores = {split: record["metrics"][split][metric]["value"] for split in SPLITS[1:]}
    outcome = _outcome(data, name, "finetune", seed, record["training"]["steps"], scores["validation"], said)
    if abs(outcome.test - scores["test"]) > _SAME_SCORE:
        raise RuntimeError(f"{name}: the record says {scores['test']}, the answers give {outcome.test}")
    return outcome, record["baselines"]["majority"][metric]["value"]


def run_trainer(data: Path, name: str, seed: int, settings: Mapping[str, Any], folder: Path) -> Outcome:
    """Run the Trainer script with the settings of the recipe, on the rows that the recipe draws."""
    from finetune.package_paths import is_package_path, resolve_package_path

    result, rows = folder / "result.json", folder / "rows.json"
    named = settings["model"]
    model = resolve_package_path(named) if is_package_path(named) else named
    options = {**settings, "model": model, "data": data, "result": result}
    if "train-rows" in settings:
        rows.write_text(json.dumps(drawn_rows(data, name)), encoding="utf-8")
        options["train-rows"] = rows
    words = [f"--{key}={value}" for key, value in {**options, "seed": seed}.items()]
    timed([sys.executable, "-m", "benchmarks.task_script", *words], _environment(folder))
    answers = json.loads(result.read_text(encoding="utf-8"))
    validation = score(_counts(data, name, "validation", answers["validation"]))
    return _outcome(data, name, "Trainer", seed, answers["steps"], validation, answers["test"])


def drawn_rows(data: Path, name: str) -> list[int]:
    """Return the numbers (from 1) of the rows that dataset.max_train_samples draws."""
    from finetune.data.sources import load_data
    from finetune.recipe.load import load_recipe
    from finetune.tasks import all_tasks

    recipe = load_recipe(RECIPES / f"{name}.yaml", [f"dataset.path={data}"]).recipe
    return list(load_data(recipe, all_tasks()[recipe.task]).splits["train"]["row"])


def _outcome(
    data: Path, name: str, system: str, seed: int, steps: int, validation: float, said: Sequence[Any]
) -> Outcome:
    counts = _counts(data, name, "test", said)
    return Outcome(name, system, seed, steps, validation, score(counts), in_words(counts))


def _counts(data: Path, name: str, split: str, said: Sequence[Any]) -> list[tuple[float, float]]:
    _, counted = METRICS[name]
    rows = _lines(data / f"{split}.jsonl")
    return [counted(answer, row) for answer, row in zip(said, rows, strict=True)]


def _lines(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _environment(folder: Path) -> dict[str, str]:
    return {**surroundings(folder, min(_THREADS, usable_cores())), "OMP_WAIT_POLICY": "passive"}


def difference(outcomes: Sequence[Outcome], name: str) -> dict[str, Any] | None:
    """Return finetune minus Trainer on a data set's test rows over the seeds that both have; None without such."""
    rows = {(o.system, o.seed): contributions(from_words(o.rows)) for o in outcomes if o.dataset == name}
    seeds = sorted({seed for _, seed in rows if all((system, seed) in rows for system in SYSTEMS)})
    if not seeds:
        return None
    pairs = [(rows["finetune", seed], rows["Trainer", seed]) for seed in seeds]
    return {"seeds": seeds, **difference_by_row(pairs)}


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: where it was taken, a data set a row."""
    outcomes = [Outcome(**entry) for entry in result["runs"]]
    header = ["data set", "task", "metric", "test rows", "majority", "finetune", "Trainer", "seeds",
              "finetune − Trainer, points", "95 % interval, seeds and rows", "p, rows"]  # fmt: skip
    names = [name for name in METRICS if any(outcome.dataset == name for outcome in outcomes)]
    known = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    parts = [
        f"{result['date']} · {result['machine']} · {result['threads']} threads · {known}",
        markdown_table(header, [_cells(result, outcomes, name) for name in names]),
    ]
    return "\n\n".join(parts)


def _cells(result: Mapping[str, Any], outcomes: Sequence[Outcome], name: str) -> list[str]:
    own = [outcome for outcome in outcomes if outcome.dataset == name]
    found = result["differences"][name]
    majority = result["majority"].get(name)
    cells = [name, result["settings"][name]["task"], METRICS[name][0], f"{len(own[0].rows.split()):,}"]
    cells.append("" if majority is None else f"{majority:.3f}")
    for system in SYSTEMS:
        scores = sorted(outcome.test for outcome in own if outcome.system == system)
        spread = f" ({scores[0]:.3f} to {scores[-1]:.3f})" if len(scores) > 1 else ""
        cells.append(f"{mean(scores):.4f}{spread}" if scores else "none yet")
    if found is None:
        return [*cells, "", "", "", ""]
    interval = f"{100 * found['low']:+.2f} to {100 * found['high']:+.2f}" if found["low"] is not None else "one seed"
    return [*cells, str(len(found["seeds"])), f"{100 * found['mean']:+.2f}", interval, f"{found['p_rows']:.2f}"]
