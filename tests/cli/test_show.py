import json
from pathlib import Path

import pytest

from tests.cli.golden import assert_golden


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("show_quickstart.txt", ["quickstart", "--timeline"]),
        ("show_interrupted.txt", ["1e1e1e"]),
        ("show_failed.txt", ["0f0f0f", "--timeline"]),
        ("show_gpu_unread.txt", ["77aa77"]),
        ("show_target.txt", ["quickstart", "--target", "accuracy=0.8"]),
        ("show_unknown_target.txt", ["quickstart", "--target", "acuracy=0.8"]),
        ("show_ambiguous.txt", ["sst2"]),
        ("show_misspelt.txt", ["quikstart"]),
    ],
)
def test_show_golden(transcript, name, arguments):
    assert_golden(name, transcript("show", *arguments))


def test_show_json_is_the_record(on_stored_runs):
    code, out, err = on_stored_runs("show", "a1b2c3", "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(Path("stored_runs/quickstart-20260901T120000Z-a1b2c3/run.json").read_text())


def test_show_json_with_a_target_adds_where_it_was_reached(on_stored_runs):
    code, out, _ = on_stored_runs("show", "a1b2c3", "--json", "--target", "accuracy=0.8")
    assert code == 0
    assert json.loads(out)["energy_to_target"]["reached"]["energy_kwh"] == [6.187e-05, 0.00012374]


def test_show_refuses_a_target_that_is_none(on_stored_runs):
    code, out, err = on_stored_runs("show", "a1b2c3", "--target", "accuracy>0.8")
    assert (code, out) == (2, "")
    assert "accuracy=0.8" in err


def test_show_html_is_written_beside_the_text(on_stored_runs, tmp_path):
    page = tmp_path / "page.html"
    code, out, err = on_stored_runs("show", "a1b2c3", "--html", str(page))
    assert (code, out.splitlines()[0]) == (0, "quickstart: completed")
    assert err.startswith(f"wrote {page} (")
    assert "<h1>quickstart</h1>" in page.read_text(encoding="utf-8")
    assert on_stored_runs("show", "a1b2c3", "--html", str(tmp_path / "page.txt"))[0] == 1
