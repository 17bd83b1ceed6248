import io
import shutil

import pytest

from finetune.cli.app import main
from tests.runs.builders import STORED


@pytest.fixture
def runs_with_checkpoints(tmp_path):
    shutil.copytree(STORED, tmp_path / "runs")
    for directory in (tmp_path / "runs").glob("*-*"):
        if (directory / "run.json").exists():
            (directory / "checkpoints" / "step-1").mkdir(parents=True)
            (directory / "checkpoints" / "step-1" / "weights").write_bytes(b"x" * 1000)
            (directory / "model").mkdir()
    return tmp_path / "runs"


def left(runs):
    return sorted(path.parent.name[-6:] for path in runs.glob("*/checkpoints"))


def test_clean_dry_run_removes_nothing(runs_with_checkpoints, capsys):
    before = left(runs_with_checkpoints)
    assert main(["clean", "--dry-run", "--output-dir", str(runs_with_checkpoints)]) == 0
    assert "Would free 4.0 kB in 4 runs." in capsys.readouterr().out
    assert left(runs_with_checkpoints) == before


def test_clean_removes_checkpoints_of_finished_runs_only(runs_with_checkpoints, capsys):
    assert main(["clean", "--yes", "--output-dir", str(runs_with_checkpoints)]) == 0
    captured = capsys.readouterr()
    assert "Freed 4.0 kB in 4 runs." in captured.out
    assert captured.err.count("can be resumed") == 2
    assert left(runs_with_checkpoints) == ["0f0f0f", "1e1e1e", "bad000", "future"]
    assert len(list(runs_with_checkpoints.glob("*/model"))) == 8
    assert main(["clean", "--all", "--yes", "--output-dir", str(runs_with_checkpoints)]) == 0
    assert left(runs_with_checkpoints) == ["bad000", "future"]


def test_clean_takes_the_runs_that_are_named(runs_with_checkpoints, capsys):
    assert main(["clean", "quickstart", "a1b2c3", "--yes", "--output-dir", str(runs_with_checkpoints)]) == 0
    assert "Freed 1.0 kB in 1 run." in capsys.readouterr().out
    assert "a1b2c3" not in left(runs_with_checkpoints)


def test_clean_does_nothing_when_nobody_can_be_asked(runs_with_checkpoints, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    before = left(runs_with_checkpoints)
    assert main(["clean", "--output-dir", str(runs_with_checkpoints)]) == 1
    assert "--yes" in capsys.readouterr().err
    assert left(runs_with_checkpoints) == before
