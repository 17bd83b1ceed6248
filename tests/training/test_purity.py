"""A run depends on its recipe alone: not on what the process did before."""

import gc
import logging
import os
import random
import signal
import subprocess
import sys
import threading
import warnings

import pytest

from finetune.errors import FinetuneError
from finetune.training import loop
from tests.marks import slowly
from tests.training.conftest import outcome, read_run

TRAINING = {"num_train_epochs": 1, "learning_rate": 2e-3, "gradient_accumulation_steps": 1}
# Each leaves something behind if anything does: settings of a run that ends well, fails, or is interrupted.
BEFORE = {
    "another seed": ["training.seed=7"],
    "accumulation": ["training.gradient_accumulation_steps=3"],
    "another precision": ["training.mixed_precision=bf16"],
    "another optimizer": ["training.optim=adafactor"],
    "checkpointing": ["training.gradient_checkpointing=true"],
    "a failing run": [],
    "an interrupted run": [],
}


def fail_at_step_3(loss, grad_norm, step, prepared):
    if step == 3:
        raise FinetuneError("the loss is not a finite number")


def leave_traces():
    """Do to the process what other code does between two runs."""
    import numpy
    import torch

    random.seed(99)
    numpy.random.seed(99)
    torch.manual_seed(99)
    torch.rand(3)


def settings_of_the_process():
    import torch

    return {
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "folder": os.getcwd(),
        "torch threads": torch.get_num_threads(),
        "torch dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "matmul": torch.get_float32_matmul_precision(),
        "warnings": list(warnings.filters),
        "log level": logging.getLogger().level,
        "log handlers": list(logging.getLogger().handlers),
        "signals": {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)},
        "threads": {thread.name for thread in threading.enumerate()},
        "umask": os.umask(os.umask(0o022) or 0o022),
    }


@pytest.fixture
def run_once(toy_recipe, finetune, tmp_path):
    """Return a function that runs the toy recipe into a folder of its own and gives (exit code, folder, stderr)."""
    recipe = toy_recipe(dropout=0.2, training=TRAINING)

    def run(name, *settings):
        code, _, err = finetune("run", recipe, f"output_dir={tmp_path / name}", *settings)
        [directory] = (tmp_path / name).iterdir()
        return code, directory, err

    return run


@pytest.mark.parametrize(
    "before",
    ["another precision", "a failing run", *slowly(sorted({*BEFORE} - {"another precision", "a failing run"}))],
)
def test_second_run_of_a_process_equals_the_first(before, run_once, interrupt_after, monkeypatch):
    code, first, err = run_once("first")
    assert code == 0, err
    if before == "an interrupted run":
        interrupt_after(5)
    if before == "a failing run":
        monkeypatch.setattr(loop, "require_finite", fail_at_step_3)
    code, between, err = run_once("between", *BEFORE[before])
    monkeypatch.undo()
    status = {"a failing run": "failed", "an interrupted run": "interrupted"}.get(before, "completed")
    assert read_run(between)["status"] == status, err
    leave_traces()
    code, second, err = run_once("second")
    assert code == 0, err
    assert outcome(second) == outcome(first)
    if status == "completed" and before != "checkpointing":
        assert outcome(between)[0] != outcome(first)[0]  # the settings between did make another run


def test_run_leaves_the_process_as_it_was(run_once):
    run_once("first")  # libraries set themselves up once
    gc.collect()  # a run's workers end with the run's objects
    before = settings_of_the_process()
    code, _, err = run_once("second")
    assert code == 0, err
    gc.collect()
    assert settings_of_the_process() == before


@pytest.mark.slow
def test_run_in_a_used_process_equals_one_in_a_fresh_process(run_once, toy_recipe, tmp_path):
    run_once("other", "training.seed=7", "training.mixed_precision=bf16")
    code, used, err = run_once("used")
    assert code == 0, err
    command = [sys.executable, "-m", "finetune", "run", str(tmp_path / "toy.yaml"), f"output_dir={tmp_path / 'fresh'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    [fresh] = (tmp_path / "fresh").iterdir()
    assert outcome(used) == outcome(fresh)
