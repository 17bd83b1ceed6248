"""Fine-tune a text classifier with transformers.Trainer, as a user would write it without finetune.

--flags says how much the user sets: `defaults` batch size, epochs, learning rate and seed alone; `tuned` also batches
of similar length and the given precision; `pad128` the defaults with every text padded to --max-length, as the examples
do; `equal` whatever finetune sets too (README.md). It imports nothing of finetune. Result: one JSON file.
"""

from __future__ import annotations

import argparse
import json
import tempfile
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
    default_data_collator,
    set_seed,
)

from benchmarks.script_parts import StepClock, argument_parser, finish_gpu_work, label_names, read_splits


class Clocked(TrainerCallback):  # type: ignore[misc]
    """Run the clock during the optimizer steps, reading their batches included, evaluating and saving excluded."""

    def __init__(self, clock: StepClock) -> None:
        self.clock = clock

    def on_epoch_begin(self, *_: Any, **__: Any) -> None:
        """Start the clock."""
        self.clock.mark()

    def on_step_end(self, arguments: Any, state: Any, *_: Any, **__: Any) -> None:
        """Count what has passed since the last step or pause."""
        if state.global_step >= state.max_steps:
            finish_gpu_work()
        self.clock.lap()

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """Leave out the pause that ends here."""
        self.clock.mark()

    on_log = on_save = on_evaluate


def tokenized(rows: list[dict[str, str]], names: list[str], tokenizer: Any, options: argparse.Namespace) -> Dataset:
    label_ids = {name: index for index, name in enumerate(names)}
    padding = "max_length" if options.flags == "pad128" else False
    encoded = tokenizer([row["text"] for row in rows], truncation=True, max_length=options.max_length, padding=padding)
    columns = {name: encoded[name] for name in tokenizer.model_input_names}
    lengths = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict({**columns, "length": lengths, "label": [label_ids[row["label"]] for row in rows]})


def training_arguments(options: argparse.Namespace, directory: str) -> TrainingArguments:
    stated = {
        "output_dir": directory,
        "num_train_epochs": options.epochs,
        "per_device_train_batch_size": options.batch_size,
        "per_device_eval_batch_size": options.eval_batch_size,  # of the scores at the end, which are not timed
        "learning_rate": options.learning_rate,
        "seed": options.seed,
    }
    precision = {name: options.mixed_precision == name for name in ("bf16", "fp16")}
    precision["use_cpu"] = not torch.accelerator.is_available()  # without it Trainer refuses bf16 on a CPU
    if options.flags in ("defaults", "pad128"):
        return TrainingArguments(**stated)
    if options.flags == "tuned":
        return TrainingArguments(**stated, **precision, train_sampling_strategy="group_by_length")
    return TrainingArguments(
        **stated,
        **precision,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup_steps,
        lr_scheduler_type="linear",
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="accuracy",
        greater_is_better=True,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
    )


def accuracy(prediction: Any) -> dict[str, float]:
    return {"accuracy": float((np.argmax(prediction.predictions, axis=-1) == prediction.label_ids).mean())}


def train(options: argparse.Namespace, directory: str) -> dict[str, Any]:
    """Return scores, times and the test rows (1-based) that are wrong."""
    set_seed(options.seed)  # decides the new head's weights
    rows = read_splits(options.data)
    names = label_names(rows)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    splits = {name: tokenized(part, names, tokenizer, options) for name, part in rows.items()}
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={n: i for i, n in enumerate(names)},
    )
    clock = StepClock()
    trainer = Trainer(
        model=model,
        args=training_arguments(options, directory),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"],
        data_collator=default_data_collator if options.flags == "pad128" else DataCollatorWithPadding(tokenizer),
        compute_metrics=accuracy,
        processing_class=tokenizer,
        callbacks=[Clocked(clock)],
    )
    trainer.train()
    measured = clock.result()
    trainer.args.train_sampling_strategy = "sequential"  # grouped by length, predict() returns rows in another order
    predicted = {name: trainer.predict(splits[name]) for name in ("validation", "test")}
    trainer.save_model(f"{directory}/model")
    test = predicted["test"]
    wrong = np.flatnonzero(np.argmax(test.predictions, axis=-1) != test.label_ids) + 1
    return {
        **measured,
        "steps": trainer.state.global_step,
        "rows": options.epochs * len(splits["train"]),
        "validation_accuracy": predicted["validation"].metrics["test_accuracy"],
        "test_accuracy": test.metrics["test_accuracy"],
        "test_rows": len(splits["test"]),
        "wrong_rows": wrong.tolist(),
    }


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argument_parser("trainer_script", "Fine-tune with transformers.Trainer.")
    parser.add_argument("--flags", choices=["equal", "defaults", "tuned", "pad128"], default="equal")
    parser.add_argument("--weight-decay", type=float, default=0.01, help="with --flags equal")
    parser.add_argument(
        "--warmup-steps", type=float, default=0.06, help="with --flags equal; below 1: share of all steps"
    )
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as directory:
        result = train(options, directory)
    options.result.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
