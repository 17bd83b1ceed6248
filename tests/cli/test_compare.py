import csv
import io
import json

import pytest

from tests.cli.golden import assert_golden


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("compare_two.txt", ["quickstart", "quickstart-scratch"]),
        ("compare_grid.txt", ["--grid", "FRA", "--sort", "energy_kwh"]),
        ("compare_all.txt", []),
        ("compare_all.md", ["--md"]),
        ("compare_all.csv", ["--csv"]),
        ("compare_interrupted.txt", ["quickstart", "1e1e1e", "0f0f0f", "--baseline", "d4e5f6"]),
        ("compare_unknown_metric.txt", ["--metric", "acuracy"]),
        ("compare_unknown_column.txt", ["--sort", "kwh"]),
        ("compare_unknown_grid.txt", ["--grid", "XXX"]),
    ],
)
def test_compare_golden(transcript, name, arguments):
    assert_golden(name, transcript("compare", *arguments))


def test_compare_json_has_runs_pareto_and_notes(on_stored_runs):
    code, out, _ = on_stored_runs("compare", "--json", "--grid", "100")
    content = json.loads(out)
    assert code == 0
    assert len(content["runs"]) == 4
    assert set(content["pareto"]) < {run["run_id"] for run in content["runs"]}
    assert any("did not finish" in note for note in content["notes"])
    for run in content["runs"]:
        assert run["emissions_g_on_grid"] == pytest.approx(run["energy_kwh"] * 100)


def test_compare_csv_reads_back(on_stored_runs):
    _, out, _ = on_stored_runs("compare", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["status"] for row in rows] == ["completed", "completed", "completed", "stopped"]
    assert rows[2]["energy_kwh_high"] == ""


def test_compare_takes_one_form_of_output(on_stored_runs):
    code, _, err = on_stored_runs("compare", "--json", "--csv")
    assert code == 2
    assert "exclude each other" in err


def test_compare_without_any_finished_run_says_so(tmp_path, capsys):
    from finetune.cli.app import main

    assert main(["compare", "--output-dir", str(tmp_path)]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_compare_last_takes_the_newest_finished_runs(on_stored_runs):
    code, out, _ = on_stored_runs("compare", "--last", "2", "--json")
    assert code == 0
    content = json.loads(out)
    assert sorted(run["run_id"][-6:] for run in content["runs"]) == ["77aa77", "88bb88"]
    _, out, _ = on_stored_runs("compare", "--last", "3", "--json")
    assert {run["status"] for run in json.loads(out)["runs"]} == {"completed", "stopped"}


def test_compare_last_beyond_what_is_there_takes_all_and_says_so(on_stored_runs):
    code, out, err = on_stored_runs("compare", "--last", "9", "--csv")
    assert code == 0
    assert len(out.splitlines()) == 5
    assert "only 4 finished runs" in err


@pytest.mark.parametrize("arguments", [["quickstart", "--last", "2"], ["--last", "0"], ["--last", "two"]])
def test_compare_last_without_a_sense_is_a_usage_error(on_stored_runs, arguments):
    assert on_stored_runs("compare", *arguments)[0] == 2
