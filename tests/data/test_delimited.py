import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finetune.data import delimited
from finetune.data.delimited import read_delimited
from finetune.errors import FinetuneError

# A text ends with what its inner lines never hold: a line that is the whole text of another row would be suspect.
TEXTS = st.text(alphabet='ab ",\n\r\té', max_size=30).map(lambda text: text + ".")
LABELS = st.sampled_from(["label-one", "label-two"])


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(TEXTS, LABELS), min_size=1, max_size=12), end=st.sampled_from(["\n", "\r\n"]))
def test_delimited_reads_what_csv_writes(rows, end, write):
    stream = io.StringIO()
    # With "\n" as its line end, csv leaves a lone "\r" unquoted, and no reader can tell.
    quoting = csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL
    csv.writer(stream, lineterminator=end, quoting=quoting).writerows([("text", "label"), *rows])
    part = read_delimited(write("a.csv", stream.getvalue()), ",")
    table = part.read(["text", "label"])
    assert list(zip(*table.to_pydict().values(), strict=True)) == rows
    lines = io.StringIO(stream.getvalue(), newline="").readlines()
    for (text, _), line in zip(rows, part.lines.to_pylist(), strict=True):
        first = io.StringIO(text, newline="").readline().strip("\r\n").replace('"', '""')
        assert first in lines[line - 1]


def test_delimited_rows_over_several_chunks(write, monkeypatch):
    monkeypatch.setattr(delimited, "CHUNK_ROWS", 3)
    part = read_delimited(write("a.csv", "text,n\n" + "".join(f"t{i},{i}\n" for i in range(10))), ",")
    assert part.read(["n"])["n"].to_pylist() == [str(i) for i in range(10)]
    assert part.lines.to_pylist() == list(range(2, 12))


def test_delimited_label_first_swallows_too(write):
    text = "label,text\n" + "pos,fine\nneg,bad\n" * 5 + 'pos,"lone\nneg,next\npos,last"\n'
    with pytest.raises(FinetuneError, match=r"a\.csv:12: row 11 runs over 3 lines"):
        read_delimited(write("a.csv", text), ",")


def test_delimited_quoted_text_after_the_label_is_no_suspect(write):
    text = "label,text\n" + "pos,fine\nneg,bad\n" * 5 + 'pos,"first line\nsecond line"\n'
    assert read_delimited(write("a.csv", text), ",").rows == 11


def test_delimited_long_span_of_row_like_lines(write):
    text = "text,score\n" + "".join(f"t{i},{i}.5\n" for i in range(5))
    text += '"lone,9.25\n' + "".join(f"u{i},{i}.75\n" for i in range(30)) + 'last",3.5\n'
    with pytest.raises(FinetuneError, match="row 6 runs over 32 lines"):
        read_delimited(write("a.csv", text), ",")


def test_delimited_unnamed_column_of_an_index(write):
    assert read_delimited(write("a.csv", ",text\n0,x\n1,y\n"), ",").columns == ("unnamed_1", "text")


def test_delimited_comma_in_the_header_wins(write):
    assert read_delimited(write("a.csv", "text;more,label\nx;y,a\n"), ",").columns == ("text;more", "label")
