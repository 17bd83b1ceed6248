from dataclasses import replace

import datasets
import pytest

from finetune.data import encoding, token_cache
from finetune.data.encoding import encode_data as encode_splits
from finetune.errors import FinetuneError
from finetune.evaluation.predict import task_context
from finetune.tasks import LabelScheme


@pytest.fixture
def tokenizer(checkpoints):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(checkpoints("bert"))


@pytest.fixture
def splits():
    return {
        "train": split_of(["lovely day", "awful " * 30, "the meal seemed superb to everyone", "rotten"]),
        "validation": split_of(["a gloomy evening"]),
    }


@pytest.fixture
def written(monkeypatch):
    """The entries that were written to the cache since the test began, or cleared the list."""
    entries, write_entry = [], encoding.write_entry

    def write(folder, digest, batches):
        entries.append(digest)
        return write_entry(folder, digest, batches)

    monkeypatch.setattr(encoding, "write_entry", write)
    return entries


def split_of(texts, **columns):
    count = len(texts)
    columns = {"text": texts, **columns, "label": [i % 2 for i in range(count)], "row": list(range(5, 5 + count))}
    return datasets.Dataset.from_dict(columns)


def settings(**changes):
    default = {"truncation": True, "doc_stride": 128, "packing": False, "num_proc": None}
    return {**default, **changes}


def encode_data(splits, tokenizer, task, preprocessing, max_length, folder):
    labels = LabelScheme("single_label_classification", ("a", "b"))
    context = task_context(tokenizer, labels, "encoder-only", None, max_length, preprocessing, {})
    return encode_splits(splits, task, context, preprocessing["num_proc"], folder)


def test_encoding_matches_the_tokenizer(splits, tokenizer, task, tmp_path):
    encoded = encode_data(splits, tokenizer, task, settings(), 12, tmp_path)
    for name, split in splits.items():
        expected = tokenizer(list(split["text"]), truncation=True, max_length=12)
        for column, values in expected.items():
            assert encoded.splits[name][column][:] == values
        assert encoded.splits[name]["length"][:] == [len(ids) for ids in expected["input_ids"]]
        assert encoded.splits[name]["labels"][:] == split["label"][:]
        assert encoded.splits[name]["row"][:] == split["row"][:]
    assert set(encoded.splits["train"].column_names) == {*expected, "length", "labels", "row"}


def test_encoding_statistics_are_of_untruncated_train_rows(splits, tokenizer, task, tmp_path):
    lengths = sorted(len(ids) for ids in tokenizer(list(splits["train"]["text"]))["input_ids"])
    encoded = encode_data(splits, tokenizer, task, settings(), 12, tmp_path)
    assert encoded.length_max == lengths[-1] > 12
    assert encoded.length_p50 == lengths[2]
    assert encoded.length_p95 == lengths[-1]
    assert encoded.truncated_fraction == 0.25
    assert max(encoded.splits["train"]["length"]) == 12


def test_encoding_pairs_are_cut_as_the_tokenizer_cuts_them(tokenizer, task, tmp_path):
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    first, second = ["lovely " * 20, "awful"], ["rotten", "dismal " * 20]
    splits = {"train": split_of(first, text_pair=second)}
    encoded = encode_data(splits, tokenizer, task, settings(), 16, tmp_path)
    expected = tokenizer(first, second, truncation=True, max_length=16)
    assert encoded.splits["train"]["input_ids"][:] == expected["input_ids"]
    assert encoded.splits["train"]["token_type_ids"][:] == expected["token_type_ids"]


def test_encoding_second_call_is_read_from_the_cache(splits, tokenizer, task, tmp_path, written):
    first = encode_data(splits, tokenizer, task, settings(), 12, tmp_path)
    assert len(written) == 2
    again = encode_data(splits, tokenizer, replace(task, encode=None), settings(), 12, tmp_path)
    assert len(written) == 2
    assert again.splits["train"][:] == first.splits["train"][:]
    assert replace(again, splits={}) == replace(first, splits={})


def test_encoding_fresh_tokenizer_and_its_leftover_state_hit_the_cache(splits, checkpoints, task, tmp_path, written):
    from transformers import AutoTokenizer

    used = AutoTokenizer.from_pretrained(checkpoints("bert"))
    encode_data(splits, used, task, settings(), 12, tmp_path)
    used("some text", truncation=True, max_length=3, padding="max_length")
    fresh = AutoTokenizer.from_pretrained(checkpoints("bert"))
    written.clear()
    for tokenizer in (used, fresh):
        encode_data(splits, tokenizer, task, settings(), 12, tmp_path)
    assert not written


@pytest.mark.parametrize(
    "change", ["max_length", "doc_stride", "packing", "texts", "task", "tokenizer", "truncation side", "format"]
)
def test_encoding_anything_that_matters_misses_the_cache(
    change, splits, tokenizer, task, tmp_path, monkeypatch, written
):
    encode_data(splits, tokenizer, task, settings(), 64, tmp_path)
    written.clear()
    max_length, preprocessing = 64, settings()
    match change:
        case "max_length":
            max_length = 63
        case "doc_stride" | "packing":
            preprocessing = settings(**{change: 1})
        case "texts":
            splits = {**splits, "train": split_of(["a lovely day", "a bad one"])}
        case "task":
            task = replace(task, name="other")
        case "tokenizer":
            tokenizer.add_tokens(["gloomily"])
        case "truncation side":
            tokenizer.truncation_side = "left"
        case _:
            monkeypatch.setattr(encoding, "FORMAT_VERSION", 99)
    encode_data(splits, tokenizer, task, preprocessing, max_length, tmp_path)
    assert written


