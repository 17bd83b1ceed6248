"""A study with real runs in processes of their own, stopped in the middle and gone on with."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml

from finetune.cli.app import main
from finetune.runs.record import list_runs


@pytest.mark.slow
def test_study_is_stopped_goes_on_and_writes_page_and_charts(toy_recipe, tmp_path, capsys):
    toy_recipe()
    content = {
        "recipe": "toy.yaml", "rows": [8, 16], "seeds": [1],
        "strategies": {"full": {"training.learning_rate": [1e-3, 5e-3]}, "scratch": {"model.init": "scratch"}},
        "settings": {"training.num_train_epochs": 3, "training.early_stopping_patience": 1,
                     "training.save_strategy": "no", "training.load_best_model_at_end": True},
    }  # fmt: skip
    path, runs = tmp_path / "pay.yaml", tmp_path / "runs"
    path.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "finetune", "study", str(path), "--json"]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 300
    while not list(runs.glob("pay-full-lr0.005-*/run.json")):
        assert study.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    study.send_signal(signal.SIGTERM)
    assert study.wait(120) == 143
    files = ["--html", str(tmp_path / "pay.html"), "--plot", str(tmp_path / "pay.svg")]
    assert main(["study", str(path), "--json", *files]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == 0
    assert [(cell["strategy"], cell["rows"]) for cell in found["cells"]] == [
        ("full", 8), ("full", 16), ("scratch", 8), ("scratch", 16),
    ]  # fmt: skip
    assert all(cell["energy_kwh"] for cell in found["cells"])
    assert {each["axis"] for each in found["reach"]} == {"rows", "kwh"}
    made = list_runs(runs)[0]
    assert len(made) == found["runs"] == 6
    assert len({run.name for run in made}) == 6
    searched = [run for run in made if "search" in run.tags]
    assert len(searched) == 2
    assert all("test" not in run.metrics for run in searched)
    assert "Score against training rows" in (tmp_path / "pay.html").read_text()
    assert (tmp_path / "pay.svg").read_text().startswith("<svg")
    assert not any((run.directory / "checkpoints").exists() for run in made if run.directory)
    assert main(["study", str(path), "--md", "--plot", str(tmp_path / "pay.png")]) == 0
    assert (tmp_path / "pay.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", "pay", "--output-dir", str(runs)]) == 0
    assert len(list_runs(runs)[0]) == 6
