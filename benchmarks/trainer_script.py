"""Fine-tune a text classifier with transformers.Trainer, as a user would write it without finetune.

It imports nothing of finetune. Settings that Trainer and finetune both have are arguments or equal by default;
what differs is said in README.md. Result: one JSON file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)


class StepClock(TrainerCallback):  # type: ignore[misc]
    """Add up the time of the optimizer steps, reading their batches included, evaluating and saving excluded."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._since = 0.0

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Count what has passed since the last step or pause."""
        now = time.perf_counter()
        self.seconds += now - self._since
        self._since = now

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Leave out the pause that ends here."""
        self._since = time.perf_counter()

    on_log = on_save = on_evaluate


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def tokenized(rows: list[dict[str, str]], label_ids: dict[str, int], tokenizer: Any, max_length: int) -> Dataset:
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=max_length)
    columns = {name: encoded[name] for name in tokenizer.model_input_names}
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**columns, "length": lengths, "label": [label_ids[row["label"]] for row in rows]})


def training_arguments(options: argparse.Namespace, directory: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=directory,
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size,
        per_device_eval_batch_size=options.eval_batch_size,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        use_cpu=not torch.accelerator.is_available(),
        bf16=options.mixed_precision == "bf16",
        fp16=options.mixed_precision == "fp16",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        logging_steps=10,
        seed=options.seed,
        report_to="none",
        disable_tqdm=True,
    )


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


def train(options: argparse.Namespace, directory: str) -> dict[str, Any]:
    """Return scores, times and the test rows (1-based) that are wrong."""
    set_seed(options.seed)  # decides the new head's weights
    rows = {name: read_rows(options.data / f"{name}.jsonl") for name in ("train", "validation", "test")}
    label_names = sorted({row["label"] for row in rows["train"]})
    label_ids = {name: index for index, name in enumerate(label_names)}
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    splits = {name: tokenized(part, label_ids, tokenizer, options.max_length) for name, part in rows.items()}
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, num_labels=len(label_names), id2label=dict(enumerate(label_names)), label2id=label_ids
    )
    clock = StepClock()
    trainer = Trainer(
        model=model,
        args=training_arguments(options, directory),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        processing_class=tokenizer,
        callbacks=[clock],
    )
    trainer.train()
    predicted = {name: trainer.predict(splits[name]) for name in ("validation", "test")}
    trainer.save_model(f"{directory}/model")
    test = predicted["test"]
    wrong = np.flatnonzero(np.argmax(test.predictions, axis=-1) != test.label_ids) + 1
    return {
        "steps": trainer.state.global_step,
        "rows": options.epochs * len(splits["train"]),
        "training_s": clock.seconds,
        "validation_accuracy": predicted["validation"].metrics["test_accuracy"],
        "test_accuracy": test.metrics["test_accuracy"],
        "test_rows": len(splits["test"]),
        "wrong_rows": wrong.tolist(),
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="trainer_script", description="Fine-tune with transformers.Trainer.")
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    parser.add_argument("--result", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--eval-batch-size", type=int, default=64)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--warmup-steps", type=float, default=0.06, help="below 1: share of all steps")
    parser.add_argument("--max-length", type=int, default=64, help="tokens")
    parser.add_argument("--mixed-precision", choices=["no", "bf16", "fp16"], default="no")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as directory:
        result = train(options, directory)
    options.result.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