def test_encoding_labels_and_rows_are_not_cached(splits, tokenizer, task, tmp_path, written):
    encode_data(splits, tokenizer, task, settings(), 64, tmp_path)
    written.clear()
    train = splits["train"].remove_columns(["label", "row"])
    train = train.add_column("label", [1, 1, 0, 0]).add_column("row", [9, 8, 7, 6])
    again = encode_data({**splits, "train": train}, tokenizer, task, settings(), 64, tmp_path)
    assert not written
    assert again.splits["train"]["labels"][:] == [1, 1, 0, 0]
    assert again.splits["train"]["row"][:] == [9, 8, 7, 6]


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied"])
def test_encoding_damaged_entry_is_made_anew_and_said(damage, splits, tokenizer, task, tmp_path, written):
    first = encode_data(splits, tokenizer, task, settings(), 64, tmp_path)
    expected = first.splits["train"][:]
    for path in list((tmp_path / "tokens").iterdir()):
        content = bytearray(path.read_bytes())
        if damage == "flipped":
            content[len(content) // 2] ^= 1
        path.unlink()  # as a crash would leave it: another file under the name, not the one that is mapped
        path.write_bytes({"cut": content[:-40], "flipped": content, "emptied": b""}[damage])
    again = encode_data(splits, tokenizer, task, settings(), 64, tmp_path)
    assert len(written) == 4
    assert len(again.notes) == 2
    assert "damaged" in again.notes[0]
    assert again.splits["train"][:] == expected
    encode_data(splits, tokenizer, task, settings(), 64, tmp_path)
    assert len(written) == 4


def test_encoding_selection_of_rows_is_followed(splits, tokenizer, task, tmp_path):
    train = splits["train"].select([3, 0])
    encoded = encode_data({"train": train}, tokenizer, task, settings(), 64, tmp_path)
    assert encoded.splits["train"]["row"][:] == [8, 5]
    assert encoded.splits["train"]["input_ids"][:] == tokenizer(["rotten", "lovely day"])["input_ids"]


def test_encoding_without_truncation_refuses_long_rows(splits, tokenizer, task, tmp_path):
    with pytest.raises(FinetuneError, match=r"split train, row 6: 32 tokens, where 12 is the limit \(1 row too long"):
        encode_data(splits, tokenizer, task, settings(truncation=False), 12, tmp_path)


def test_encoding_without_limit_keeps_everything(splits, tokenizer, task, tmp_path):
    encoded = encode_data(splits, tokenizer, task, settings(), None, tmp_path)
    assert encoded.truncated_fraction == 0.0
    assert max(encoded.splits["train"]["length"]) == encoded.length_max == 32


def test_encoding_row_without_tokens_is_refused(tokenizer, task, tmp_path):
    def drop_all(rows, context):
        return {"input_ids": [[] for _ in rows["text"]]}

    with pytest.raises(FinetuneError, match="split train, row 5: the tokenizer makes no token"):
        encode_data({"train": split_of(["x"])}, tokenizer, replace(task, encode=drop_all), settings(), 12, tmp_path)


def test_encoding_in_several_processes_gives_the_same(tokenizer, task, tmp_path):
    splits = {"train": split_of([f"lovely day {i}" for i in range(1100)])}
    one = encode_data(splits, tokenizer, task, settings(), 64, tmp_path / "one")
    two = encode_data(splits, tokenizer, task, settings(num_proc=2), 64, tmp_path / "two")
    assert one.splits["train"][:] == two.splits["train"][:]


def test_encoding_folder_that_cannot_be_written(splits, tokenizer, task, tmp_path):
    (tmp_path / "tokens").write_text("a file in the way")
    with pytest.raises(FinetuneError, match="tokenised data cannot be written") as caught:
        encode_data(splits, tokenizer, task, settings(), 64, tmp_path)
    assert "FINETUNE_CACHE" in caught.value.hint


def test_encoding_failure_leaves_no_file_behind(tokenizer, task, tmp_path):
    def fail_late(rows, *rest):
        if rows["text"][0] != "text 0":
            raise RuntimeError("stopped")
        return task.encode(rows, *rest)

    splits = {"train": split_of([f"text {i}" for i in range(1500)])}
    with pytest.raises(RuntimeError, match="stopped"):
        encode_data(splits, tokenizer, replace(task, encode=fail_late), settings(), 64, tmp_path)
    assert list((tmp_path / "tokens").iterdir()) == []


def test_token_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("FINETUNE_CACHE", str(tmp_path / "own"))
    assert token_cache.cache_directory() == tmp_path / "own"
    monkeypatch.delenv("FINETUNE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert token_cache.cache_directory() == tmp_path / "xdg" / "finetune"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_cache.cache_directory() == tmp_path / ".cache" / "finetune"
