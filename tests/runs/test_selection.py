import pytest

from finetune.errors import FinetuneError
from finetune.runs.selection import Selection, is_pattern, matching, selected
from tests.runs.builders import make_run


def on(day, run_id, tags=(), path="data.csv", name=None, group=None):
    from dataclasses import replace

    run = make_run(run_id, tags=tuple(tags), dataset={"path": path, "name": name}, group=group)
    return replace(run, created_at=f"2026-11-{day:02}T10:00:00Z")


RUNS = (
    on(1, "a", ["x"], "package:finetune/sample_data/shop_messages"),
    on(2, "b", ["x", "y"], "nyu-mll/glue", "sst2", "g-1"),
    on(3, "c", [], "nyu-mll/glue", "cola", "g-1"),
)


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), "abc"),
        (Selection(tags=("x",)), "ab"),
        (Selection(tags=("x", "y")), "b"),
        (Selection(since="2026-11-02"), "bc"),
        (Selection(since="2026-11-02T10:00"), "bc"),
        (Selection(since="2026-11-02T10:01"), "c"),
        (Selection(since="2026-11-02T12:00+02:00"), "bc"),
        (Selection(dataset="shop_messages"), "a"),
        (Selection(dataset="nyu-mll/glue"), "bc"),
        (Selection(dataset="nyu-mll/glue/sst2"), "b"),
        (Selection(dataset="s*"), "ab"),
        (Selection(last=2), "bc"),
        (Selection(tags=("x",), last=1), "b"),
    ],
)
def test_selection_takes_what_fits(selection, expected):
    assert "".join(run.run_id for run in selected(RUNS, selection)[0]) == expected


def test_selection_of_more_than_there_are_says_so():
    assert selected(RUNS, Selection(last=9))[1] == ("--last 9: there are only 3 finished runs",)


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "01.11.2026", ""])
def test_selection_refuses_what_is_no_date(since):
    with pytest.raises(FinetuneError, match="no date"):
        selected(RUNS, Selection(since=since))


def test_selection_by_pattern_and_by_group():
    assert is_pattern("quick*")
    assert not is_pattern("quickstart")
    assert [run.run_id for run in matching(RUNS, "[ab]")] == ["a", "b"]
    assert [run.run_id for run in matching(RUNS, "g-1")] == ["b", "c"]
