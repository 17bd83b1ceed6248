"""Runs of the toy task, in this process and through the real command line."""

import json
import signal

import pytest
from safetensors.torch import load_file

from finetune.cli.app import main
from finetune.training.interrupts import Interrupted
from finetune.training.session import Session


@pytest.fixture
def finetune(capsys):
    """Return a function that runs the command line and gives (exit code, stdout, stderr)."""

    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def only_run(tmp_path):
    """Return a function that finds the one run directory under tmp_path/runs."""

    def find():
        [directory] = (tmp_path / "runs").iterdir()
        return directory

    return find


@pytest.fixture
def interrupt_after(monkeypatch):
    """Return a function that lets a signal come at the n-th safe place of the next run's training."""

    def arm(checks: int, signum: int = signal.SIGTERM):
        calls = iter(range(1, 10**9))

        def check(self):
            if self.interrupts._deferring and next(calls) == checks:
                raise Interrupted(signum)

        monkeypatch.setattr(Session, "check", check)

    return arm


def read_log(directory):
    """Return the lines of log.jsonl without what depends on the clock."""
    clock = {"rows_per_second", "energy_kwh", "emissions_g", "elapsed_s"}
    lines = [json.loads(line) for line in (directory / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in clock} for line in lines]


def read_run(directory):
    """Return run.json as it stands on disk."""
    return json.loads((directory / "run.json").read_text())


def outcome(directory):
    """Return what a run computed: its log without the clock, its weights, its scores."""
    weights = load_file(directory / "model" / "model.safetensors")
    return (
        read_log(directory),
        {name: value.tolist() for name, value in weights.items()},
        read_run(directory)["metrics"],
    )
