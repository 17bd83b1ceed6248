"""Texts inside structs, and targets that are lists of texts."""

import json

import pyarrow
import pytest

from finetune.data.files import read_file
from finetune.data.kinds import KINDS
from finetune.data.raw import RawSplit


@pytest.fixture
def pairs(tmp_path):
    rows = [{"id": n, "translation": {"en": f"text {n}", "pt": f"texto {n}", "score": 0.5}} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return RawSplit("train", (read_file(tmp_path / "a.jsonl"),))


def test_texts_inside_an_object_are_columns(pairs):
    assert pairs.columns == ("id", "translation", "translation.en", "translation.pt")
    table = pairs.read(["translation.pt", "id", "translation.en"])
    assert table.column_names == ["translation.pt", "id", "translation.en"]
    assert table.column("translation.pt").to_pylist() == ["texto 0", "texto 1", "texto 2"]
    [piece] = pairs.pieces(["translation.en"])
    assert piece.column("translation.en").to_pylist() == ["text 0", "text 1", "text 2"]


def test_a_column_whose_own_name_has_a_dot_stays_itself(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a.b": "outer", "a": {"b": "inner"}}\n')
    split = RawSplit("train", (read_file(tmp_path / "a.jsonl"),))
    assert split.read(["a.b"]).column("a.b").to_pylist() == ["outer"]


REFERENCES = KINDS["references"]
FOUND = [
    (pyarrow.array(["a", None, " "]), [["a"], None, [" "]], [True, False, False]),
    (pyarrow.array([1, 2]), [["1"], ["2"]], [True, True]),
    (pyarrow.array([["a", "b"], [], None, ["", "c"], [None]]), [["a", "b"], [], None, ["", "c"], [""]],
     [True, False, False, True, False]),
]  # fmt: skip


@pytest.mark.parametrize(("array", "lists", "present"), FOUND)
def test_references_are_lists_of_texts_of_which_one_says_something(array, lists, present):
    assert REFERENCES.reads(array.type)
    for start in (0, 1):  # a slice must not read what lies before it
        cast = REFERENCES.cast(array.slice(start))
        assert cast.to_pylist() == lists[start:]
        assert REFERENCES.present(cast).to_pylist() == present[start:]
