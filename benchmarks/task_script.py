"""Fine-tune for a task with transformers.Trainer, as a user would write it without finetune.

In the manner of transformers' own examples (run_ner, run_qa, run_swag, run_glue). It reads train, validation and test
.jsonl of a folder and writes its answer to each row of validation and test. It imports nothing of finetune.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, load_dataset
from transformers import (
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForMultipleChoice,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    set_seed,
)

SPLITS = ("train", "validation", "test")
_BEST_OF_EACH_SIDE = 20


@dataclass(frozen=True)
class Way:
    """How a task is done: the model's class, its labels, rows → features, the collator, logits → answers of a split."""

    auto_class: Any
    names: Callable[[Dataset], list[str]]
    encode: Callable[[Dataset, list[str], Any, argparse.Namespace], Dataset]
    collator: Any
    answers: Callable[[Any, Dataset, Dataset, list[str], argparse.Namespace], list[Any]]


def label_names(rows: Dataset) -> list[str]:
    return sorted(set(rows["label"]))


def encode_texts(rows: Dataset, names: list[str], tokenizer: Any, options: argparse.Namespace) -> Dataset:
    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(batch["text"], truncation=True, max_length=options.max_length)
        labels = [names.index(label) for label in batch["label"]]
        return {**encoded, "labels": labels, "length": [len(ids) for ids in encoded["input_ids"]]}

    return rows.map(encode, batched=True, remove_columns=rows.column_names)


def label_answers(logits: Any, _: Dataset, __: Dataset, names: list[str], ___: argparse.Namespace) -> list[Any]:
    return [names[place] for place in logits.argmax(-1)]


def tag_names(rows: Dataset) -> list[str]:
    return sorted({tag for tags in rows["tags"] for tag in tags})


def encode_tokens(rows: Dataset, names: list[str], tokenizer: Any, options: argparse.Namespace) -> Dataset:
    """Give the first sub-word of each token its tag; the others are not trained on."""
    ids = {name: place for place, name in enumerate(names)}

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True, max_length=options.max_length)
        labels, words = [], []
        for place, tags in enumerate(batch["tags"]):
            of_token = encoded.word_ids(place)
            first = [word is not None and word != of_token[at - 1] for at, word in enumerate(of_token)]
            words.append([word if new else -1 for word, new in zip(of_token, first, strict=True)])
            labels.append([-100 if word < 0 else ids.get(tags[word], -100) for word in words[-1]])
        return {**encoded, "labels": labels, "words": words, "length": [len(ids) for ids in encoded["input_ids"]]}

    return rows.map(encode, batched=True, remove_columns=rows.column_names)


def tag_answers(logits: Any, rows: Dataset, features: Dataset, names: list[str], _: argparse.Namespace) -> list[Any]:
    """Return a tag for each token; None where it lies beyond max_length."""
    found = []
    for tokens, words, scores in zip(rows["tokens"], features["words"], logits, strict=True):
        tags: list[str | None] = [None] * len(tokens)
        for at, word in enumerate(words):
            if word >= 0:
                tags[word] = names[scores[at].argmax()]
        found.append(tags)
    return found


