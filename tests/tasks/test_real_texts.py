"""Scratch models of GPT-2's, BART's and T5's form on real texts; no published score is near what minutes can reach."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scratch import TRAININGS, recipe_of
from finetune.cli.app import main

DATA = Path(__file__).parents[2].parent / "shared" / "data"
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("training", TRAININGS, ids=[training.name for training in TRAININGS])
def test_scratch_models_learn_real_texts(training, tmp_path, capsys):
    if not (DATA / training.dataset).is_dir():
        pytest.skip(f"{training.dataset} is not beside the checkout")
    if training.task == "text-generation":
        training = replace(training, steps=90)
    recipe = recipe_of(DATA / training.dataset, training, tmp_path)
    recipe["dataset"]["max_eval_samples"] = 40
    recipe |= {"emissions": {"country_iso_code": "BRA"}, "output_dir": str(tmp_path / "runs")}
    path = tmp_path / "recipe.yaml"
    path.write_text(json.dumps(recipe))
    assert main(["run", str(path)]) == 0, capsys.readouterr().err
    [directory] = (tmp_path / "runs").iterdir()
    run = json.loads((directory / "run.json").read_text())
    losses = [entry["metrics"]["loss"] for entry in run["timeline"]]
    scores, untrained = run["metrics"]["test"], run["baselines"]["untrained"]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)
    assert scores["perplexity"]["value"] < untrained["perplexity"]["value"] / 3
    if training.task == "text-generation":
        assert says_more(directory, "ROMEO:\n", tmp_path, capsys)
    else:
        assert scores["rougeL"]["value"] > untrained["rougeL"]["value"] + 0.05
        assert scores["bleu"]["low"] <= scores["bleu"]["value"] <= scores["bleu"]["high"]


def says_more(directory, prompt, folder, capsys):
    """Return what the trained model writes after a prompt."""
    (folder / "prompts.jsonl").write_text(json.dumps({"text": prompt}) + "\n")
    assert main(["predict", str(directory), str(folder / "prompts.jsonl"), "-o", str(folder / "said.jsonl")]) == 0, (
        capsys.readouterr().err
    )
    return json.loads((folder / "said.jsonl").read_text())["prediction"].removeprefix(prompt).strip()
