"""How much memory a dataset takes, from ten thousand to millions of generated rows, in bytes a row."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from benchmarks.machine import machine_words, today, usable_cores, versions
from benchmarks.publishing import markdown_table, publish

FORMATS = ("jsonl", "csv", "parquet")
ROWS = (10_000, 100_000, 1_000_000)
_PIECE_ROWS = 10_000
_STAGES = ("read", "tokenise", "order", "evaluate")
_WORDS = [
    "the",
    "a",
    "some",
    "that",
    "storm",
    "river",
    "letter",
    "garden",
    "evening",
    "painter",
    "answer",
    "morning",
    "window",
    "story",
    "winter",
    "bread",
]
_MIB = 2**20


def run(rows: Sequence[int] = ROWS, formats: Sequence[str] = FORMATS) -> None:
    """Measure each format at each size in a process of its own, print the table and store it."""
    measured = []
    for form in formats:
        for count in rows:
            with tempfile.TemporaryDirectory(dir=os.environ.get("FINETUNE_CACHE")) as folder:
                path = generate(Path(folder), form, count)
                measured.append({"format": form, "rows": count, **_in_a_process(path, Path(folder))})
                print(json.dumps(measured[-1]), file=sys.stderr)
    result = {
        "benchmark": "memory",
        "date": today(),
        "machine": machine_words(),
        "cores": usable_cores(),
        "versions": versions(),
        "measured": measured,
    }
    content = describe(result)
    print(content)
    publish("memory", result, content)


def generate(folder: Path, form: str, rows: int) -> Path:
    """Write a file of short messages with four labels, piece by piece, and return its path."""
    path = folder / f"rows.{form}"
    if form == "parquet":
        _write_parquet(path, rows)
        return path
    with path.open("w", encoding="utf-8") as file:
        if form == "csv":
            file.write("text,label\n")
        for number in range(rows):
            text, label = _row(number)
            file.write(f'"{text}",{label}\n' if form == "csv" else f'{{"text": "{text}", "label": "{label}"}}\n')
    return path


def _row(number: int) -> tuple[str, str]:
    mixed = number * 2_654_435_761 % 2**32
    words = [_WORDS[(mixed >> shift) % len(_WORDS)] for shift in range(0, 8 + mixed % 16, 2)]
    return f"{' '.join(words)} {number}", ("good", "bad", "mixed", "unclear")[mixed >> 7 & 3]


def _write_parquet(path: Path, rows: int) -> None:
    import pyarrow
    from pyarrow import parquet

    schema = pyarrow.schema([("text", pyarrow.string()), ("label", pyarrow.string())])
    with parquet.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, 10 * _PIECE_ROWS):
            piece = [_row(number) for number in range(start, min(rows, start + 10 * _PIECE_ROWS))]
            columns = {"text": [text for text, _ in piece], "label": [label for _, label in piece]}
            writer.write_table(pyarrow.table(columns, schema))


def _in_a_process(path: Path, folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "FINETUNE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.memory", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{path.name}: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def anonymous_bytes() -> int:
    """Return the memory that is this process's own: without the pages of mapped files, which the system can drop."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("this system does not say RssAnon")


def measure(path: Path) -> dict[str, Any]:
    """Read, tokenise, order and evaluate a file as a run does; return bytes held after each stage, and the highest.

    The model is a stub, so that what is measured is the data alone. All figures are above those of the warm libraries.
    """
    import numpy

    from finetune.data.arrow_files import table_of
    from finetune.data.encoding import encode_data
    from finetune.data.sources import load_data
    from finetune.data.spool import as_array
    from finetune.evaluation.predict import evaluate_split, task_context
    from finetune.evaluation.scores import score
    from finetune.recipe.schema import Recipe
    from finetune.tasks import all_tasks

    task = all_tasks()["text-classification"]
    tokenizer = word_tokenizer()

    def load(place: Path) -> Any:
        recipe = {"task": task.name, "model": {"name_or_path": "any"}, "dataset": {"path": str(place)}}
        return load_data(Recipe.model_validate(recipe), task)

    def context_of(data: Any) -> Any:
        return task_context(tokenizer, data.labels, "encoder-only", None, 64, {}, {})

    def encode(data: Any) -> Any:
        return encode_data(data.splits, task, context_of(data))

    def evaluate(data: Any, encoded: Any) -> Any:
        split = encoded.splits["validation"]
        lengths = as_array(table_of(split).column("length"), numpy.int32)
        predictor: Any = SimpleNamespace(
            task=task,
            context=context_of(data),
            batch_size=64,
            model=SimpleNamespace(eval=lambda: None),
            recorded=lambda places: _no_logits(lengths[places], split["labels"][places]),
        )
        evaluation = evaluate_split(predictor, split, data.splits["validation"])
        return evaluation, score(evaluation, task.metrics["single_label_classification"], 0.95)

    with tempfile.TemporaryDirectory() as folder:  # the libraries and their pools, warm
        data = load(generate(Path(folder), path.suffix[1:], 2_000))
        evaluate(data, encode(data))
    watch = Watch()
    data = watch("read", lambda: load(path))
    encoded = watch("tokenise", lambda: encode(data))
    watch("order", lambda: _one_epoch(encoded.splits["train"]))
    watch("evaluate", lambda: evaluate(data, encoded))
    return {"held_bytes": watch.held, "highest_bytes": watch.highest, "cpu_s": watch.cpu_s}


