import datasets
import pyarrow
import pytest
from pyarrow import parquet

from finetune.data.labels import MULTI, REGRESSION, SINGLE
from finetune.errors import FinetuneError


def rows_of(values):
    return [{"text": f"t{i}", "label": value} for i, value in enumerate(values)]


def by_row(loaded):
    """Return the encoded labels in the order of the source."""
    found = {}
    for split in loaded.splits.values():
        found |= dict(zip(split["row"], split["label"], strict=True))
    return [found[row] for row in sorted(found)]


CASES = {
    "texts sorted by code point": (["b", "a", "C", "ã"] * 5, ("C", "a", "b", "ã"), [2, 1, 0, 3]),
    "texts with blanks around": ([" b", "a "] * 10, ("a", "b"), [1, 0]),
    "whole numbers by value": ([10, 2, 33] * 10, ("2", "10", "33"), [1, 0, 2]),
    "texts that are numbers by value": (["10", "2", "33"] * 10, ("2", "10", "33"), [1, 0, 2]),
    "booleans": ([True, False] * 10, ("false", "true"), [1, 0]),
    "whole floats": ([1.0, 0.0, 2.0] * 10, ("0", "1", "2"), [1, 0, 2]),
    "signs": ([1, -1] * 10, ("-1", "1"), [1, 0]),
    "a scale": ([-2, -1, 0, 1, 2] * 5, ("-2", "-1", "0", "1", "2"), [0, 1, 2, 3, 4]),
}


@pytest.mark.parametrize("name", CASES)
def test_labels_classes(name, load, write):
    values, names, ids = CASES[name]
    loaded = load(path=write("a.jsonl", rows_of(values)))
    assert (loaded.labels.problem_type, loaded.labels.names) == (SINGLE, names)
    assert by_row(loaded)[: len(ids)] == ids


CSV_CASES = {
    "whole numbers": (["1", "0"], ("0", "1"), [1, 0]),
    "floats that pandas made of whole numbers": (["1.0", "0.0"], ("0", "1"), [1, 0]),
    "booleans": (["True", "FALSE"], ("false", "true"), [1, 0]),
    "codes padded with zeros": (["02", "01"], ("01", "02"), [1, 0]),
    "none is a class among texts": (["none", "favor"], ("favor", "none"), [1, 0]),
}


@pytest.mark.parametrize("name", CSV_CASES)
def test_labels_of_csv(name, load, write):
    values, names, ids = CSV_CASES[name]
    text = "text,label\n" + "".join(f"t{i},{value}\n" for i, value in enumerate(values * 10))
    loaded = load(path=write("a.csv", text))
    assert (loaded.labels.problem_type, loaded.labels.names) == (SINGLE, names)
    assert by_row(loaded)[:2] == ids


def test_labels_fractions_are_a_regression(load, write):
    loaded = load(path=write("a.jsonl", rows_of([0.5, 1, 2.25, 3] * 5)))
    assert (loaded.labels.problem_type, loaded.labels.names, loaded.labels.num_labels) == (REGRESSION, (), 1)
    assert by_row(loaded)[:4] == [0.5, 1.0, 2.25, 3.0]
    assert any("at random" in note for note in loaded.notes)


def test_labels_many_whole_floats_are_a_regression(load, write):
    assert load(path=write("a.jsonl", rows_of([float(i) for i in range(60)]))).labels.problem_type == REGRESSION


def test_labels_csv_numbers_with_gaps_are_a_regression(load, write):
    text = "text,label\n" + "".join(f"t{i},{i / 4}\n" for i in range(60)) + "x,nan\n"
    loaded = load(path=write("a.csv", text))
    assert loaded.labels.problem_type == REGRESSION
    assert loaded.dropped == {"train": 1}


def test_labels_problem_type_decides(load, write):
    path = write("a.jsonl", rows_of([1, 2, 3, 4, 5] * 4))
    assert load(path=path).labels.problem_type == SINGLE
    assert load(path=path, problem_type=REGRESSION).labels.problem_type == REGRESSION
    halves = write("b.jsonl", rows_of([0.5, 1.5] * 10))
    assert load(path=halves, problem_type=SINGLE).labels.names == ("0.5", "1.5")
    hidden = write("c.jsonl", rows_of([-1, 0, 1] * 10))
    assert load(path=hidden, problem_type=SINGLE).labels.names == ("-1", "0", "1")


def test_labels_lists_are_multi_label(load, write):
    loaded = load(path=write("a.jsonl", rows_of([["b", "a"], [], ["c"], ["a", "a"]] * 5)))
    assert (loaded.labels.problem_type, loaded.labels.names) == (MULTI, ("a", "b", "c"))
    assert by_row(loaded)[:4] == [[1, 1, 0], [0, 0, 0], [0, 0, 1], [1, 0, 0]]


def test_labels_lists_of_flags_are_multi_label(load, write):
    loaded = load(path=write("a.jsonl", rows_of([[0, 1, 1], [1, 0, 0]] * 10)))
    assert loaded.labels.names == ("0", "1", "2")
    assert by_row(loaded)[:2] == [[0, 1, 1], [1, 0, 0]]


def test_labels_lists_of_ids_are_multi_label(load, write):
    loaded = load(path=write("a.jsonl", rows_of([[3, 10], [2]] * 10)))
    assert loaded.labels.names == ("2", "3", "10")
    assert by_row(loaded)[:2] == [[0, 1, 1], [1, 0, 0]]


