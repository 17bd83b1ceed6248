import csv
import io

from finetune.runs.tables import Column, column_width, csv_table, markdown_table, shorten, text_table, text_width


def test_tables_text_aligns_lines_of_every_cell():
    table = text_table([Column("run", ["a\nb", "long name"]), Column("kWh\nunit", ["1.5", "10"], right=True)])
    assert table.splitlines() == [
        "run         kWh",
        "           unit",
        "─────────  ────",
        "a           1.5",
        "b",
        "long name    10",
    ]


def test_tables_text_counts_wide_and_combining_letters():
    assert text_width("日本") == 4
    assert text_width("e\u0301") == 1
    assert shorten("日本語", 5) == "日本…"
    assert shorten("short", 5) == "short"


def test_tables_markdown_lets_no_cell_break_out():
    table = markdown_table([Column("a|b", ["x | y\nz", "<script>alert(1)</script>", "[link](http://x) *b* `c`"])])
    assert table.splitlines() == [
        "| a\\|b |",
        "|---|",
        "| x \\| y<br>z |",
        "| &lt;script&gt;alert(1)&lt;/script&gt; |",
        "| \\[link\\](http://x) \\*b\\* \\`c\\` |",
    ]


def test_tables_csv_reads_back_and_runs_no_formula():
    text = csv_table(["a", "b"], [['say "x", y', None], ["=1+1", -2.5]])
    assert list(csv.reader(io.StringIO(text))) == [["a", "b"], ['say "x", y', ""], ["'=1+1", "-2.5"]]


def test_tables_no_cell_steers_the_terminal():
    name = "a\x1b[31m\tb\u202e\x9b2J"
    column = Column("run\x07", [name])
    assert text_table([column]).splitlines() == ["run", "─" * 9, "a[31m b2J"]
    assert column_width(column) == 9
    assert markdown_table([column]).splitlines()[2] == "| a\\[31m b2J |"
    assert csv_table(["run"], [[name]]) == "run\na[31m b2J"
    assert shorten("a\nb\x1b[0m", 20) == "a b[0m"


def test_tables_shorten_cuts_to_the_width_of_wide_letters_and_of_a_very_long_text():
    assert shorten("日本語です", 6) == "日本…"
    assert shorten("abc", 3) == "abc"
    assert shorten("x" * 1_000_000, 5) == "xxxx…"
