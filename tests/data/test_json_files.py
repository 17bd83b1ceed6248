import json

import pytest

from finetune.data import json_files
from finetune.data.json_files import read_json, read_jsonl
from finetune.data.raw import RawSplit
from finetune.errors import FinetuneError


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(json_files, "CHUNK_ROWS", 3)


def test_json_files_columns_are_the_union_of_keys(write):
    part = read_jsonl(write("a.jsonl", [{"a": i} for i in range(4)] + [{"b": "x"}]))
    assert part.columns == ("a", "b")
    assert part.read(["a", "b"]).to_pydict() == {"a": [0, 1, 2, 3, None], "b": [None] * 4 + ["x"]}


def test_json_files_number_types_join_over_chunks(write):
    part = read_jsonl(write("a.jsonl", [{"n": n} for n in (1, 2, 3, None, None, None, 2.5, 2**60, -1)]))
    assert part.read(["n"])["n"].to_pylist() == [1, 2, 3, None, None, None, 2.5, 2.0**60, -1]


@pytest.mark.parametrize("place", range(1, 9))
def test_json_files_first_value_of_another_type_is_named(place, write):
    values = [None, *("x" for _ in range(8))]
    values[place] = 7
    split = RawSplit("train", (read_jsonl(write("a.jsonl", [{"v": value} for value in values])),))
    line = place + 1 if place > 1 else 3
    with pytest.raises(FinetuneError, match=rf"a\.jsonl:{line}: column 'v'"):
        split.read(["v"])


def test_json_files_blank_lines_keep_line_numbers(write):
    part = read_jsonl(write("a.jsonl", '{"a": 1}\n\n{"a": 2}\r\n'))
    assert (part.rows, part.lines.to_pylist()) == (2, [1, 3])


def test_json_files_line_separators_inside_texts_are_no_line_ends(write):
    text = "one\u2028two\x85three"
    part = read_jsonl(write("a.jsonl", json.dumps({"a": text}, ensure_ascii=False) + "\n"))
    assert part.read(["a"])["a"].to_pylist() == [text]


def test_json_files_lists_over_chunks(write):
    part = read_jsonl(write("a.jsonl", [{"a": []} for _ in range(4)] + [{"a": ["x"]}]))
    assert part.read(["a"])["a"].to_pylist() == [[], [], [], [], ["x"]]


def test_json_files_whole_file_has_rows_without_lines(write):
    part = read_json(write("a.json", json.dumps([{"a": i} for i in range(5)])))
    assert part.place(4).endswith("a.json: row 5")
