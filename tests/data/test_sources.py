import gzip
import json

import datasets
import pyarrow
import pytest
from pyarrow import ipc, parquet

from finetune.data.labels import SINGLE


def csv_of(rows):
    return "text,label\n" + "".join(f"{row['text']},{row['label']}\n" for row in rows)


def labels_of(loaded, split="train"):
    return [loaded.labels.names[i] for i in loaded.splits[split]["label"]]


def texts_of(loaded):
    return sorted(text for split in loaded.splits.values() for text in split["text"])


def test_sources_every_format_gives_the_same_data(load, rows, tmp_path):
    data = rows(40)
    table = pyarrow.table({name: [row[name] for row in data] for name in ("text", "label")})
    lines = "".join(json.dumps(row) + "\n" for row in data)
    texts = {
        "a.csv": csv_of(data),
        "a.tsv": csv_of(data).replace(",", "\t"),
        "a.json": json.dumps(data),
        "b.json": json.dumps({"version": 1, "data": data}),
        "lines.json": lines,
        "a.jsonl": lines,
        "a.ndjson": lines,
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
    parquet.write_table(table, tmp_path / "a.parquet")
    with ipc.new_file(tmp_path / "file.arrow", table.schema) as writer:
        writer.write_table(table)
    with ipc.new_stream(tmp_path / "stream.arrow", table.schema) as writer:
        writer.write_table(table)
    datasets.Dataset(table).save_to_disk(tmp_path / "saved")
    found = {path.name: load(path=path) for path in sorted(tmp_path.iterdir())}
    assert len(found) == 2 * len(texts) + 4
    assert len({loaded.fingerprint for loaded in found.values()}) == 1
    assert texts_of(found["a.csv"]) == sorted(row["text"] for row in data)
    assert all(loaded.labels.names == ("a", "b") for loaded in found.values())


def test_sources_rows_carry_their_number_in_the_source(load, write):
    path = write("a.csv", 'text,label\n"two\nlines",a\nsecond,b\n\n,a\nfourth,b\n' + "x,a\ny,b\n" * 20)
    loaded = load(path=path)
    numbers = {}
    for split in loaded.splits.values():
        numbers |= dict(zip(split["row"], split["text"], strict=True))
    assert (numbers[1], numbers[2], numbers[4]) == ("two\nlines", "second", "fourth")
    assert 3 not in numbers
    assert loaded.dropped == {"train": 1}
    assert any(
        "1 row without text dropped, the first is" in note and "a.csv:6 (row 3)" in note for note in loaded.notes
    )


def test_sources_folder_with_usual_names(load, write, rows):
    for name in ("train", "dev", "test"):
        path = write(f"{name}.jsonl", rows(20, split=name))
    write("README.md", "no data")
    loaded = load(path=path.parent)
    assert {name: len(split) for name, split in loaded.splits.items()} == {"train": 20, "validation": 20, "test": 20}
    assert "validation: taken from dev.jsonl." in loaded.notes
    assert any("labelled split test" in note for note in loaded.notes)


def test_sources_saved_dataset_dict_keeps_class_names(load, tmp_path):
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["yes", "no"])})
    split = datasets.Dataset.from_dict({"text": ["p", "q", "r", "s"], "label": [0, 1, 0, 1]}, features)
    datasets.DatasetDict({"train": split, "validation": split}).save_to_disk(tmp_path / "saved")
    loaded = load(path=tmp_path / "saved")
    assert loaded.labels.names == ("yes", "no")
    assert loaded.splits["train"]["label"][:] == [0, 1, 0, 1]


def test_sources_saved_selection_is_read_through(load, tmp_path):
    whole = datasets.Dataset.from_dict({"text": [f"t{i}" for i in range(20)], "label": ["a", "b"] * 10})
    whole.select(range(19, -1, -2)).add_item({"text": "new", "label": "a"}).save_to_disk(tmp_path / "saved")
    assert texts_of(load(path=tmp_path / "saved")) == sorted(["new", *(f"t{i}" for i in range(1, 20, 2))])


def test_sources_byte_order_mark_and_line_ends(load, write):
    path = write("a.csv", b"\xef\xbb\xbf" + "text,label\r\nolá,a\r\nx,b\r\n".encode() + b"y,a\r\nz,b\r\n" * 10)
    loaded = load(path=path)
    assert loaded.columns == {"text": "text", "label": "label"}
    assert "olá" in texts_of(loaded)
    assert loaded.labels.names == ("a", "b")


@pytest.mark.parametrize(
    ("encoding", "said"), [("cp1252", "Windows-1252"), ("latin-1", "Windows-1252"), ("utf-16", "UTF-16")]
)
def test_sources_other_encodings_are_read_with_a_note(load, write, rows, encoding, said):
    path = write("a.csv", (csv_of(rows(20)) + "coração,a\n").encode(encoding))
    loaded = load(path=path)
    assert "coração" in texts_of(loaded)
    assert any(said in note for note in loaded.notes)


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")])
def test_sources_other_delimiter_is_recognised(load, write, rows, delimiter, name):
    loaded = load(path=write("a.csv", csv_of(rows(20)).replace(",", delimiter)))
    assert len(texts_of(loaded)) == 20
    assert any(f"separated by {name}" in note for note in loaded.notes)


