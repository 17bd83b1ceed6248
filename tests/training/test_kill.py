"""Real signals to real processes: nothing is lost, every run directory stays readable, resume is exact."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.conftest import outcome, read_run

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
TRAINING = {
    "num_train_epochs": 6, "per_device_train_batch_size": 4, "learning_rate": 1e-3, "save_strategy": "steps",
    "save_steps": 3, "logging_steps": 1, "eval_strategy": "epoch",
}  # fmt: skip


def start(recipe, *arguments):
    command = [sys.executable, "-m", "finetune", "run", str(recipe), *arguments]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def call(*arguments):
    command = [sys.executable, "-m", "finetune", *map(str, arguments)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def wait_for_step(runs, step, process):
    """Wait until the run has logged so many steps, and return its directory."""
    for _ in range(12000):
        logs = list(runs.glob("*/log.jsonl"))
        if logs and f'"step": {step},' in logs[0].read_text():
            return logs[0].parent
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError(f"step {step} was never logged")


@pytest.mark.parametrize(
    ("signum", "code", "name"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "SIGINT"), (signal.SIGHUP, 129, "SIGHUP")],
)
@pytest.mark.slow
def test_signal_saves_the_state_and_resume_goes_on(signum, code, name, toy_recipe, tmp_path):
    recipe = toy_recipe(dropout=0.1, training=TRAINING)
    process = start(recipe)
    directory = wait_for_step(tmp_path / "runs", 5, process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=600)
    assert process.returncode == code
    assert f"{name}: the state is saved. Continue with: finetune run --resume" in err
    assert read_run(directory)["status"] == "interrupted"
    assert read_run(directory)["status_reason"] == f"{name} received"
    whole = call("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    resumed = call("run", "--resume", directory)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(directory) == outcome(next((tmp_path / "whole").iterdir()))


@pytest.mark.parametrize("freeze", ["backbone", 1])
@pytest.mark.slow
def test_killed_run_with_frozen_parts_leaves_no_file_behind_and_resumes_exactly(freeze, toy_recipe, tmp_path):
    recipe = toy_recipe(dropout=0.1, model={"freeze": freeze}, training=TRAINING)
    process = start(recipe)
    directory = wait_for_step(tmp_path / "runs", 20, process)
    process.kill()
    process.wait()
    assert not list(directory.glob("features-*"))
    whole = call("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    resumed = call("run", "--resume", directory)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(directory) == outcome(next((tmp_path / "whole").iterdir()))


@pytest.mark.slow
def test_killed_run_is_listed_shown_and_resumed_with_the_energy_of_both_lives(toy_recipe, tmp_path):
    recipe = toy_recipe(dropout=0.1, training=TRAINING, emissions={"measure_power_secs": 1})
    process = start(recipe)
    directory = wait_for_step(tmp_path / "runs", 20, process)
    process.kill()
    process.wait()
    listed = call("list", "--output-dir", tmp_path / "runs", "--json")
    [run] = json.loads(listed.stdout)["runs"]
    assert run["status"] == "interrupted"
    before = json.loads(call("show", directory, "--json").stdout)
    assert before["status_reason"] == "the process ended without writing its record"
    assert before["emissions"]["energy_kwh"] > 0
    resumed = call("run", recipe, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    after = read_run(directory)
    assert after["status"] == "completed"
    assert [segment["energy_kwh"] > 0 for segment in after["emissions"]["segments"]] == [True, True]
    assert after["emissions"]["energy_kwh"] > before["emissions"]["energy_kwh"]
    assert after["emissions"]["repeated_work_kwh"] < before["emissions"]["energy_kwh"]
    whole = call("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    assert outcome(directory) == outcome(next((tmp_path / "whole").iterdir()))


def kill_suite(*arguments):
    """Run tests/training/kill_suite.py as a process of its own, which forks the lives that are killed."""
    command = [sys.executable, "-m", "tests.training.kill_suite", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_kills_at_random_moments_lose_nothing():
    kills = os.environ.get("KILLS", "25")
    assert f"{kills} kills" in kill_suite(kills)


@pytest.mark.slow
def test_kills_before_operations_on_files_lose_nothing():
    stride = os.environ.get("KILL_STRIDE", "12")  # 1: before every one
    assert "operations on files" in kill_suite("every-operation", stride)


@pytest.mark.slow
def test_lost_terminal_ends_no_run(toy_recipe, tmp_path):
    """A terminal that closes: what is said goes nowhere, SIGHUP saves the state unless nohup has it ignored."""
    recipe = toy_recipe(dropout=0.1, training=TRAINING)
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "finetune", "run", str(recipe), f"output_dir={tmp_path / 'whole'}"]
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=end, stderr=end, start_new_session=True)
    os.close(end)
    directory = wait_for_step(tmp_path / "whole", 2, process)
    os.close(terminal)
    assert process.wait(600) == 0
    assert read_run(directory)["status"] == "completed"

    ignoring = ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", *command[:-1], f"output_dir={tmp_path / 'nohup'}"]
    process = subprocess.Popen(ignoring, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ignored = wait_for_step(tmp_path / "nohup", 2, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(600) == 0
    assert outcome(ignored) == outcome(directory)


@pytest.mark.slow
def test_stderr_that_nobody_reads_ends_no_run(toy_recipe, tmp_path):
    process = start(toy_recipe(training=TRAINING))
    directory = wait_for_step(tmp_path / "runs", 2, process)
    process.stderr.close()
    process.stdout.close()
    assert process.wait(600) == 0
    assert read_run(directory)["status"] == "completed"


@pytest.mark.slow
def test_resume_of_a_living_run_is_refused(toy_recipe, tmp_path):
    recipe = toy_recipe(training={**TRAINING, "num_train_epochs": 200})
    process = start(recipe)
    try:
        directory = wait_for_step(tmp_path / "runs", 3, process)
        refused = call("run", "--resume", directory)
        assert refused.returncode == 1
        assert "still running" in refused.stderr or "is running" in refused.stderr or "is alive" in refused.stderr
    finally:
        process.kill()
        process.wait()
