"""Real data sets, where they lie beside the checkout."""

from pathlib import Path

import pytest

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def needs(name):
    return pytest.mark.skipif(not (DATA / name).is_dir(), reason=f"{name} is not beside the checkout")


@needs("banking77")
def test_shared_data_banking77(load):
    loaded = load(path=DATA / "banking77")
    assert {name: len(split) for name, split in loaded.splits.items()} == {
        "train": 9003,
        "validation": 1000,
        "test": 3080,
    }
    assert loaded.labels.num_labels == 77
    assert any("7 rows of test also stand in train" in note for note in loaded.notes)


@needs("told_br")
def test_shared_data_told_br_as_classes_and_as_sets(load):
    assert load(path=DATA / "told_br").labels.names == ("not_toxic", "toxic")
    loaded = load(path=DATA / "told_br", columns={"label": "categories"}, max_train_samples=500)
    assert loaded.labels.names == ("homophobia", "insult", "misogyny", "obscene", "racism", "xenophobia")
    assert len(loaded.splits["train"]) == 500


@needs("messy")
def test_shared_data_messy_newlines_and_float_votes(load):
    loaded = load(path=DATA / "messy" / "newlines_in_quotes_float_labels.csv", columns={"label": "insult"})
    assert loaded.labels.names == ("0", "1", "2", "3")
    assert sum(len(split) for split in loaded.splits.values()) == 2060


@needs("messy")
def test_shared_data_messy_long_document_is_one_row(load, task):
    from finetune.data.rows import open_rows, read_rows

    (batch,) = read_rows(open_rows(DATA / "messy" / "one_very_long_document.jsonl"), task)
    assert len(batch.rows["text"][0]) == 300_000