def test_labels_columns_of_flags_keep_their_order(load, write):
    text = "text,rude,angry,kind\n" + "x,1.0,0,False\ny,0.0,1,True\n" * 10
    loaded = load(path=write("a.csv", text), columns={"label": ["rude", "kind", "angry"]})
    assert (loaded.labels.problem_type, loaded.labels.names) == (MULTI, ("rude", "kind", "angry"))
    assert by_row(loaded)[:2] == [[1, 0, 0], [0, 1, 1]]


def test_labels_columns_of_minus_one_are_hidden(load, write):
    write("train.csv", "text,p,q\n" + "x,1,0\ny,0,1\n" * 10)
    path = write("test.csv", "text,p,q\nx,-1,-1\n")
    assert "test" not in load(path=path.parent, columns={"label": ["p", "q"]}).splits


def test_labels_class_label_lists_keep_their_names(load, tmp_path):
    kind = datasets.Features(
        {"text": datasets.Value("string"), "labels": datasets.List(datasets.ClassLabel(names=["z", "y", "x"]))}
    )
    split = datasets.Dataset.from_dict({"text": ["p", "q"] * 10, "labels": [[2, 0], []] * 10}, kind)
    split.to_parquet(tmp_path / "a.parquet")
    loaded = load(path=tmp_path / "a.parquet")
    assert loaded.labels.names == ("z", "y", "x")
    assert by_row(loaded)[:2] == [[1, 0, 1], [0, 0, 0]]


def test_labels_class_label_minus_one_is_hidden(load, tmp_path):
    kind = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    split = datasets.Dataset.from_dict({"text": ["p"] * 41, "label": [0, 1] * 20 + [-1]}, kind)
    split.to_parquet(tmp_path / "a.parquet")
    loaded = load(path=tmp_path / "a.parquet")
    assert (loaded.labels.names, loaded.dropped) == (("no", "yes"), {"train": 1})


def test_labels_few_minus_ones_are_dropped(load, write):
    loaded = load(path=write("a.jsonl", rows_of([0, 1] * 30 + [-1])))
    assert (loaded.labels.names, loaded.dropped) == (("0", "1"), {"train": 1})


def test_labels_mapping_of_train_holds_for_other_forms(load, write):
    write("train.csv", "text,label\n" + "x,0\ny,1\nz,2\n" * 10)
    write("validation.csv", "text,label\nx,1.0\ny,2.0\n")
    path = write("test.csv", "text,label\nx,2\n")
    loaded = load(path=path.parent)
    assert loaded.splits["validation"]["label"][:] == [1, 2]
    assert loaded.splits["test"]["label"][:] == [2]


def test_labels_text_in_train_stays_text_elsewhere(load, write):
    write("train.csv", "text,label\n" + "x,True\ny,False\nz,Unsure\n" * 10)
    path = write("validation.csv", "text,label\nx,True\ny,False\n")
    loaded = load(path=path.parent)
    assert [loaded.labels.names[i] for i in loaded.splits["validation"]["label"]] == ["True", "False"]


def test_labels_list_label_unseen_in_train(load, write):
    write("train.jsonl", rows_of([["a"], ["b"]] * 10))
    path = write("test.jsonl", rows_of([["a"], ["a", "c"]]))
    with pytest.raises(FinetuneError, match=r"test.jsonl:2: label 'c' does not occur in train \(1 time in split test"):
        load(path=path.parent)


def test_labels_fraction_among_classes_is_named(load, write):
    write("train.jsonl", rows_of([0, 1] * 10))
    path = write("validation.jsonl", rows_of([1.0, 0.5]))
    with pytest.raises(FinetuneError, match=r"validation.jsonl:2: label '0.5' does not occur in train"):
        load(path=path.parent)


def test_labels_regression_test_of_minus_ones_is_hidden(load, write):
    write("train.jsonl", rows_of([0.5, 2.5, 1.0] * 10))
    path = write("test.jsonl", rows_of([-1.0, -1.0]))
    assert "test" not in load(path=path.parent).splits


@pytest.mark.parametrize("start", [2**53, 2**63 - 2, 2**63])
def test_labels_large_whole_numbers_stay_apart_where_the_format_has_them(load, tmp_path, start):
    numbers = pyarrow.array([start + i % 2 for i in range(20)], pyarrow.uint64())
    table = pyarrow.table({"text": [f"t{i}" for i in range(20)], "label": numbers})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert load(path=tmp_path / "a.parquet").labels.names == (str(start), str(start + 1))


def test_labels_beyond_the_floats_are_numbers_for_a_regression(load, write):
    path = write("a.jsonl", [{"text": f"t{i}", "label": 2**64 * (i % 2)} for i in range(20)])
    assert load(path=path, problem_type="regression").labels.problem_type == "regression"


def test_labels_beyond_the_floats_in_another_split_are_refused(load, write):
    write("train.jsonl", [{"text": f"t{i}", "label": i % 2} for i in range(20)])
    path = write("test.jsonl", [{"text": "x", "label": 1}, {"text": "y", "label": 2**64}])
    with pytest.raises(FinetuneError, match=r"test\.jsonl:2: column 'label' holds 18446744073709551616"):
        load(path=path.parent)
