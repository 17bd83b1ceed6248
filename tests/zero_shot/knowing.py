"""Tiny language models that were taught, or not, which word ends a sentence of the toy task."""

import random
from pathlib import Path

import torch
import transformers

from finetune.models.architecture import transformer_kind
from finetune.models.language import LANGUAGE_HEADS
from finetune.zero_shot.wording import BETWEEN
from tests import tiny

TEMPLATE = "{text} is {label}"
WORDS = {"good": "lovely", "bad": "awful"}
POSITIONS = 256
_POSITIONS = ("n_positions", "max_position_embeddings")


def language_model(base: Path, folder: Path) -> Path:
    """Save a random language model with its head, of the family and with the tokenizer of a tiny checkpoint."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    tokenizer.model_max_length = POSITIONS
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token or tokenizer.unk_token
    config = transformers.AutoConfig.from_pretrained(base)
    if config.model_type == "t5":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_id_0>", "<extra_id_1>"]})
    if config.model_type == "bert":
        config.initializer_range = 0.2  # with less, so small a model does not find out where to look
    config.vocab_size = len(tokenizer)
    for name in _POSITIONS:
        if getattr(config, name, None):
            setattr(config, name, POSITIONS)
    kind = transformer_kind(config.to_dict())
    torch.manual_seed(3)
    model = getattr(transformers, LANGUAGE_HEADS[kind][0]).from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def teach(folder: Path, into: Path, steps: int, rate: float = 5e-3, shown: int = 0) -> Path:
    """Train a language model to end the toy sentences with the word of their label, and save it.

    With `shown` every other step is of sentences after so many solved ones.
    """
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    kind = transformer_kind(transformers.AutoConfig.from_pretrained(folder).to_dict())
    model = getattr(transformers, LANGUAGE_HEADS[kind][0]).from_pretrained(folder)
    rows, draw = tiny.toy_rows()[:56], random.Random(5)
    alone = _BATCHES[kind]([([], row) for row in rows], tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
    model.train()
    for step in range(steps):
        after_others = [(draw.sample(rows, shown), row) for row in draw.sample(rows, 24)] if shown and step % 2 else []
        model(**(_BATCHES[kind](after_others, tokenizer) if after_others else alone)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    model.save_pretrained(into)
    tokenizer.save_pretrained(into)
    return into


def prompt(shown, row, gap=""):
    return BETWEEN.join([*(sentence(one, WORDS[one["label"]]) for one in shown), sentence(row, gap)])


def sentence(row, word):
    return TEMPLATE.format(text=row["text"], label=word)


def _next_words(prompts, tokenizer):
    before = [tokenizer(prompt(*one).rstrip())["input_ids"] for one in prompts]
    whole = [tokenizer(prompt(*one, WORDS[one[1]["label"]]))["input_ids"] for one in prompts]
    width = max(map(len, whole))
    padded = [ids + [tokenizer.pad_token_id] * (width - len(ids)) for ids in whole]
    answers = [[-100] * len(first) + ids[len(first) :] for first, ids in zip(before, whole, strict=True)]
    labels = [ids + [-100] * (width - len(ids)) for ids in answers]
    mask = [[1] * len(ids) + [0] * (width - len(ids)) for ids in whole]
    return {"input_ids": torch.tensor(padded), "attention_mask": torch.tensor(mask), "labels": torch.tensor(labels)}


def _hidden_word(prompts, tokenizer):
    hidden = tokenizer([prompt(*one, tokenizer.mask_token) for one in prompts], return_tensors="pt", padding=True)
    words = [tokenizer.convert_tokens_to_ids(WORDS[one[1]["label"]]) for one in prompts]
    labels = torch.tensor(words)[:, None].expand_as(hidden["input_ids"])
    return {**hidden, "labels": labels.masked_fill(hidden["input_ids"] != tokenizer.mask_token_id, -100)}


def _after_the_sentinel(prompts, tokenizer):
    source = tokenizer([prompt(*one, "<extra_id_0>") for one in prompts], return_tensors="pt", padding=True)
    words = [f"<extra_id_0> {WORDS[one[1]['label']]}" for one in prompts]
    labels = tokenizer(words, return_tensors="pt", padding=True)["input_ids"]
    inputs = {name: source[name] for name in ("input_ids", "attention_mask")}
    return {**inputs, "labels": labels.masked_fill(labels == tokenizer.pad_token_id, -100)}


_BATCHES = {
    "decoder-only": _next_words,
    "encoder-only": _hidden_word,
    "encoder-decoder": _after_the_sentinel,
}