def test_sources_tsv_with_unpaired_quotes(load, write):
    path = write("a.tsv", 'text\tlabel\n"so he said\ta\nit is 5" long\tb\n"x" y\tb\n' + "z\ta\nw\tb\n" * 10)
    loaded = load(path=path)
    assert {'"so he said', 'it is 5" long', '"x" y'} <= set(texts_of(loaded))
    assert any("quotes were taken as letters" in note for note in loaded.notes)


def test_sources_quoted_newlines_that_are_text_stay(load, write, rows):
    path = write("a.csv", csv_of(rows(20)) + '"Hello, John\nThank you, bye\nJane",a\n')
    assert "Hello, John\nThank you, bye\nJane" in texts_of(load(path=path))


def test_sources_long_field_is_read(load, write, rows):
    path = write("a.csv", csv_of(rows(20)) + f"{'word ' * 60_000},a\n")
    assert max(len(text) for text in texts_of(load(path=path))) == 300_000


def test_sources_extra_columns_in_one_split(load, write, rows):
    write("train.jsonl", rows(20))
    path = write("validation.jsonl", rows(10, extra=[1, 2]))
    assert len(load(path=path.parent).splits["validation"]) == 10


def test_sources_unused_column_of_mixed_types_does_not_matter(load, write, rows):
    path = write("a.jsonl", [*rows(20, id=1), *rows(20, id="x"), *rows(1, id=True)])
    assert sum(len(split) for split in load(path=path).splits.values()) == 41


def test_sources_text_of_numbers_is_written_out(load, write):
    path = write("a.jsonl", [{"text": i, "label": "ab"[i % 2]} for i in range(20)])
    loaded = load(path=path)
    assert texts_of(loaded)[:2] == ["0", "1"]
    assert any("holds numbers" in note for note in loaded.notes)


def test_sources_only_text_column_is_taken(load, write):
    path = write("a.csv", "utterance,n,label\n" + "".join(f"some text {i},{i},{'ab'[i % 2]}\n" for i in range(20)))
    loaded = load(path=path)
    assert loaded.columns == {"text": "utterance", "label": "label"}
    assert "text is column 'utterance', the only one with texts." in loaded.notes


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("row", "length"),
        ("labels", "row"),
        ("input_ids", "text"),
        ("label", "label:row"),
        ("label:x", "attention_mask"),
    ],
)
def test_sources_columns_may_have_any_name(load, write, text, label):
    path = write("a.jsonl", [{text: f"some text {i}", label: "ab"[i % 2], "row ": i} for i in range(20)])
    loaded = load(path=path, columns={"text": text, "label": label})
    assert set(texts_of(loaded)) == {f"some text {i}" for i in range(20)}
    assert loaded.splits["train"].column_names == ["text", "label", "row"]


def test_sources_flags_may_have_any_name(load, write):
    lines = [{"text": f"t{i}", "row": i % 2, "length": (i + 1) % 2} for i in range(20)]
    loaded = load(path=write("a.jsonl", lines), columns={"label": ["row", "length"]})
    assert loaded.labels.names == ("row", "length")


def test_sources_pairs_are_found_and_said(load, write):
    lines = [{"Sentence1": f"p{i}", "sentence2": f"q{i}", "gold": i, "label": "ab"[i % 2]} for i in range(20)]
    loaded = load(path=write("a.jsonl", lines))
    assert loaded.columns == {"text": "Sentence1", "text_pair": "sentence2", "label": "label"}
    assert loaded.splits["train"].column_names == ["text", "text_pair", "label", "row"]
    assert "Columns found by their names: text = 'Sentence1' and text_pair = 'sentence2'." in loaded.notes


def test_sources_mapped_text_gets_no_second_one(load, write):
    lines = [{"sentence1": f"p{i}", "sentence2": f"q{i}", "label": "ab"[i % 2]} for i in range(20)]
    loaded = load(path=write("a.jsonl", lines), columns={"text": "sentence2"})
    assert loaded.columns == {"text": "sentence2", "label": "label"}


def test_sources_hidden_test_labels_mean_no_test(load, write):
    write("train.csv", "text,label\n" + "x,0\ny,1\n" * 10)
    path = write("test.csv", "text,label\nx,-1\ny,-1\n")
    loaded = load(path=path.parent)
    assert set(loaded.splits) == {"train", "validation"}
    assert any("hidden" in note and "no test" in note for note in loaded.notes)


