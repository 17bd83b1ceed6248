from dataclasses import replace
from pathlib import Path

import pytest

from finetune.runs.cleaning import never_began, removable_checkpoints, remove
from finetune.runs.liveness import claim_run
from finetune.runs.record import write_run
from tests.runs.builders import make_run


@pytest.fixture
def run_with_checkpoints(tmp_path):
    def make(name="a", status="completed"):
        directory = tmp_path / name
        for folder, size in {
            "checkpoints/step-1": 100,
            "checkpoints/step-2": 100,
            "checkpoints/best": 50,
            "model": 70,
        }.items():
            (directory / folder).mkdir(parents=True)
            (directory / folder / "weights").write_bytes(b"x" * size)
        run = replace(make_run(name), status=status, directory=directory)
        write_run(run, directory)
        return run

    return make


def left(run):
    return sorted(str(path.relative_to(run.directory)) for path in run.directory.rglob("*") if path.is_dir())


def test_cleaning_removes_checkpoints_and_never_the_model(run_with_checkpoints):
    run = run_with_checkpoints()
    (found,), notes = removable_checkpoints([run])
    assert (found.size, notes) == (250, ())
    remove(found)
    assert left(run) == ["model"]
    assert removable_checkpoints([run]) == ((), ())


def test_cleaning_can_keep_the_best_weights(run_with_checkpoints):
    run = run_with_checkpoints()
    (found,), _ = removable_checkpoints([run], keep_best=True)
    assert found.size == 200
    remove(found)
    assert left(run) == ["checkpoints", "checkpoints/best", "model"]


@pytest.mark.parametrize("status", ["interrupted", "failed", "running"])
def test_cleaning_spares_runs_that_can_be_resumed_unless_told(run_with_checkpoints, status):
    run = run_with_checkpoints(status=status)
    found, notes = removable_checkpoints([run])
    assert found == ()
    assert "can be resumed" in notes[0]
    assert len(removable_checkpoints([run], unfinished_too=True)[0]) == 1


def test_cleaning_always_spares_a_living_run(run_with_checkpoints):
    run = run_with_checkpoints(status="running")
    claim_run(run.directory)
    found, notes = removable_checkpoints([run], unfinished_too=True)
    assert found == ()
    assert "alive" in notes[0]


def test_cleaning_follows_no_link_out_of_the_run(run_with_checkpoints, tmp_path):
    run = run_with_checkpoints()
    outside = tmp_path / "outside"
    outside.mkdir()
    (run.directory / "checkpoints").rename(tmp_path / "moved")
    (run.directory / "checkpoints").symlink_to(outside)
    assert removable_checkpoints([run]) == ((), ())


def test_cleaning_notes_checkpoints_that_cannot_be_read(tmp_path, monkeypatch):
    (tmp_path / "checkpoints").mkdir()

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "iterdir", refuse)
    found, notes = removable_checkpoints([replace(make_run(), directory=tmp_path)], keep_best=True)
    assert found == ()
    assert notes == (f"{tmp_path / 'checkpoints'}: cannot be read: Permission denied",)


def half_written(run):
    for folder in ("checkpoints/step-3.tmp", "model.tmp"):
        (run.directory / folder).mkdir()
        (run.directory / folder / "weights").write_bytes(b"x" * 10)
    (run.directory / ".run.json.abc.tmp").write_bytes(b"x" * 5)


def test_cleaning_takes_what_a_kill_left_half_written_and_keeps_what_can_be_resumed(run_with_checkpoints):
    run = run_with_checkpoints(status="interrupted")
    half_written(run)
    (found,), notes = removable_checkpoints([run])
    assert found.size == 25
    assert "can be resumed" in notes[0]
    remove(found)
    assert left(run) == ["checkpoints", "checkpoints/best", "checkpoints/step-1", "checkpoints/step-2", "model"]
    assert not list(run.directory.glob(".*.tmp"))


def test_cleaning_takes_checkpoints_and_leftovers_of_a_finished_run_once(run_with_checkpoints):
    run = run_with_checkpoints()
    half_written(run)
    (found,), _ = removable_checkpoints([run])
    assert found.size == 275
    remove(found)
    assert left(run) == ["model"]


def test_cleaning_counts_weights_with_two_names_once_and_keeps_the_newest_best(run_with_checkpoints):
    run = run_with_checkpoints()
    checkpoints = run.directory / "checkpoints"
    (checkpoints / "best").rename(checkpoints / "best-00000001")
    (checkpoints / "best-00000002").mkdir()
    (checkpoints / "best-00000002" / "weights").hardlink_to(checkpoints / "step-2" / "weights")
    (found,), _ = removable_checkpoints([run])
    assert found.size == 250
    (found,), _ = removable_checkpoints([run], keep_best=True)
    remove(found)
    assert left(run) == ["checkpoints", "checkpoints/best-00000002", "model"]


def test_cleaning_finds_runs_that_were_killed_before_their_first_record(tmp_path):
    for name, files in {
        "a-20260901T120000Z-a1b2c3": ["recipe.yaml", "alive.json", "energy.jsonl", ".run.json.x1.tmp"],
        "b-20260901T120000Z-a1b2c3": ["recipe.yaml", "run.json"],
        "c-20260901T120000Z-a1b2c3": ["thesis.tex"],
        "my-folder": [],
        "d-20260901T120000Z-a1b2c3": [],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("{}")
    (tmp_path / "e-20260901T120000Z-a1b2c3").mkdir()
    claim_run(tmp_path / "e-20260901T120000Z-a1b2c3")  # one that is starting
    found = never_began(tmp_path)
    assert [entry.run_id[0] for entry in found] == ["a", "d"]
    assert found[0].size == 8
    for entry in found:
        remove(entry)
    assert never_began(tmp_path) == ()