def encode_questions(rows: Dataset, _: list[str], tokenizer: Any, options: argparse.Namespace) -> Dataset:
    """Cut contexts into windows; where a window lacks the answer, its first token is the answer."""

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        encoded = tokenizer(
            batch["question"],
            batch["context"],
            truncation="only_second",
            max_length=options.max_length,
            stride=options.doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        columns = dict(encoded)
        columns["row"] = [batch["row"][place] for place in columns.pop("overflow_to_sample_mapping")]
        first = batch["row"][0]
        columns["start_positions"], columns["end_positions"], columns["offset_mapping"] = [], [], []
        for window, offsets in enumerate(encoded["offset_mapping"]):
            inside = [place for place, part in enumerate(encoded.sequence_ids(window)) if part == 1]
            answers = batch["answers"][columns["row"][window] - first]
            begin = answers["answer_start"][0]
            end = begin + len(answers["text"][0])
            start_token = end_token = 0
            if offsets[inside[0]][0] <= begin and offsets[inside[-1]][1] >= end:
                start_token = max(place for place in inside if offsets[place][0] <= begin)
                end_token = min(place for place in inside if offsets[place][1] >= end)
            columns["start_positions"].append(start_token)
            columns["end_positions"].append(end_token)
            of_context = set(inside)
            columns["offset_mapping"].append(
                [list(spot) if place in of_context else None for place, spot in enumerate(offsets)]
            )
        return {**columns, "length": [len(ids) for ids in encoded["input_ids"]]}

    return rows.map(encode, batched=True, remove_columns=rows.column_names)


def span_answers(logits: Any, rows: Dataset, features: Dataset, _: list[str], options: argparse.Namespace) -> list[Any]:
    """Return the text of the span with the highest sum of logits over all windows of a question."""
    best = dict.fromkeys(rows["row"], (-np.inf, ""))
    contexts = dict(zip(rows["row"], rows["context"], strict=True))
    for row, offsets, start_logits, end_logits in zip(
        features["row"], features["offset_mapping"], *logits[:2], strict=True
    ):
        for start in np.argsort(start_logits[: len(offsets)])[: -_BEST_OF_EACH_SIDE - 1 : -1]:
            for end in np.argsort(end_logits[: len(offsets)])[: -_BEST_OF_EACH_SIDE - 1 : -1]:
                if offsets[start] is None or offsets[end] is None:
                    continue
                if not 0 <= end - start < options.max_answer_length:
                    continue
                score = start_logits[start] + end_logits[end]
                if score > best[row][0]:
                    best[row] = (score, contexts[row][offsets[start][0] : offsets[end][1]])
    return [best[row][1] for row in rows["row"]]


def encode_choices(rows: Dataset, _: list[str], tokenizer: Any, options: argparse.Namespace) -> Dataset:
    def encode(row: dict[str, Any]) -> dict[str, Any]:
        questions = [row["question"]] * len(row["choices"])
        encoded = tokenizer(questions, row["choices"], truncation=True, max_length=options.max_length)
        return {**encoded, "labels": row["label"], "length": max(map(len, encoded["input_ids"]))}

    return rows.map(encode, remove_columns=rows.column_names)


def choice_answers(logits: Any, _: Dataset, __: Dataset, ___: list[str], ____: argparse.Namespace) -> list[Any]:
    return [int(place) for place in logits.argmax(-1)]


def no_names(_: Dataset) -> list[str]:
    return []


WAYS = {
    "text-classification": Way(
        AutoModelForSequenceClassification, label_names, encode_texts, DataCollatorWithPadding, label_answers
    ),
    "token-classification": Way(
        AutoModelForTokenClassification, tag_names, encode_tokens, DataCollatorForTokenClassification, tag_answers
    ),
    "question-answering": Way(
        AutoModelForQuestionAnswering, no_names, encode_questions, DataCollatorWithPadding, span_answers
    ),
    "multiple-choice": Way(
        AutoModelForMultipleChoice, no_names, encode_choices, DataCollatorForMultipleChoice, choice_answers
    ),
}


def training_arguments(options: argparse.Namespace, directory: str) -> TrainingArguments:
    precision = {name: options.mixed_precision == name for name in ("bf16", "fp16")}
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
        train_sampling_strategy="group_by_length",
        save_strategy="no",
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        seed=options.seed,
        use_cpu=not torch.accelerator.is_available(),  # without it Trainer refuses bf16 on a CPU
        **precision,
    )


def train(options: argparse.Namespace, directory: str) -> dict[str, Any]:
    """Return the answers to validation and test, and the number of steps."""
    set_seed(options.seed)  # decides the new head's weights
    way = WAYS[options.task]
    files = {name: str(options.data / f"{name}.jsonl") for name in SPLITS}
    splits = {name: load_dataset("json", data_files={name: file}, split=name) for name, file in files.items()}
    splits = {name: rows.add_column("row", list(range(len(rows)))) for name, rows in splits.items()}
    if options.train_rows:
        numbers = json.loads(options.train_rows.read_text(encoding="utf-8"))
        splits["train"] = splits["train"].select([number - 1 for number in numbers])
        splits["train"] = splits["train"].remove_columns("row").add_column("row", list(range(len(numbers))))
    names = way.names(splits["train"])
    labels = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}} if names else {}
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    features = {name: way.encode(rows, names, tokenizer, options) for name, rows in splits.items()}
    trainer = Trainer(
        model=way.auto_class.from_pretrained(options.model, **labels),
        args=training_arguments(options, directory),
        train_dataset=features["train"],
        data_collator=way.collator(tokenizer),
        processing_class=tokenizer,
    )
    trainer.train()
    trainer.args.train_sampling_strategy = "sequential"  # grouped by length, predict() returns rows in another order
    found = {}
    for name in SPLITS[1:]:
        logits = trainer.predict(features[name]).predictions
        found[name] = way.answers(logits, splits[name], features[name], names, options)
    return {**found, "steps": trainer.state.global_step}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="task_script", description="Fine-tune for a task with transformers.Trainer.")
    parser.add_argument("--task", choices=list(WAYS), required=True)
    parser.add_argument("--model", required=True, help="folder of the checkpoint")
    parser.add_argument("--data", type=Path, required=True, help="folder with train, validation and test .jsonl")
    parser.add_argument("--train-rows", type=Path, help="JSON list of the training rows to take, from 1; default: all")
    parser.add_argument("--result", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, required=True)
    parser.add_argument("--epochs", type=float, required=True)
    parser.add_argument("--batch-size", type=int, required=True)
    parser.add_argument("--eval-batch-size", type=int, default=64)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--warmup-steps", type=float, default=0.06, help="below 1: share of all steps")
    parser.add_argument("--max-length", type=int, required=True, help="tokens")
    parser.add_argument("--doc-stride", type=int, default=128, help="tokens that windows share (question answering)")
    parser.add_argument("--max-answer-length", type=int, default=30, help="tokens (question answering)")
    parser.add_argument("--mixed-precision", choices=["no", "bf16", "fp16"], default="no")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    with tempfile.TemporaryDirectory() as directory:
        result = train(options, directory)
    options.result.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    main()
