import io
import json

import pytest

from finetune.data.rows import read_rows
from finetune.errors import FinetuneError


def flat(batches):
    return [pair for batch in batches for pair in zip(batch.numbers, batch.rows["text"], strict=True)]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.txt"])
def test_rows_of_every_text_format(name, task, write):
    texts = ["one", "two", "three"]
    content = {
        "a.csv": "text\none\ntwo\nthree\n",
        "a.tsv": "id\ttext\n1\tone\n2\ttwo\n3\tthree\n",
        "a.jsonl": [{"text": text, "label": "ignored"} for text in texts],
        "a.json": json.dumps([{"text": text} for text in texts]),
        "a.txt": "one\r\ntwo\r\nthree",
    }[name]
    assert flat(read_rows(write(name, content), task)) == list(enumerate(texts, start=1))


def test_rows_come_in_batches(task, write):
    batches = list(read_rows(write("a.txt", "".join(f"line {i}\n" for i in range(2500))), task))
    assert [len(batch.numbers) for batch in batches] == [1024, 1024, 452]
    assert batches[2].numbers[-1] == 2500


def test_rows_without_text_are_named(task, write):
    (batch,) = read_rows(write("a.jsonl", [{"text": "x"}, {"text": " "}, {"text": None}, {"text": "y"}]), task)
    assert (batch.rows["text"], batch.numbers, batch.empty) == (["x", "y"], [1, 4], [2, 3])


def test_rows_plain_lines_of_a_pipe(task):
    assert flat(read_rows(io.StringIO("\ufeffone\n\nthree\n"), task)) == [(1, "one"), (3, "three")]


def test_rows_json_lines_of_a_pipe(task):
    lines = "".join(json.dumps({"body": f"t{i}"}) + "\n" for i in range(1030))
    batches = list(read_rows(io.StringIO(lines), task, {"text": "body", "label": "label"}))
    assert [len(batch.numbers) for batch in batches] == [1024, 6]
    assert flat(batches)[-1] == (1030, "t1029")


def test_rows_pairs_of_a_pipe(task):
    stream = io.StringIO('{"premise": "p", "hypothesis": "q"}\n')
    (batch,) = read_rows(stream, task)
    assert batch.rows == {"text": ["p"], "text_pair": ["q"]}


def test_rows_format_overrules_the_look_of_a_pipe(task):
    assert flat(read_rows(io.StringIO("{no json}\n"), task, format="txt")) == [(1, "{no json}")]


def test_rows_bad_line_of_a_pipe_is_named(task):
    with pytest.raises(FinetuneError, match=r"stdin:2: not JSON"):
        list(read_rows(io.StringIO('{"text": "x"}\nplain\n'), task))


def test_rows_missing_column_is_named(task, write):
    with pytest.raises(FinetuneError, match="no column 'body'; it has 'text'"):
        list(read_rows(write("a.csv", "text\nx\n"), task, {"text": "body"}))


def test_rows_column_missing_in_a_later_batch_of_a_pipe(task):
    lines = '{"text": "x"}\n' * 1024 + '{"other": "y"}\n'
    with pytest.raises(FinetuneError, match="stdin:1025: no column 'text'"):
        list(read_rows(io.StringIO(lines), task))
