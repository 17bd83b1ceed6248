"""Studies whose runs are played: what a strategy scores on how many rows is a formula, so the answers are known."""

import json
import math
import random
from types import SimpleNamespace

import pytest
import yaml

from finetune.recipe.load import load_recipe
from finetune.runs.record import Run, new_run_directory, read_run, write_run
from finetune.study.definition import read_study
from finetune.study.plan import read_state
from finetune.study.results import make_results
from finetune.study.worker import work
from finetune.sweep.trial import Conditions
from finetune.training.recorded import recipe_as_recorded
from finetune.training.words import Request
from tests.runs.builders import make_emissions

STRATEGIES = {
    "full": {"training.learning_rate": [1e-4, 3e-4]},
    "scratch": {"model.init": "scratch", "training.learning_rate": [3e-4, 1e-3]},
}
TEST_ROWS = 400


@pytest.fixture
def study_file(tmp_path):
    """Return a function that writes a study over a small recipe and gives its path: study_file(rows=[10, 100])."""
    (tmp_path / "data.csv").write_text("text,label\na,b\n")
    recipe = {
        "task": "text-classification", "model": {"name_or_path": "owner/model"}, "dataset": {"path": "data.csv"},
        "training": {"early_stopping_patience": 2}, "output_dir": str(tmp_path / "runs"),
    }  # fmt: skip
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(recipe))

    def write(**keys):
        content = {"recipe": "base.yaml", "strategies": STRATEGIES, "rows": [100, 400, 1600], **keys}
        path = tmp_path / "pay.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write


@pytest.fixture
def play(tmp_path):
    """Play the processes of runs; `score` and `kwh` are functions of (recipe, rows), `endings` change one by name."""
    played = SimpleNamespace(
        commands=[], endings={}, score=pays, kwh=energy, metric="accuracy", parameters=lambda recipe: 1000,
        available=3200, machine=lambda recipe: "boot-1",
    )  # fmt: skip

    def launch(words, options, count, shows_result):
        played.commands.append((list(words), dict(options)))
        recipe = load_recipe(words[0], [word for word in words[1:] if "=" in word]).recipe
        if options["resume"]:
            before = read_run(next(tmp_path / "runs" / word for word in words[1:] if "=" not in word))
            directory, group = before.directory, before.group
        else:
            directory, group = new_run_directory(tmp_path / "runs", recipe.name), options["group"]
        run = played_run(played, recipe, directory, group, options["trial"] is None)
        write_run(run, directory)
        ending = played.endings.pop(recipe.name, None)
        return ending(run) if ending else (0, None)

    played.launch = launch
    return played


@pytest.fixture
def make_study(study_file, play):
    """Return a function that plays a study to its end and gives its results."""

    def make(settings=(), **keys):
        study = read_study(study_file(**keys), settings)
        ending = work(study, Conditions(Request(()), allow_shared=True), play.launch)
        return make_results(study, read_state(study), ending.failed)

    return make


def pays(recipe, rows):
    """Return an accuracy: scratch needs ten times the rows; the rates 3e-4 and 1e-3 are the best."""
    known = rows / (10 if recipe.model.init == "scratch" else 1)
    best = {"scratch": 1e-3, "pretrained": 3e-4}[recipe.model.init]
    return min(0.95, 0.2 + 0.2 * math.log10(known)) - (0 if recipe.training.learning_rate == best else 0.1)


def energy(recipe, rows):
    return 1e-6 * rows * (3 if recipe.model.init == "scratch" else 1)


def played_run(played, recipe, directory, group, sees_test):
    rows = min(recipe.dataset.max_train_samples or played.available, played.available)
    chance = random.Random(recipe.name)
    metric, noise = played.metric, 0.01 if played.metric == "accuracy" else 0.0
    right = round(TEST_ROWS * (played.score(recipe, rows) + chance.uniform(-noise, noise)))
    split = "test" if sees_test else "validation"
    score = {"value": right / TEST_ROWS, "low": None, "high": None, "n": TEST_ROWS}
    answers = ["yes"] * right + ["no"] * (TEST_ROWS - right)
    chance.shuffle(answers)
    lines = [{"row": row, "prediction": answer, "reference": "yes"} for row, answer in enumerate(answers)]
    (directory / f"predictions-{split}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kwh = played.kwh(recipe, rows) * chance.uniform(0.95, 1.05)
    inference = {"rows": TEST_ROWS, "duration_s": 2.0}
    return Run(
        directory.name, recipe.name, status="stopped", status_reason="early stopping: 2 evaluations", group=group,
        tags=tuple(recipe.tags), recipe=recipe_as_recorded(recipe, directory), directory=directory,
        metrics={name: {metric: score} for name in {"validation", split}},
        main_metric={"name": metric, **score, "split": split, "greater_is_better": metric == "accuracy"},
        emissions={**make_emissions({"gpu": kwh}, played.machine(recipe)), "inference": inference,
                   "wh_per_1000_predictions": 0.5},
        dataset={"path": "data.csv", "rows": {"train": rows}, "fingerprint": f"f{rows}",
                 "fingerprints": {"train": f"f{rows}", "test": "t", "validation": "v"}},
        model={"parameters": played.parameters(recipe)}, training={"epochs": 7.0, "best_step": 10},
        timeline=({"step": 10, "energy_kwh": kwh / 2}, {"step": 20, "energy_kwh": kwh}),
        created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip
