"""finetune evaluate: a checkpoint asked in words, without training."""

import json

import pytest

from finetune.cli.app import main
from tests.zero_shot import knowing


@pytest.fixture(scope="session")
def speaking_gpt2(checkpoints, tmp_path_factory):
    return knowing.language_model(checkpoints("gpt2"), tmp_path_factory.mktemp("speaking-gpt2"))


def called(capsys, *arguments):
    code = main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_evaluate_makes_a_record_that_compare_understands(speaking_gpt2, toy_recipe, tmp_path, capsys):
    prompt = {"template": knowing.TEMPLATE, "label_words": knowing.WORDS}
    recipe = toy_recipe("gpt2", model={"name_or_path": str(speaking_gpt2)}, evaluation={"prompt": prompt})
    code, out, err = called(capsys, "evaluate", recipe, "training.seed=3", "--zero-shot", "--few-shot", 2)
    assert code == 0, err
    assert "toy-zero-shot: completed" in out
    assert "toy-few-shot: completed" in out
    assert "model   " not in out
    runs = {
        run["name"]: run
        for path in (tmp_path / "runs").iterdir()
        if (run := json.loads((path / "run.json").read_text()))
    }
    zero, few = runs["toy-zero-shot"], runs["toy-few-shot"]
    assert (zero["prompted"]["scored"], few["prompted"]["scored"]) == ("zero_shot", "few_shot")
    assert few["prompted"]["few_shot"]["shots"] == 2
    assert zero["training"]["steps"] == zero["model"]["trainable_parameters"] == 0
    assert zero["main_metric"]["n"] == 16
    assert zero["emissions"]["wh_per_1000_predictions"] > 0
    assert set(zero["emissions"]["phases"]) >= {"load", "preprocess", "evaluate"}
    assert "train" not in zero["emissions"]["phases"]
    assert zero["baselines"]["majority"]["accuracy"]["n"] == 16
    assert not list((tmp_path / "runs").glob("*/model"))
    lines = next((tmp_path / "runs").glob("toy-zero-shot*")) / "predictions-test.jsonl"
    assert json.loads(lines.read_text().splitlines()[0])["prediction"] in ("good", "bad")
    code, out, _ = called(capsys, "compare", "--output-dir", tmp_path / "runs", "--json")
    assert code == 0
    assert {run["set"] for run in json.loads(out)["runs"]} == {"A"}
    code, _, err = called(capsys, "run", recipe, "--resume", "--output-dir", tmp_path / "runs")
    assert (code, "no unfinished run" in err) == (1, True)


def test_evaluate_needs_to_know_how_and_what(toy_recipe, capsys, tmp_path):
    recipe = toy_recipe("bert")
    code, _, err = called(capsys, "evaluate", recipe)
    assert (code, "--on" in err) == (1, True)
    assert called(capsys, "evaluate", recipe, "--zero-shot", "--on", recipe)[0] == 2
    code, _, err = called(capsys, "evaluate", recipe, recipe, "--zero-shot")
    assert code == 1
    assert "one recipe is needed" in err
    code, _, err = called(capsys, "evaluate", recipe, "--zero-shot")
    assert code == 1
    assert "no trained head for masked words" in err
    assert json.loads(next((tmp_path / "runs").iterdir()).joinpath("run.json").read_text())["status"] == "failed"
