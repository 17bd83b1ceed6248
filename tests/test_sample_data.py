"""The shipped dataset: balanced, real sentences, nothing of the test split in train."""

import itertools
import json
import re
from collections import Counter
from pathlib import Path

import pytest

import finetune

FOLDER = Path(finetune.__file__).parent / "sample_data" / "shop_messages"
SIZES = {"train": 640, "validation": 160, "test": 240}


def rows_of(split):
    return [json.loads(line) for line in (FOLDER / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()]


def words_of(text):
    return frozenset(re.findall(r"[a-z0-9']+", text.lower()))


@pytest.mark.parametrize("split", SIZES)
def test_shop_messages_are_balanced(split):
    rows = rows_of(split)
    assert len(rows) == SIZES[split]
    counts = Counter(row["label"] for row in rows)
    assert len(counts) == 8
    assert set(counts.values()) == {SIZES[split] // 8}


def test_shop_messages_have_no_near_duplicates():
    texts = [words_of(row["text"]) for split in SIZES for row in rows_of(split)]
    worst = max(len(one & other) / len(one | other) for one, other in itertools.combinations(texts, 2))
    assert worst < 0.5


def test_shop_messages_are_sentences_of_many_words_and_beginnings():
    texts = [row["text"] for split in SIZES for row in rows_of(split)]
    assert all(3 < len(text.split()) <= 45 and text == text.strip() for text in texts)
    beginnings = Counter(" ".join(text.lower().split()[:3]) for text in texts)
    assert beginnings.most_common(1)[0][1] <= 15  # templates would repeat their first words
    assert len({word for text in texts for word in words_of(text)}) > 2500
