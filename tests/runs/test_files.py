import os
from pathlib import Path

import pytest

from finetune.runs.files import drop_folder, half_written, scrub, whole_folder, write_atomically


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


def test_files_whole_folder_takes_its_name_when_all_is_there_and_replaces_an_older_one(tmp_path):
    for content in ("old", "new"):
        with whole_folder(tmp_path / "model") as building:
            (building / "weights").write_text(content)
            assert (tmp_path / "model").exists() == (content == "new")
    assert (tmp_path / "model" / "weights").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_files_whole_folder_leaves_nothing_after_an_error(error, tmp_path):
    def build():
        with whole_folder(tmp_path / "model") as building:
            (building / "weights").write_text("half")
            raise error

    with pytest.raises(type(error)):
        build()
    assert os.listdir(tmp_path) == []


def test_files_drop_folder_never_leaves_a_part_under_the_name(tmp_path, monkeypatch):
    (tmp_path / "step-1").mkdir()
    (tmp_path / "step-1" / "weights").write_text("x")
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors=False: None)  # killed before anything is removed
    drop_folder(tmp_path / "step-1")
    assert not (tmp_path / "step-1").exists()
    assert [path.name for path in half_written(tmp_path)] == ["step-1.old.tmp"]
    monkeypatch.undo()
    drop_folder(tmp_path / "step-1")
    assert os.listdir(tmp_path) == []


def test_files_half_written_follows_no_link(tmp_path):
    (tmp_path / "there.tmp").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "a.tmp").symlink_to(tmp_path / "there.tmp")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    assert half_written(tmp_path / "run") == half_written(tmp_path / "link") == half_written(tmp_path / "absent") == ()


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


def test_files_write_bytes_atomically_as_they_are(tmp_path):
    path = tmp_path / "image.png"
    write_atomically(path, b"\x89PNG\r\n\x1a\n")
    assert path.read_bytes() == b"\x89PNG\r\n\x1a\n"
    write_atomically(path, ["a\n", "ä"])
    assert path.read_bytes() == "a\nä".encode()
    assert list(tmp_path.iterdir()) == [path]
