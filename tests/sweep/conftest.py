"""Sweeps over the toy recipe; what starts the processes is played where only the order of things matters."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from finetune.recipe.load import load_recipe
from finetune.runs.record import Run, new_run_directory, read_run, write_run
from finetune.sweep.account import Amount, trials
from finetune.sweep.definition import read_sweep
from finetune.sweep.start import sweep_folder
from finetune.sweep.store import open_store
from finetune.sweep.trial import Conditions
from finetune.sweep.worker import Worker
from finetune.training.recorded import recipe_as_recorded
from finetune.training.words import Request
from tests.runs.builders import make_emissions

FORECAST = Amount(0.002, 0.2), Amount(0.0001, 0.01)
SPACE = {"training.learning_rate": [1e-4, 1e-3], "training.weight_decay": [0.0, 0.1]}


@pytest.fixture
def sweep_file(toy_recipe, tmp_path):
    """Return a function that writes a sweep over the toy recipe and gives its path: sweep_file(sampler="grid")."""
    toy_recipe()

    def write(**keys):
        content = {"recipe": "toy.yaml", "objective": ["accuracy"], "sampler": "grid", "space": SPACE, **keys}
        path = tmp_path / "search.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write


@pytest.fixture
def play(tmp_path):
    """Play the processes of runs: each writes the record of a finished run; `endings` changes that by trial label.

    An ending is a function of the Run that returns (exit code, signal) after it has changed the record, or raises.
    """
    played = SimpleNamespace(commands=[], endings={}, kwh=0.001, shared_with=[])

    def launch(words, options, count, shows_result):
        played.commands.append((list(words), dict(options)))
        settings = [word for word in words[1:] if "=" in word]
        recipe = load_recipe(words[0], settings).recipe
        if options["resume"]:
            before = read_run(next(tmp_path / "runs" / word for word in words[1:] if "=" not in word))
            directory, group = before.directory, before.group
        else:
            directory, group = new_run_directory(tmp_path / "runs", recipe.name), options["group"]
        accuracy = 0.5 + 100 * recipe.training.learning_rate + recipe.training.weight_decay
        score = {"value": accuracy, "low": None, "high": None, "n": 16}
        kwh = played.kwh * (1 + recipe.training.weight_decay)
        run = Run(
            directory.name, recipe.name, status="completed", group=group, tags=tuple(recipe.tags),
            recipe=recipe_as_recorded(recipe, directory), metrics={"validation": {"accuracy": score}},
            main_metric={"name": "accuracy", **score, "split": "validation", "greater_is_better": True},
            emissions={**make_emissions({"gpu": kwh}), "shared_with": played.shared_with}, directory=directory,
            created_at="2026-01-01T00:00:00Z",
        )  # fmt: skip
        write_run(run, directory)
        label = int(re.search(r"-(\d{3})(-s\d+)?$", recipe.name)[1])
        ending = played.endings.pop(label, None)
        return ending(run) if ending else (0, None)

    played.launch = launch
    return played


@pytest.fixture
def new_worker(play):
    """Return a function that makes a worker of a sweep file whose runs are played; a trial is held to need 2 Wh."""

    def make(path, allow_shared=True, forecast=lambda sweep, entry: FORECAST):
        sweep = read_sweep(path)
        store, conditions = open_store(sweep, sweep_folder(sweep)), Conditions(Request(()), allow_shared)
        return Worker(store, conditions, play.launch, forecast)

    return make


def changed(status, reason=None, code=0, signum=None, **changes):
    """Return an ending that leaves a record with this status."""

    def end(run):
        write_run(replace(run, status=status, status_reason=reason, **changes), run.directory)
        return code, signum

    return end


def settings_of(command):
    """Return the settings of a played command."""
    return {word.partition("=")[0]: json.loads(word.partition("=")[2]) for word in command[0] if "training." in word}


def states(worker):
    """Return the states of the trials by their labels."""
    return [entry.state for entry in trials(worker.store.entries())]


def killed_worker():
    """Return the sign of life of a process that is gone."""
    code = "import json; from finetune.runs.liveness import sign_of_life; print(json.dumps(sign_of_life()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
