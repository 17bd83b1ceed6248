import json

from finetune.cli.app import main
from tests.cli.golden import assert_golden


def test_list_golden(transcript):
    assert_golden("list.txt", transcript("list", "--total"))


def test_list_json_has_runs_notes_and_total(on_stored_runs):
    code, out, _ = on_stored_runs("list", "--json")
    content = json.loads(out)
    assert code == 0
    assert [run["status"] for run in content["runs"]][2:4] == ["failed", "interrupted"]
    assert len(content["notes"]) == 4
    assert content["total"]["runs"] == 6


def test_list_of_a_missing_or_an_empty_folder_says_how_to_begin(tmp_path, capsys):
    assert main(["list", "--output-dir", str(tmp_path / "none")]) == 1
    assert "finetune run quickstart" in capsys.readouterr().err
    assert main(["list", "--output-dir", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "finetune run quickstart" in captured.err
