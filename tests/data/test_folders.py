import pytest

from finetune.data.folders import find_splits, read_folder
from finetune.errors import FinetuneError


def make(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"text": "x", "label": "a"}\n')
    return folder


def found_in(folder):
    return {split: [str(path.relative_to(folder)) for path in paths] for split, paths in find_splits(folder)[0].items()}


CASES = {
    ("train.jsonl", "valid.jsonl", "test.jsonl"): {
        "train": ["train.jsonl"],
        "validation": ["valid.jsonl"],
        "test": ["test.jsonl"],
    },
    ("data/train-00000-of-00002-ab1.parquet", "data/train-00001-of-00002-cd2.parquet"): {
        "train": ["data/train-00000-of-00002-ab1.parquet", "data/train-00001-of-00002-cd2.parquet"]
    },
    ("train_1.jsonl", "train_2.jsonl", "dev.jsonl.gz"): {
        "train": ["train_1.jsonl", "train_2.jsonl"],
        "validation": ["dev.jsonl.gz"],
    },
    ("train/a.jsonl", "train/b.jsonl", "val/a.jsonl"): {
        "train": ["train/a.jsonl", "train/b.jsonl"],
        "validation": ["val/a.jsonl"],
    },
    ("reviews_train.jsonl", "reviews.test.jsonl"): {
        "train": ["reviews_train.jsonl"],
        "test": ["reviews.test.jsonl"],
    },
    ("only.csv", "README.md", "dataset_infos.json", ".hidden.csv"): {"train": ["only.csv"]},
}


@pytest.mark.parametrize("names", CASES, ids=lambda names: names[0])
def test_folders_splits_by_name(names, tmp_path):
    assert found_in(make(tmp_path, *names)) == CASES[names]


def test_folders_files_of_no_split_are_said(tmp_path):
    _, notes = read_folder(make(tmp_path, "train.jsonl", "extra.jsonl"), None)
    assert notes == (f"Files of {tmp_path} that belong to no split were left out: extra.jsonl.",)


BAD = {
    ("a.csv", "b.csv"): "none is named after a split",
    ("train.csv", "train.jsonl"): "several files could be the split train: train.csv and train.jsonl",
    ("train.csv", "train_clean.csv"): "several files could be the split train",
    ("test_train.csv",): "speaks of test and train",
    ("sst2/train.csv", "mrpc/train.csv"): "several datasets with a split train: mrpc and sst2",
    ("loader.py", "README.md"): "holds a dataset script .loader.py.",
    ("notes.md",): "holds no data file",
}


@pytest.mark.parametrize("names", BAD, ids=lambda names: names[0])
def test_folders_that_cannot_be_told_apart(names, tmp_path):
    with pytest.raises(FinetuneError, match=BAD[names]) as caught:
        find_splits(make(tmp_path, *names))
    assert caught.value.hint


def test_folders_subset_by_name(tmp_path):
    make(tmp_path, "sst2/train.jsonl", "mrpc/train.jsonl", "mrpc/dev.jsonl")
    splits, _ = read_folder(tmp_path, "mrpc")
    assert list(splits) == ["train", "validation"]
    with pytest.raises(FinetuneError, match="no folder mrcp; there are mrpc and sst2") as caught:
        read_folder(tmp_path, "mrcp")
    assert caught.value.hint == "Did you mean mrpc?"


README = """---
configs:
- config_name: first
  data_files:
  - split: train
    path: "one/*.jsonl"
  - split: dev
    path: two.jsonl
- config_name: second
  data_files: two.jsonl
---
# a dataset
"""


def test_folders_readme_of_a_hub_repository_is_followed(tmp_path):
    make(tmp_path, "one/x.jsonl", "one/y.jsonl", "two.jsonl")
    (tmp_path / "README.md").write_text(README)
    splits, _ = read_folder(tmp_path, "first")
    assert {name: len(split.parts) for name, split in splits.items()} == {"train": 2, "dev": 1}
    assert list(read_folder(tmp_path, "second")[0]) == ["train"]
    with pytest.raises(FinetuneError, match="several configurations; its README lists first and second"):
        read_folder(tmp_path, None)
    with pytest.raises(FinetuneError, match="no configuration frist") as caught:
        read_folder(tmp_path, "frist")
    assert caught.value.hint == "Did you mean first?"


@pytest.mark.parametrize("path", ["../secret.jsonl", "/etc/passwd"])
def test_folders_readme_may_not_lead_out(path, tmp_path):
    make(tmp_path, "a.jsonl")
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files: {path}\n---\n")
    with pytest.raises(FinetuneError, match="leads out of the folder"):
        read_folder(tmp_path, None)


def test_folders_readme_that_is_no_yaml(tmp_path):
    make(tmp_path, "a.jsonl")
    (tmp_path / "README.md").write_text("---\na: [\n---\n")
    with pytest.raises(FinetuneError, match="YAML header cannot be read"):
        read_folder(tmp_path, None)
