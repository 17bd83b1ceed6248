"""finetune.data.stream: the rows of a stream are those of the loaded data, from any place on."""

import json

import pyarrow
import pytest
from pyarrow import parquet

from finetune.data import stream as stream_module
from finetune.data.stream import window_rows
from finetune.errors import FinetuneError

LABELS = ["bad", "good", "unclear"]


def rows(count):
    found = [{"text": f"text number {i}", "label": LABELS[i * i % 3 - 1]} for i in range(count)]
    found[3]["text"] = "  "
    found[7]["label"] = None if count > 40 else found[7]["label"]
    return found


def write_split(path, found):
    if path.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(found), path, row_group_size=7)
    elif path.suffix == ".arrow":
        table = pyarrow.Table.from_pylist(found)
        with pyarrow.ipc.new_file(str(path), table.schema) as file:
            file.write_table(table, max_chunksize=9)
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in found))
    else:
        mark = "," if path.suffix == ".csv" else "\t"
        lines = [mark.join([row["text"], row["label"] or ""]) for row in found]
        path.write_text("\n".join([mark.join(["text", "label"]), *lines]))


@pytest.fixture
def both(load, tmp_path):
    """Return a function that writes a dataset and loads it: (loaded, streamed)."""

    def of(ending, count=60, **section):
        for split, part in {"train": rows(count), "validation": rows(12)}.items():
            write_split(tmp_path / f"{split}.{ending}", part)
        return load(path=tmp_path, **section), load(path=tmp_path, streaming=True, **section)

    return of


def pairs(table):
    columns = table.to_pydict()
    return list(zip(columns["text"], columns["label"], columns["row"], strict=True))


def all_rows(windows):
    return [row for window in windows for row in pairs(window)]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "tsv", "parquet", "arrow"])
def test_stream_gives_the_rows_of_the_loaded_data(ending, both, monkeypatch):
    monkeypatch.setattr("finetune.data.raw.CHUNK_ROWS", 8)
    loaded, streamed = both(ending)
    expected = pairs(loaded.splits["train"].data.table)
    assert len(expected) == 58
    windows = list(streamed.stream.windows(16))
    assert [window.num_rows for window in windows] == [16, 16, 16, 10]
    assert all_rows(windows) == expected
    assert all_rows(streamed.stream.windows(16, first=2)) == expected[32:]
    assert all_rows(streamed.stream.windows(7, first=8)) == expected[56:]


def test_stream_has_fingerprint_labels_and_counts_of_the_loaded_data(both):
    loaded, streamed = both("jsonl")
    assert streamed.fingerprint == loaded.fingerprint
    assert streamed.labels == loaded.labels
    assert streamed.dropped == loaded.dropped == {"train": 2, "validation": 1}
    assert streamed.splits["train"]["label"][:] == loaded.splits["train"]["label"][:]
    assert set(streamed.notes) == set(loaded.notes) - {note for note in loaded.notes if "word for word" in note}


def test_stream_reads_only_the_rows_that_are_needed(write, task, monkeypatch):
    from finetune.data.sources import load_data
    from finetune.recipe.schema import Recipe

    write("train.jsonl", "".join(json.dumps(row) + "\n" for row in rows(30)) + "no json\n")
    path = write("validation.jsonl", rows(12)).parent
    monkeypatch.setattr("finetune.data.json_files.CHUNK_ROWS", 5)
    section = {"path": str(path), "streaming": True}
    recipe = Recipe.model_validate({"task": task.name, "model": {"name_or_path": "any"}, "dataset": section})
    data = load_data(recipe, task, rows_needed=13)
    assert data.stream.rows == 13
    assert [row for *_, row in all_rows(data.stream.windows(5))] == [1, 2, 3, *range(5, 15)]
    with pytest.raises(FinetuneError, match=r"train.jsonl:31: not JSON"):
        load_data(recipe, task)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"text": "a", "label": 3}', r"column 'label' holds a number \(3\) where earlier rows hold a text"),
        ('{"text": {"a": 1}, "label": "good"}', r"column 'text' holds a object"),
        ('{"text": "a", "label": "good"', "not JSON"),
    ],
)
def test_stream_faults_are_found_before_training_with_their_line(line, words, write, load):
    train = "".join(json.dumps(row) + "\n" for row in rows(30))
    write("train.jsonl", train + line + "\n")
    path = write("validation.jsonl", rows(12)).parent
    with pytest.raises(FinetuneError, match=rf"train.jsonl:31: {words}"):
        load(path=path, streaming=True)


def test_stream_label_of_validation_that_train_lacks(write, load):
    write("train.jsonl", rows(30))
    path = write("validation.jsonl", [{"text": "a", "label": "new"}]).parent
    with pytest.raises(FinetuneError, match="label 'new' does not occur in train"):
        load(path=path, streaming=True)


def test_stream_without_a_validation_split(write, load):
    with pytest.raises(FinetuneError, match="no validation split, and none can be held out of a stream"):
        load(path=write("train.jsonl", rows(30)), streaming=True)


def test_stream_of_several_labels_and_of_numbers(write, load):
    write("train.jsonl", [{"text": f"t{i}", "label": ["a", "b"][: i % 3]} for i in range(20)])
    path = write("validation.jsonl", [{"text": "x", "label": ["b"]}]).parent
    [window] = load(path=path, streaming=True).stream.windows(64)
    assert window.column("label").to_pylist()[:3] == [[0, 0], [1, 0], [1, 1]]
    write("train.jsonl", [{"text": f"t{i}", "label": i / 7} for i in range(20)])
    write("validation.jsonl", [{"text": "x", "label": 0.5}])
    [window] = load(path=path, streaming=True).stream.windows(64)
    assert window.column("label").to_pylist() == [i / 7 for i in range(20)]


def test_stream_of_several_files_names_the_right_one(write, load):
    write("part-1.jsonl", rows(10))
    write("part-2.jsonl", [*rows(10), {"text": ["a"], "label": "good"}])
    validation = write("check.jsonl", rows(12))
    files = {"train": [validation.with_name(f"part-{i}.jsonl") for i in (1, 2)], "validation": validation}
    with pytest.raises(FinetuneError, match=r"part-2.jsonl:11: column 'text' holds a list"):
        load(data_files=files, streaming=True)
    write("part-2.jsonl", rows(10))
    [window] = load(data_files=files, streaming=True).stream.windows(64)
    assert window.column("row").to_pylist() == [*range(1, 4), *range(5, 14), *range(15, 21)]


def test_stream_that_seems_sorted_by_label_is_said(write, load, monkeypatch):
    monkeypatch.setattr(stream_module, "WINDOW_ROWS", 10)
    write("train.jsonl", [{"text": f"t{i}", "label": LABELS[i // 20]} for i in range(60)])
    path = write("validation.jsonl", rows(12)).parent
    assert any("sorted by label" in note for note in load(path=path, streaming=True).notes)


def test_stream_that_changed_meanwhile_is_refused(both, tmp_path):
    _, streamed = both("jsonl")
    write_split(tmp_path / "train.jsonl", rows(50))
    with pytest.raises(FinetuneError, match="the data has changed"):
        list(streamed.stream.windows(16))


def test_stream_windows_hold_whole_batches():
    assert window_rows(32) == 16_384
    assert window_rows(48) % 48 == 0
    assert window_rows(48) >= 16_384
    assert window_rows(40_000) == 40_000
