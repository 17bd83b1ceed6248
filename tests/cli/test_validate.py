import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from finetune.cli.app import main

HEAVY = {"torch", "transformers", "datasets", "accelerate", "codecarbon", "evaluate", "numpy"}
GOOD = "task: text-classification\nmodel: {name_or_path: a/b}\ndataset: {path: c/d, name: e}\n"


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(GOOD, encoding="utf-8")
    return path


def test_validate_says_ok_and_what_will_run(recipe, capsys):
    assert main(["validate", "recipe.yaml"]) == 0
    assert capsys.readouterr().out == "ok: text-classification · a/b · c/d e\n"


def test_validate_takes_overrides_and_says_notes_on_stderr(recipe, capsys):
    assert main(["validate", "recipe.yaml", "lr=3e-5", "dataset.name=f"]) == 0
    out, err = capsys.readouterr()
    assert out == "ok: text-classification · a/b · c/d f\n"
    assert err == "note: lr is read as training.learning_rate\n"


def test_validate_three_mistakes(recipe, capsys):
    recipe.write_text(GOOD + "training:\n  learing_rate: 2e-5\n  seed: fast\n  optim: adam_torch\n", encoding="utf-8")
    assert main(["validate", "recipe.yaml"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "error: 3 problems in recipe.yaml\n"
        "recipe.yaml:5: training.learing_rate: unknown key; did you mean learning_rate?\n"
        "recipe.yaml:6: training.seed: expected a whole number from 0 to 4294967295, found the text 'fast'\n"
        "recipe.yaml:7: training.optim: expected adamw_torch_fused, adamw_torch, sgd or adafactor, "
        "found the text 'adam_torch'; did you mean adamw_torch?\n"
        "hint: Every key: finetune schema. Check again: finetune validate recipe.yaml\n"
    )


def test_validate_json_of_a_good_and_a_bad_recipe(recipe, capsys):
    assert main(["validate", "recipe.yaml", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["ok"], report["problems"], report["summary"]) == (True, [], "text-classification · a/b · c/d e")
    assert main(["validate", "recipe.yaml", "training.seed=-1", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    (problem,) = report["problems"]
    assert report["ok"] is False
    assert (problem["origin"], problem["line"], problem["key"]) == ("command line", None, "training.seed")


def test_validate_imports_nothing_heavy(recipe):
    script = (
        "import sys\nfrom finetune.cli.app import main\ncode = main(['validate', 'recipe.yaml'])\n"
        "print(code, *sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    code, *modules = result.stdout.splitlines()[-1].split()
    assert code == "0"
    assert "pydantic" in modules
    assert HEAVY.isdisjoint(modules)