def test_sources_test_without_label_column_is_no_test(load, write, rows):
    write("train.jsonl", rows(20))
    path = write("test.jsonl", [{"text": "x"}])
    assert set(load(path=path.parent).splits) == {"train", "validation"}


def test_sources_few_missing_labels_are_dropped_and_said(load, write, rows):
    path = write("a.jsonl", [*rows(50), {"text": "x", "label": None}, {"text": "y"}])
    loaded = load(path=path)
    assert loaded.dropped == {"train": 2}
    assert any("2 rows without a label dropped" in note and "a.jsonl:51" in note for note in loaded.notes)


def test_sources_rows_shared_with_train_are_counted(load, write, rows):
    write("train.jsonl", rows(20))
    path = write("test.jsonl", [*rows(3), {"text": "other", "label": "a"}])
    assert any("3 rows of test also stand in train" in note for note in load(path=path.parent).notes)


def test_sources_samples_are_stratified_and_never_the_first_rows(load, write):
    lines = [{"text": f"t{i}", "label": "a" if i < 900 else "b"} for i in range(1000)]
    loaded = load(path=write("a.jsonl", lines), max_train_samples=100, max_eval_samples=10)
    labels = labels_of(loaded)
    assert (labels.count("a"), labels.count("b")) == (90, 10)
    assert max(loaded.splits["train"]["row"]) > 900
    assert len(loaded.splits["validation"]) == 10
    assert any("a sample of 100 of 900 rows" in note for note in loaded.notes)


def test_sources_seed_of_the_dataset_fixes_the_split(load, write, rows):
    path = write("a.jsonl", rows(100))
    first, again, other = load(path=path), load(path=path), load(path=path, seed=1)
    assert first.fingerprint == again.fingerprint != other.fingerprint
    assert first.splits["validation"]["row"][:] == again.splits["validation"]["row"][:]
    assert any("10 rows (10%) of train held out, stratified by label" in note for note in first.notes)


def test_sources_validation_size_and_no_validation_wanted(load, write, rows):
    write("train.jsonl", rows(100))
    path = write("validation.jsonl", rows(10))
    loaded = load(path=path.parent, splits={"validation": None}, validation_size=0.25)
    assert (len(loaded.splits["train"]), len(loaded.splits["validation"])) == (75, 25)


def test_sources_fingerprint_is_of_content_not_of_form(load, write, rows):
    plain = load(path=write("a.jsonl", rows(40)))
    blank_line = load(path=write("b.csv", "\n" + csv_of(rows(40)).replace("\n", "\r\n")))
    changed = rows(40)
    changed[3]["text"] += "!"
    other = load(path=write("c.jsonl", changed))
    assert plain.fingerprint == blank_line.fingerprint != other.fingerprint


def test_sources_a_smaller_sample_to_train_on_leaves_the_rows_to_score_as_they_were(load, write, rows):
    path = write("a.jsonl", rows(100))
    whole, sample = load(path=path), load(path=path, max_train_samples=20)
    assert whole.fingerprint != sample.fingerprint
    assert whole.fingerprints["validation"] == sample.fingerprints["validation"]
    assert whole.fingerprints["train"] != sample.fingerprints["train"]
    assert load(path=path, max_eval_samples=5).fingerprints["validation"] != whole.fingerprints["validation"]


def test_sources_data_files_by_list_and_pattern(load, write, rows):
    for i in range(3):
        path = write(f"part{i}.jsonl", [{"text": f"t{i}-{j}", "label": "ab"[j % 2]} for j in range(10)])
    dev = write("dev.csv", csv_of(rows(10)))
    loaded = load(data_files={"train": [path.parent / "part*.jsonl"], "validation": dev})
    assert loaded.splits["train"]["row"][:] == list(range(1, 31))
    assert loaded.splits["train"]["text"][29] == "t2-9"
    assert len(loaded.splits["validation"]) == 10


def test_sources_builder_names_the_format(load, write, rows):
    path = write("data.txt", csv_of(rows(20)))
    assert len(texts_of(load(path="csv", data_files={"train": path}))) == 20


def test_sources_place_in_the_second_file(load, write, rows):
    first, second = write("one.jsonl", rows(30)), write("two.jsonl", [*rows(3), {"text": "x", "label": None}])
    loaded = load(data_files={"train": [first, second]})
    assert any("two.jsonl:4" in note for note in loaded.notes)


def test_sources_package_data(load):
    loaded = load(path="package:finetune/sample_data/shop_messages", max_train_samples=50)
    assert set(loaded.splits) == {"train", "validation", "test"}
    assert loaded.labels.problem_type == SINGLE


def test_sources_categories_and_large_strings_of_parquet(load, tmp_path):
    table = pyarrow.table(
        {
            "text": pyarrow.array([f"t{i}" for i in range(20)], pyarrow.large_string()),
            "label": pyarrow.array(["a", "b"] * 10).dictionary_encode(),
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet")
    assert load(path=tmp_path / "a.parquet").labels.names == ("a", "b")
