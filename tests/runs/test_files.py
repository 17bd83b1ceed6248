import os
from pathlib import Path

import pytest

from finetune.runs.files import scrub, write_atomically


def test_files_write_atomically_replaces_the_content_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "run.json"
    write_atomically(path, "old")
    write_atomically(path, "new é\n")
    assert path.read_text(encoding="utf-8") == "new é\n"
    assert os.listdir(tmp_path) == ["run.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_files_write_atomically_keeps_the_old_content_when_it_fails_between(tmp_path, monkeypatch, call):
    path = tmp_path / "run.json"
    write_atomically(path, "old")

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new and longer")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["run.json"]


def test_files_write_atomically_gives_the_usual_permissions_and_keeps_those_of_the_old_file(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("")
    written = tmp_path / "written"
    write_atomically(written, "")
    assert written.stat().st_mode == plain.stat().st_mode
    written.chmod(0o600)
    write_atomically(written, "again")
    assert written.stat().st_mode & 0o777 == 0o600


def test_files_scrub_takes_out_the_home_path_wherever_it_stands(monkeypatch):
    monkeypatch.setenv("HOME", "/home/maria")
    value = {
        "command": "finetune run /home/maria/recipe.yaml x=/home/maria",
        "nested": [{"path": Path("/home/maria/data")}, ("/home/mariana/data", "/mnt/home/maria/data")],
    }
    assert scrub(value) == {
        "command": "finetune run ~/recipe.yaml x=~",
        "nested": [{"path": "~/data"}, ["/home/mariana/data", "/mnt/home/maria/data"]],
    }


def test_files_scrub_takes_out_the_home_path_behind_a_climb(monkeypatch):
    monkeypatch.setenv("HOME", "/home/maria")
    assert scrub("finetune run ../../home/maria/recipe.yaml") == "finetune run ~/recipe.yaml"
    assert scrub("x=./../home/maria") == "x=~"
    for other in ("..x/home/maria/a", "a../home/maria/a", ".../home/maria/a", "../../home/mariana"):
        assert scrub(other) == other


def test_files_scrub_redacts_hub_tokens_and_leaves_words_alone():
    token = "hf_" + "aB3" * 11
    assert token not in scrub(f"hub.token={token}")
    assert scrub(f"Authorization: Bearer {'x' * 30}") == "Authorization: Bearer (redacted)"
    assert scrub("hf_transfer and HF_TOKEN") == "hf_transfer and HF_TOKEN"


def test_files_scrub_writes_what_json_cannot_say_as_null():
    assert scrub([float("nan"), float("inf"), 1.5, True, None]) == [None, None, 1.5, True, None]
