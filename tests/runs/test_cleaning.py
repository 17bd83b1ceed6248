from dataclasses import replace
from pathlib import Path

import pytest

from finetune.runs.cleaning import removable_checkpoints, remove
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
