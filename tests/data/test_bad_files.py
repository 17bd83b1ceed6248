"""Each bad file gives one clear error: where it is wrong, what was found, what to do."""

import gzip
import json
import os

import pyarrow
import pytest
from pyarrow import parquet

from finetune.errors import FinetuneError

GOOD = "text,label\n" + "".join(f"text {i},{'ab'[i % 2]}\n" for i in range(20))
LINES = "".join(json.dumps({"text": f"text {i}", "label": "ab"[i % 2]}) + "\n" for i in range(20))

# name: (file, content, dataset section, words of the message, words of the hint)
BAD = {
    "empty": ("a.csv", "", {}, ["a.csv", "empty"], "Point to"),
    "blank": ("a.csv", "\n \n", {}, ["a.csv", "empty"], "Point to"),
    "only a header": ("a.csv", "text,label\n", {}, ["a.csv", "header and no rows"], "Point to"),
    "no rows in jsonl": ("a.jsonl", "\n\n", {}, ["a.jsonl", "empty"], "Point to"),
    "too many fields": ("a.csv", GOOD + "one, two,a\n", {}, ["a.csv:22", "3 fields, too many", "has 2"], "quotes"),
    "too few fields": ("a.csv", "text,label,x\n1,2,3\nhello,a\n", {}, ["a.csv:3", "2 fields, too few"], "Complete"),
    "duplicate header": ("a.csv", "text,label,label\nx,a,b\n", {}, ["a.csv:1", "'label'", "more than once"], "Rename"),
    "headerless": (
        "a.csv",
        "I am waiting for my card,late\nMy card is lost again,lost\nanother one here,late\n",
        {},
        ["a.csv:1", "looks like a row", "'late'"],
        "1i text,label",
    ),
    "headerless short": (
        "a.csv",
        "hi there,pos\nbye,neg\nhm,pos\n",
        {},
        ["a.csv:1", "looks like a row"],
        "1i text,label",
    ),
    "unclosed quote": (
        "a.csv",
        'text,label\nfine,a\n"open,b\nmore,a\n',
        {},
        ["a.csv:3", "quote opens"],
        "Close the quote",
    ),
    "swallowed rows": (
        "a.csv",
        GOOD + '"lone,a\nfine one,b\nanother,a\nlast",b\n',
        {},
        ["a.csv:22", "row 21", "4 lines", "swallowed"],
        "Close the quote",
    ),
    "swallowed two rows": ("a.csv", GOOD + '"lone,a\nlast",b\n', {}, ["a.csv:22", "swallowed"], "Close the quote"),
    "NUL byte": ("a.csv", GOOD.encode() + b"x\0y,a\n", {}, ["a.csv:22", "NUL byte"], "iconv"),
    "UTF-16 without mark": ("a.csv", GOOD.encode("utf-16-le"), {}, ["a.csv:1", "UTF-16"], "iconv"),
    "UTF-32": ("a.csv", GOOD.encode("utf-32"), {}, ["a.csv", "UTF-32"], "iconv -f UTF-32"),
    "UTF-32 the other way round": (
        "a.csv",
        b"\0\0\xfe\xff" + GOOD.encode("utf-32-be"),
        {},
        ["UTF-32"],
        "iconv -f UTF-32",
    ),
    "cut UTF-16 json": ("a.json", '[{"a": 1}]'.encode("utf-16")[:-1], {}, ["a.json", "cannot be read"], "Check"),
    "deep jsonl": ("a.jsonl", LINES + "[" * 100_000 + "\n", {}, ["a.jsonl:21", "nested too deep"], "flat object"),
    "deep json": ("a.json", "[" * 100_000, {}, ["a.json", "nested too deep"], "flat object"),
    "deep value": (
        "a.jsonl",
        LINES + '{"text": ' + "[" * 500 + "]" * 500 + ', "label": "a"}\n',
        {},
        ["a.jsonl:21", "'text'", "a list"],
        "same type",
    ),
    "endless number": ("a.jsonl", LINES + f'{{"text": {"9" * 5000}}}\n', {}, ["a.jsonl:21", "digits"], "as a text"),
    "endless number in json": ("a.json", f'[{{"text": {"9" * 5000}}}]', {}, ["a.json", "digits"], "as a text"),
    "labels beyond the floats": (
        "a.jsonl",
        [{"text": f"t{i}", "label": label} for i, label in enumerate([1, 2**64, 2**64 + 1, 1])],
        {},
        ["a.jsonl:2", "'label'", "18446744073709551616", "2**53"],
        "as texts, in quotes",
    ),
    "labels beyond the floats beside a float": (
        "a.jsonl",
        [{"text": f"t{i}", "label": label} for i, label in enumerate([1.0, 2**53 + 1, -(2**53) - 3, 1])],
        {"problem_type": "single_label_classification"},
        ["a.jsonl:2", "'label'", "2**53"],
        "as texts, in quotes",
    ),
    "stray byte in UTF-8": (
        "a.csv",
        GOOD.encode() + "olá,a\n".encode() + b"ol\xe1,b\n",
        {},
        ["a.csv:23", "not UTF-8", "1 line", "1 other line"],
        "Mend the line",
    ),
    "spreadsheet": ("a.csv", b"PK\x03\x04 rest", {}, ["a.csv", "spreadsheet"], "Export"),
    "xlsx": ("a.xlsx", b"PK\x03\x04 rest", {}, ["a.xlsx", "spreadsheet"], "Export"),
    "pickle": ("a.pkl", b"\x80\x04.", {}, ["a.pkl", "pickle", "never loaded"], "jsonl or parquet"),
    "pickle as csv": ("a.csv", b"\x80\x04K\x01.", {}, ["a.csv", "pickle"], "jsonl or parquet"),
    "script": ("a.py", "import os", {}, ["a.py", "never run"], "Write the data"),
    "git lfs": ("a.csv", "version https://git-lfs.github.com/spec/v1\n", {}, ["a.csv", "Git LFS"], "git lfs pull"),
    "no ending": ("data", GOOD, {}, ["data", "ending"], ".csv"),
    "damaged gzip": ("a.csv.gz", gzip.compress(GOOD.encode())[:-20], {}, ["a.csv.gz", "damaged gzip"], "again"),
    "no gzip": ("a.csv.gz", GOOD, {}, ["a.csv.gz", "damaged gzip"], "again"),
    "damaged parquet": ("a.parquet", b"PAR1 nonsense PAR1", {}, ["a.parquet", "parquet"], "again"),
    "damaged arrow": ("a.arrow", b"ARROW1 nonsense", {}, ["a.arrow", "Arrow"], "again"),
    "bad json line": ("a.jsonl", LINES + "{text: 1}\n", {}, ["a.jsonl:21", "not JSON", "column 2"], "Mend"),
    "json line is a list": ("a.jsonl", LINES + "[1]\n", {}, ["a.jsonl:21", "a list, not an object"], "Each line"),
    "bad json": ("a.json", '[{"text": "x",\n "label" "y"}]', {}, ["a.json:2", "not JSON"], "Mend"),
    "json of texts": ("a.json", '["x", "y"]', {}, ["a.json", "row 1", "a text, not an object"], "Write each row"),
    "json number": ("a.json", "3", {}, ["a.json", "a number, not a list"], "jsonl"),
    "text is a number once": (
        "a.jsonl",
        LINES + '{"text": 404, "label": "a"}\n',
        {},
        ["a.jsonl:21", "'text'", "a number (404)", "a text"],
        "same type",
    ),
    "text is an object": (
        "a.json",
        '[{"text": {"en": "x"}, "label": "a"}]',
        {},
        ["a.json: row 1", "'text'"],
        "strings",
    ),
    "labels of mixed types": (
        "a.jsonl",
        LINES + '{"text": "x", "label": 1}\n',
        {},
        ["a.jsonl:21", "'label'", "a number (1)"],
        "same type",
    ),
    "half a surrogate": ("a.jsonl", LINES + '{"text": "\\ud83d", "label": "a"}\n', {}, ["a.jsonl:21", "surrogate"], ""),
    "labels are objects": ("a.json", '[{"text": "x", "label": {"a": 1}}]', {}, ["'label'", "no label"], "A label is"),
    "no such column": ("a.csv", GOOD, {"columns": {"text": "txt"}}, ["a.csv", "'txt'", "'text', 'label'"], "'text'"),
    "nothing usual": ("a.csv", "mr,ref\nx y,z\np,q\n", {}, ["a.csv", "'mr', 'ref'", "text"], "{text: mr, label: ref}"),
    "no label column": ("a.csv", "text,rating\nx,1\ny,2\n", {}, ["a.csv", "'rating'", "label"], "{label: rating}"),
    "two could be the text": ("a.csv", "review,tweet,label\nx,y,a\n", {}, ["'review' and 'tweet'", "text"], "columns"),
    "two could be the label": ("a.csv", "text,intent,class\nx,y,a\n", {}, ["'intent' and 'class'", "label"], "columns"),
    "no text at all": ("a.csv", "text,label\n ,a\n ,b\n", {}, ["a.csv", "no row has a text"], "dataset.columns"),
    "one class": ("a.csv", "text,label\nx,a\ny,a\n", {}, ["a.csv", "every row has the label 'a'"], "another"),
    "label per row": (
        "a.csv",
        "text,label\n" + "".join(f"t{i},id-{i}\n" for i in range(20)),
        {},
        ["a.csv", "20 different labels in 20 rows", "'id-0'"],
        "Map another column",
    ),
    "many whole numbers": (
        "a.csv",
        "text,label\n" + "".join(f"t{i},{i % 300}\n" for i in range(900)),
        {},
        ["300 different whole numbers", "classes or a score"],
        "regression",
    ),
    "no label in any row": ("a.csv", "text,label\nx,\ny,\n", {}, ["'label'", "no label in any row"], "Map another"),
    "too many unlabelled": (
        "a.csv",
        GOOD + "x,\ny,\n",
        {},
        ["a.csv:22 (row 21)", "2 of 22 rows", "train"],
        "Remove these rows",
    ),
    "too many hidden": (
        "a.csv",
        "text,label\n" + "".join(f"t{i},{i % 3 - 1}\n" for i in range(30)),
        {},
        ["a.csv:2 (row 1)", "-1", "10 of 30"],
        "single_label_classification",
    ),
    "lists written as text": (
        "a.csv",
        "text,label\nx,\"['a']\"\ny,\"['b']\"\n",
        {},
        ["lists written as text"],
        "jsonl",
    ),
    "flag that is no flag": (
        "a.csv",
        "text,rude,kind\nx,0,1\ny,3,0\n",
        {"columns": {"label": ["rude", "kind"]}},
        ["a.csv:3 (row 2)", "'rude'", "holds 3"],
        "0 and 1",
    ),
    "flag that is a text": (
        "a.csv",
        "text,rude,kind\nx,no,1\ny,yes,0\n",
        {"columns": {"label": ["rude", "kind"]}},
        ["a.csv:2", "'rude'", "'no'"],
        "0/1 columns",
    ),
    "no number": (
        "a.csv",
        "text,label\nx,1.5\ny,two\n",
        {"problem_type": "regression"},
        ["a.csv:3 (row 2)", "'two'", "no number"],
        "single_label",
    ),
    "infinite": ("a.csv", "text,label\nx,1.5\ny,inf\nz,2.5\n", {}, ["a.csv:3", "infinite"], "Correct"),
    "the same number": ("a.csv", "text,label\nx,1.5\ny,1.5\n", {}, ["the same number"], "Map another"),
    "not multi-label": (
        "a.csv",
        GOOD,
        {"problem_type": "multi_label_classification"},
        ["one value a row", "multi_label_classification"],
        "list",
    ),
    "lists of one label": ("a.json", '[{"text": "x", "label": ["a"]}]', {}, ["'a' only"], "single label"),
    "empty label in a list": (
        "a.jsonl",
        '{"text": "x", "label": ["a", "b"]}\n{"text": "y", "label": ["a", ""]}\n',
        {},
        ["a.jsonl:2", "empty one"],
        "Remove it",
    ),
    "lists of numbers": ("a.json", '[{"text": "x", "label": [0.5]}]', {}, ["label lists hold double"], "0 and 1"),
    "text for lists": (
        "a.json",
        '[{"text": "x", "label": ["a", "b"]}]',
        {"problem_type": "regression"},
        ["lists of labels", "regression"],
        "multi_label_classification",
    ),
    "too few rows to split": ("a.csv", "text,label\nx,a\ny,b\n", {}, ["2 rows are too few"], "validation"),
    "slice as split": ("a.csv", GOOD, {"splits": {"train": "train[:10]"}}, ["train[:10]", "it has train"], "Slices"),
    "wrong split name": ("a.csv", GOOD, {"splits": {"test": "tests"}}, ["dataset.splits.test", "no split tests"], ""),
    "train as test": (
        "a.csv",
        GOOD,
        {"splits": {"test": "train"}},
        ["dataset.splits.test", "already serves"],
        "another",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_give_one_clear_error(name, load, write):
    file, content, section, message, hint = BAD[name]
    path = write(file, content)
    with pytest.raises(FinetuneError) as caught:
        load(path=path, **section)
    for words in message:
        assert words in caught.value.message
    assert hint in caught.value.hint
    assert len(caught.value.message.splitlines()) == 1


def test_bad_files_missing_file_names_its_neighbour(load, write):
    path = write("train.csv", GOOD)
    with pytest.raises(FinetuneError, match=r"trian\.csv: no such file") as caught:
        load(path=path.with_name("trian.csv"))
    assert caught.value.hint == "Did you mean train.csv?"


def test_bad_files_label_only_in_validation_is_named_with_row_and_count(load, write):
    write("train.csv", GOOD)
    path = write("validation.csv", "text,label\nx,a\ny,c\nz,c\n")
    with pytest.raises(FinetuneError) as caught:
        load(path=path.parent)
    assert "validation.csv:3 (row 2): label 'c' does not occur in train (2 rows" in caught.value.message


def test_bad_files_column_missing_in_one_split_names_the_split(load, write):
    write("train.csv", GOOD)
    path = write("validation.csv", "text,intent\nx,a\n")
    with pytest.raises(FinetuneError, match=r"split validation: .*validation\.csv has no column 'label'"):
        load(path=path.parent)


def test_bad_files_second_file_of_a_split_lacks_the_column(load, write):
    first, second = write("one.csv", GOOD), write("two.csv", "text\nx\n")
    with pytest.raises(FinetuneError, match="no column is named as a label"):
        load(data_files={"train": [first, second]})


def test_bad_files_of_two_formats_in_a_split(load, write):
    first, second = write("one.csv", GOOD), write("two.jsonl", LINES)
    with pytest.raises(FinetuneError, match=r"one.csv \(csv\) and two.jsonl \(jsonl\)"):
        load(data_files={"train": [first, second]})


def test_bad_files_that_disagree_on_a_type(load, tmp_path):
    for name, labels in (("a", ["x", "y"]), ("b", [1, 2])):
        parquet.write_table(pyarrow.table({"text": ["p", "q"], "label": labels}), tmp_path / f"{name}.parquet")
    with pytest.raises(FinetuneError, match="do not agree on the type"):
        load(data_files={"train": str(tmp_path / "*.parquet")})


def test_bad_files_pattern_without_match(load, tmp_path):
    with pytest.raises(FinetuneError, match=r"data_files\.train: .*\*\.csv matches no file"):
        load(data_files={"train": str(tmp_path / "*.csv")})


def test_bad_files_address_is_no_file(load):
    with pytest.raises(FinetuneError, match="is an address") as caught:
        load(data_files={"train": "https://example.org/a.csv"})
    assert "curl" in caught.value.hint


def test_bad_files_class_label_out_of_range(load, tmp_path):
    import datasets

    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    table = pyarrow.table({"text": ["a", "b", "c"], "label": [0, 1, 7]}).cast(features.arrow_schema)
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(FinetuneError, match="row 3: label 7 is none of the 2 that the data declares: 'no', 'yes'"):
        load(path=tmp_path / "a.parquet")


def test_bad_files_unlabelled_validation_by_its_own_name(load, write):
    write("train.csv", GOOD)
    path = write("test.csv", "text,label\nx,\ny,\n")
    with pytest.raises(FinetuneError, match=r"split test .*: no row has a label"):
        load(path=path.parent, splits={"validation": "test"})


def test_bad_files_more_hidden_labels_than_slips_in_validation(load, write):
    write("train.csv", GOOD)
    path = write("validation.csv", "text,label\nx,\ny,a\nz,b\n")
    with pytest.raises(FinetuneError, match="1 of 3 rows of split validation"):
        load(path=path.parent)


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("folder", "folder: is a folder, not a file", "Name a file in it: {0}/folder/a.csv"),
        ("broken", "broken is a link to gone, which does not exist", "Check the path"),
        ("loop", "loop is a link that leads back to itself", "Check the path"),
        ("x" * 300, "x… is longer than the name of a file can be", "Check the path"),
    ],
)
def test_bad_files_what_is_no_file_is_said_and_never_suggested(name, words, hint, load, write):
    base = write("folder/a.csv", GOOD).parent.parent
    (base / "broken").symlink_to("gone")
    (base / "loop").symlink_to("loop")
    with pytest.raises(FinetuneError) as caught:
        load(data_files={"train": str(base / name)})
    assert caught.value.message.endswith(words)
    assert hint.format(base) in caught.value.hint
    if name != "folder":
        with pytest.raises(FinetuneError) as caught:
            load(path=str(base / name))
        assert caught.value.message.endswith(words)


def test_bad_files_device_is_said(load):
    with pytest.raises(FinetuneError, match="is a device or a pipe"):
        load(path=os.devnull)


@pytest.mark.parametrize("locked", ["", "train", "train.parquet"])
def test_bad_files_folder_with_something_that_may_not_be_read(locked, load, write, monkeypatch):
    folder = write("data/train/a.csv", GOOD).parent.parent
    parquet.write_table(pyarrow.table({"text": ["x", "y"], "label": ["a", "b"]}), folder / "train.parquet")
    place = str(folder / locked) if locked else str(folder)
    real_scan = os.scandir

    def refuse(path):
        if str(path).rstrip("/") == place:
            raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr(os, "scandir", lambda path=".": refuse(path) or real_scan(path))
    if locked == "train.parquet":
        (folder / "train" / "a.csv").unlink()
        monkeypatch.setattr(parquet, "ParquetFile", refuse)
    with pytest.raises(FinetuneError) as caught:
        load(path=str(folder))
    assert caught.value.message == f"{place}: cannot be read (Permission denied)"
    assert "permissions" in caught.value.hint
