import io
import json
import os

import pytest

from finetune.data.rows import open_rows
from finetune.data.rows import read_rows as read_opened
from finetune.errors import FinetuneError


def read_rows(source, task, columns=None, **options):
    return read_opened(open_rows(source), task, columns, **options)


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
    assert [len(batch.numbers) for batch in batches] == [64, 1024, 1024, 388]
    assert batches[3].numbers[-1] == 2500


def test_rows_without_text_are_named(task, write):
    (batch,) = read_rows(write("a.jsonl", [{"text": "x"}, {"text": " "}, {"text": None}, {"text": "y"}]), task)
    assert (batch.rows["text"], batch.numbers, batch.empty) == (["x", "y"], [1, 4], [2, 3])


def test_rows_plain_lines_of_a_pipe(task):
    assert flat(read_rows(io.StringIO("\ufeffone\n\nthree\n"), task)) == [(1, "one"), (3, "three")]


def test_rows_json_lines_of_a_pipe(task):
    lines = "".join(json.dumps({"body": f"t{i}"}) + "\n" for i in range(1030))
    batches = list(read_rows(io.StringIO(lines), task, {"text": "body", "label": "label"}))
    assert [len(batch.numbers) for batch in batches] == [64] * 16 + [6]
    assert flat(batches)[-1] == (1030, "t1029")


def test_rows_pairs_of_a_pipe(task):
    stream = io.StringIO('{"premise": "p", "hypothesis": "q"}\n')
    (batch,) = read_rows(stream, task)
    assert batch.rows == {"text": ["p"], "text_pair": ["q"]}


def test_rows_bad_line_of_a_pipe_is_named(task):
    with pytest.raises(FinetuneError, match=r"stdin:2: not JSON"):
        list(read_rows(io.StringIO('{"text": "x"}\nplain\n'), task))


def test_rows_missing_column_is_named(task, write):
    with pytest.raises(FinetuneError, match="no column 'body'; it has 'text'"):
        list(read_rows(write("a.csv", "text\nx\n"), task, {"text": "body"}))


def test_rows_of_a_pipe_are_read_one_by_one_alike_however_they_come(task):
    lines = ['{"text": "x"}', '{"other": "y"}', "", '{"text": null}', '{"text": 4.5}', '{"text": "z"}']
    for size in (1, 2, 64):
        batches = list(read_rows(io.StringIO("\n".join(lines)), task, pipe_batch_rows=size))
        assert flat(batches) == [(1, "x"), (5, "4.5"), (6, "z")]
        assert [number for batch in batches for number in batch.empty] == [2, 3, 4]


@pytest.mark.parametrize(
    ("value", "said"),
    [("true", "a boolean"), ('["a"]', "a list"), ('{"a": 1}', "an object"), ('"\\ud83d"', "half of a surrogate pair")],
)
def test_rows_value_of_a_pipe_that_is_no_text_is_named(task, value, said):
    with pytest.raises(FinetuneError, match=rf"stdin:2: column 'text' \(for text\) holds .*{said}"):
        list(read_rows(io.StringIO(f'{{"text": "x"}}\n{{"text": {value}}}\n'), task))


def test_rows_of_a_pipe_know_the_form_by_the_first_line_that_is_not_blank(task):
    source = open_rows(io.StringIO('\n \n{"body": "x", "n": 1}\n'))
    assert (source.columns, source.total) == (("body", "n"), None)
    assert flat(read_opened(source, task, {"text": "body"})) == [(3, "x")]
    assert [batch.empty for batch in read_rows(io.StringIO("\n\n"), task)] == [[1, 2]]


@pytest.mark.parametrize("line", ['[{"text": "x"}]', "[", '[{"text": "x"},', '["x", "y"]'])
def test_rows_json_array_on_a_pipe_is_refused(line):
    with pytest.raises(FinetuneError, match="stdin:1: a JSON array") as caught:
        open_rows(io.StringIO(line + "\n"))
    assert "jq -c" in caught.value.hint


@pytest.mark.parametrize("line", ["[applause] thank you", "[1]", "[sic"])
def test_rows_text_that_begins_with_a_bracket_is_text(task, line):
    assert flat(read_rows(io.StringIO(line + "\n"), task)) == [(1, line)]


def test_rows_nul_byte_of_a_pipe_is_named(task):
    with pytest.raises(FinetuneError, match="stdin:2: holds a NUL byte"):
        list(read_rows(io.StringIO("one\nt\0w\n"), task))


@pytest.mark.parametrize("content", ["one\ntwo", "one\r\ntwo\r\n", "\ufeffone\ntwo\n"])
def test_rows_of_an_open_file_descriptor(task, content, tmp_path):
    (tmp_path / "rows").write_bytes(content.encode())
    with (tmp_path / "rows").open(encoding="utf-8") as stream:
        assert flat(read_rows(stream, task)) == [(1, "one"), (2, "two")]


def test_rows_cut_in_the_middle_of_a_letter_are_no_utf8(task, tmp_path):
    (tmp_path / "rows").write_bytes("one\ncafé".encode()[:-1])
    with (tmp_path / "rows").open(encoding="utf-8") as stream, pytest.raises(FinetuneError, match="not UTF-8"):
        list(read_rows(stream, task))


def test_rows_of_a_slow_pipe_come_before_the_next_ones(task):
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "wb", buffering=0) as producer:
        producer.write(b"one\ntwo\nthr")
        batches = read_rows(stream, task)
        assert flat([next(batches)]) == [(1, "one"), (2, "two")]
        producer.write(b"ee\n")
        assert flat([next(batches)]) == [(3, "three")]


def test_rows_notes_come_with_the_first_batch(task, write):
    path = write("a.csv", "sentence,n\n" + "".join(f"caf\xe9 {i},1\n" for i in range(1030)))
    path.write_bytes(path.read_text().encode("latin-1"))
    first, second = read_rows(path, task)
    assert any("Windows-1252" in note for note in first.notes)
    assert "Columns found by their names: text = 'sentence'." in first.notes
    assert second.notes == ()
    (batch,) = read_rows(io.StringIO('{"utterance": "x"}\n'), task)
    assert batch.notes == ("text is column 'utterance', the only one with texts.",)


@pytest.mark.parametrize("name", ["row", "length", "labels", "input_ids", "label:row"])
def test_rows_columns_may_have_any_name(task, write, name):
    (batch,) = read_rows(write("a.jsonl", [{name: "x", "n": 1}, {name: "y", "n": 2}]), task, {"text": name})
    assert (batch.rows, batch.numbers) == ({"text": ["x", "y"]}, [1, 2])
