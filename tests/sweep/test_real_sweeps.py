"""Real sweeps of the toy recipe through the command line: killed in the middle, two workers, pruning."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from finetune.runs.record import list_runs

ROOT = Path(__file__).resolve().parents[2]


def start(path, *options):
    """Start a worker as a user does, with its output in a file beside the sweep."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "FINETUNE_HOST_FOLDER": str(path.parent / "host")}
    said = (path.parent / f"said-{time.monotonic_ns()}.txt").open("w")
    command = [sys.executable, "-m", "finetune", "sweep", str(path), "--json", *options]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=said,
        text=True,
        env=environment,
        cwd=path.parent,
        start_new_session=True,
    )


def finish(worker, path):
    """Wait for a worker and return what it printed."""
    out, _ = worker.communicate(timeout=900)
    assert worker.returncode == 0, said_in(path)
    return json.loads(out), said_in(path)


def said_in(path):
    """Return what all workers have said so far."""
    return "\n".join(file.read_text() for file in sorted(path.parent.glob("said-*.txt")))


@pytest.mark.slow
def test_sweep_of_four_trials_is_four_ordinary_runs(sweep_file, tmp_path):
    path = sweep_file(objective=["accuracy"])
    (tmp_path / "host").mkdir()
    found, _ = finish(start(path), path)
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 4
    runs, _ = list_runs(tmp_path / "runs")
    assert len(runs) == 4
    for run in runs:
        assert (run.group, run.status, run.tags) == ("search", "completed", ("trial",))
        assert list(run.metrics) == ["validation"]  # the toy data has a test split, which nobody looked at
        assert "test" not in run.dataset["rows"]
        assert run.main_metric["split"] == "validation"
    assert found["energy_kwh"] == pytest.approx(sum(run.energy_kwh() for run in runs))


@pytest.mark.slow
@pytest.mark.parametrize(("storage", "trials"), [(None, 6), ("sqlite:///{folder}/sweep.db", 3)])
def test_sweep_killed_and_resumed_by_two_workers_makes_each_trial_once_within_its_budget(
    storage, trials, sweep_file, tmp_path
):
    path = sweep_file(
        objective=["accuracy", "energy_kwh"], sampler="random", trials=trials, max_energy_kwh=0.5,
        storage=storage.format(folder=tmp_path) if storage else None,
        space={"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    )  # fmt: skip
    (tmp_path / "host").mkdir()
    killed = start(path)
    wait_for(lambda: any((tmp_path / "runs").glob("search-001-*/log.jsonl")), killed, path)
    os.killpg(killed.pid, signal.SIGKILL)  # the worker and its trial
    killed.communicate()
    workers = [start(path), start(path)]
    reports = [finish(worker, path) for worker in workers]
    found = max(
        (report for report, _ in reports), key=lambda each: sum(t["state"] == "complete" for t in each["trials"])
    )
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * trials
    runs, _ = list_runs(tmp_path / "runs")
    assert len(runs) == trials  # the killed one went on in its own folder
    assert len({run.recipe["training"]["learning_rate"] for run in runs}) == trials
    assert sum(len(run.emissions["segments"]) for run in runs) == trials + 1
    assert "its worker is gone; it goes on" in reports[0][1]
    assert not any(run.emissions["shared_with"] for run in runs)  # the workers took turns
    assert sum(run.energy_kwh() for run in runs) < found["budget_kwh"] < 0.5
    assert found["metered_twice_kwh"] == 0
    values = {trial["trial"]: trial["values"] for trial in found["trials"]}
    for label, (accuracy, kwh) in values.items():
        beaten = any(a >= accuracy and k <= kwh and (a, k) != (accuracy, kwh) for a, k in values.values())
        assert (label in found["best"]) is not beaten


def wait_for(seen, worker, path):
    """Wait until something is to be seen; the worker must live meanwhile."""
    deadline = time.monotonic() + 400
    while not seen():
        assert worker.poll() is None, said_in(path)
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_sweep_goes_on_after_a_kill_in_a_forecast_and_one_of_a_worker_alone(sweep_file, tmp_path):
    path = sweep_file(sampler="random", trials=1, max_energy_kwh=0.5)
    (tmp_path / "host").mkdir()
    first = start(path)
    wait_for(lambda: "trying the recipe" in said_in(path), first, path)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = start(path)
    wait_for(lambda: any((tmp_path / "runs").glob("search-000-*/log.jsonl")), second, path)
    second.kill()  # its trial is told, saves its state and ends
    second.communicate()
    found, said = finish(start(path), path)
    assert [trial["state"] for trial in found["trials"]] == ["complete"]
    [run], _ = list_runs(tmp_path / "runs")
    assert len(run.emissions["segments"]) == 2
    assert said.count("its worker is gone; it goes on") == 2
    assert not run.emissions["shared_with"]
    assert found["forecasts_kwh"] > 0.5 / 10  # of the one that was killed what was held back for it
    assert found["budget_kwh"] < 0.5


@pytest.mark.slow
def test_sweep_prunes_what_falls_behind(sweep_file, tmp_path):
    # The first learns; the others, which hardly move, are asked after their first evaluation.
    space = {
        "training.num_train_epochs": 8,
        "training.eval_strategy": "steps",
        "training.eval_steps": 64,  # when the first has learnt
        "training.per_device_train_batch_size": 2,
        "training.learning_rate": [3e-3, 1e-9, 2e-9],
    }
    path = sweep_file(pruning="successive_halving", space=space)
    (tmp_path / "host").mkdir()
    found, _ = finish(start(path, "--num-processes", "2"), path)
    assert [trial["state"] for trial in found["trials"]] == ["complete", "pruned", "pruned"]
    assert found["best"] == [0]
    assert found["saved_by_pruning_kwh"] > 0
    pruned = [run for run in list_runs(tmp_path / "runs")[0] if run.status == "stopped"]
    assert all(len(run.timeline) == 1 and run.status_reason.startswith("pruned: accuracy") for run in pruned)
    assert len(pruned) == 2
