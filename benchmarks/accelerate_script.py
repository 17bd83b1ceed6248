"""Fine-tune a text classifier with a plain loop over Accelerate, in the manner of its documentation.

prepare() for model, optimizer, batches and schedule; AdamW, linear decay, batches in random order padded to their
longest row; full precision unless --mixed-precision says otherwise. Nothing of finetune is imported. Result: one JSON
file.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_linear_schedule_with_warmup,
)

from benchmarks.script_parts import StepClock, argument_parser, finish_gpu_work, label_names, read_splits


def encoded(rows: list[dict[str, str]], names: list[str], tokenizer: Any, max_length: int) -> list[dict[str, Any]]:
    """Return one dictionary a row: the tokenizer's lists and the label's id."""
    ids = {name: index for index, name in enumerate(names)}
    tokens = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)
    return [
        {**{name: tokens[name][place] for name in tokenizer.model_input_names}, "labels": ids[row["label"]]}
        for place, row in enumerate(rows)
    ]


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Return scores, times and the test rows (1-based) that are wrong."""
    set_seed(options.seed)
    accelerator = Accelerator(mixed_precision=options.mixed_precision)
    splits = read_splits(options.data)
    names = label_names(splits)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    rows: dict[str, Any] = {name: encoded(part, names, tokenizer, options.max_length) for name, part in splits.items()}
    collate = DataCollatorWithPadding(tokenizer)
    batches: Any = DataLoader(rows["train"], shuffle=True, collate_fn=collate, batch_size=options.batch_size)
    tests: Any = DataLoader(rows["test"], collate_fn=collate, batch_size=options.eval_batch_size)

    model = AutoModelForSequenceClassification.from_pretrained(options.model, num_labels=len(names))
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate)
    schedule = get_linear_schedule_with_warmup(
        optimizer, num_warmup_steps=0, num_training_steps=options.epochs * len(batches)
    )
    model, optimizer, batches, tests, schedule = accelerator.prepare(model, optimizer, batches, tests, schedule)

    clock, steps = StepClock(), 0
    for _ in range(options.epochs):
        model.train()
        clock.mark()
        for batch in batches:
            outputs = model(**batch)
            accelerator.backward(outputs.loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            steps += 1
        finish_gpu_work()
        clock.lap()
    measured = clock.result()

    model.eval()
    answers: list[int] = []
    for batch in tests:
        with torch.no_grad():
            answers += accelerator.gather_for_metrics(model(**batch).logits.argmax(dim=-1)).tolist()
    wrong = [place + 1 for place, row in enumerate(rows["test"]) if answers[place] != row["labels"]]
    return {
        **measured,
        "steps": steps,
        "rows": options.epochs * len(rows["train"]),
        "test_rows": len(rows["test"]),
        "test_accuracy": 1 - len(wrong) / len(rows["test"]),
        "wrong_rows": wrong,
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    return argument_parser("accelerate_script", "Fine-tune with a plain Accelerate loop.").parse_args(arguments)


def main() -> None:
    options = parse()
    options.result.write_text(json.dumps(train(options)), encoding="utf-8")


if __name__ == "__main__":
    main()