class Watch:
    """Looks at the memory of the process while stages run."""

    def __init__(self) -> None:
        self._start = anonymous_bytes()
        self.held: dict[str, int] = {}
        self.highest: dict[str, int] = {}
        self.cpu_s: dict[str, float] = {}

    def __call__(self, stage: str, work: Callable[[], Any]) -> Any:
        """Run one stage and note what it held at the end and at most."""
        seen, over, cpu = [anonymous_bytes()], threading.Event(), time.process_time()

        def look() -> None:
            while not over.wait(0.01):
                seen.append(anonymous_bytes())

        thread = threading.Thread(target=look)
        thread.start()
        try:
            result = work()
        finally:
            over.set()
            thread.join()
        seen.append(anonymous_bytes())
        self.held[stage], self.highest[stage] = seen[-1] - self._start, max(seen) - self._start
        self.cpu_s[stage] = round(time.process_time() - cpu, 2)
        return result


def _one_epoch(split: Any) -> Any:
    import numpy

    from finetune.data.arrow_files import table_of
    from finetune.data.batching import epoch_batches
    from finetune.data.spool import as_array

    batches = epoch_batches(as_array(table_of(split).column("length"), numpy.int32), 32, "group_by_length", 0, 0)
    tokens = split.select_columns(["input_ids", "attention_mask", "labels"])
    for place in range(0, len(batches), max(1, len(batches) // 500)):
        tokens[batches[place]]
    return batches


def _no_logits(lengths: Any, labels: Any) -> Any:
    import torch

    logits = torch.stack([torch.from_numpy(lengths % number).float() for number in (3, 5, 7, 2)], dim=1)
    return SimpleNamespace(logits=logits), {"labels": torch.tensor(labels)}


def word_tokenizer() -> Any:
    """Return a tokenizer of whole words, made on the spot."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: place for place, word in enumerate(["[PAD]", "[UNK]", *_WORDS])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")


def describe(result: Mapping[str, Any]) -> str:
    """Return the Markdown of a result: memory by format and size, and bytes a row from each size to the next."""
    header = [
        "rows",
        *(f"{stage}, MiB" for stage in _STAGES),
        "highest, MiB",
        "held, bytes a row",
        "highest, bytes a row",
    ]
    rows = []
    for form in dict.fromkeys(entry["format"] for entry in result["measured"]):
        entries = [entry for entry in result["measured"] if entry["format"] == form]
        growth = {now["rows"]: _growth(before, now) for before, now in pairwise(entries)}
        for entry in entries:
            held = [f"{entry['held_bytes'][stage] / _MIB:.0f}" for stage in _STAGES]
            highest = max(entry["highest_bytes"].values())
            each = [f"{value:.0f}" for value in growth.get(entry["rows"], ())] or ["", ""]
            rows.append([f"{form}, {entry['rows']:,}", *held, f"{highest / _MIB:.0f}", *each])
    where = f"{result['date']} · {result['machine']} · Python {result['versions']['python']}"
    return f"{where}\n\n{markdown_table(header, rows)}"


def _growth(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[float, float]:
    """Return by how many bytes a row two sizes differ, in what is held at most after a stage, and in the highest."""
    more = now["rows"] - before["rows"]
    return tuple(  # type: ignore[return-value]
        (max(now[key].values()) - max(before[key].values())) / more for key in ("held_bytes", "highest_bytes")
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure one file in this process.")
    parser.add_argument("path", type=Path)
    print(json.dumps(measure(parser.parse_args().path)))
