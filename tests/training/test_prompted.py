"""Runs that ask the checkpoint in words before they train it."""

import json

import pytest

from finetune.runs.differences import flatten
from tests import tiny
from tests.training.conftest import read_run
from tests.training.test_ranks import RAGGED, only, run, weights_of
from tests.zero_shot import knowing

PROMPT = {"template": knowing.TEMPLATE, "label_words": knowing.WORDS}
EVALUATION = {"baselines": ["majority", "zero_shot", "few_shot"], "prompt": {**PROMPT, "shots": 2}}


@pytest.fixture(scope="session")
def speaking_gpt2(checkpoints, tmp_path_factory):
    return knowing.language_model(checkpoints("gpt2"), tmp_path_factory.mktemp("speaking-gpt2"))


def test_the_baselines_have_scores_costs_and_an_energy_of_their_own(
    toy_recipe, speaking_gpt2, finetune, tmp_path, monkeypatch
):
    import torch

    monkeypatch.setenv("FINETUNE_HOST_FOLDER", str(tmp_path / "host"))
    sections = {"model": {"name_or_path": str(speaking_gpt2)}, "training": {"max_steps": 3}}
    asked = toy_recipe("gpt2", dropout=0.1, evaluation=EVALUATION, output_dir=str(tmp_path / "asked"), **sections)
    code, _, err = finetune("run", asked)
    assert code == 0, err
    plain = toy_recipe("gpt2", dropout=0.1, output_dir=str(tmp_path / "plain"), **sections)
    assert finetune("run", plain, "evaluation.baselines=[majority]")[0] == 0
    [one], [other] = (list((tmp_path / name).iterdir()) for name in ("asked", "plain"))
    first, second = weights_of(one), weights_of(other)
    assert all(torch.equal(first[name], second[name]) for name in first)  # asking changes nothing of the training

    run = read_run(one)
    for name, shots in (("zero_shot", 0), ("few_shot", 2)):
        assert run["baselines"][name]["accuracy"]["n"] == 16
        facts = run["prompted"][name]
        assert (facts["reason"], facts["shots"], len(facts["example_rows"])) == (None, shots, shots)
        assert facts["wh_per_1000_predictions"] > 0
        assert set(facts["inference"]["components_wh_per_1000"]) <= {"cpu", "gpu", "ram"}
        parts = facts["inference"]["components_wh_per_1000"].values()
        assert sum(parts) == pytest.approx(facts["wh_per_1000_predictions"])
    own = sum(run["prompted"][name]["energy_kwh"] for name in ("zero_shot", "few_shot"))
    assert 0 < own <= run["emissions"]["phases"]["baseline"]["energy_kwh"] * (1 + 1e-9)

    code, shown, _ = finetune("show", one)
    assert code == 0
    assert "zero-shot" in shown
    assert "the energy of training is" in shown


@pytest.mark.slow
def test_two_processes_are_answered_as_one(toy_recipe, speaking_gpt2, finetune, tmp_path):
    evaluation = {**EVALUATION, "prompt": {**EVALUATION["prompt"], "calibrate": True}}
    training = {**RAGGED, "num_train_epochs": 1, "per_device_eval_batch_size": 3}
    recipe = toy_recipe(model={"name_or_path": str(speaking_gpt2)}, training=training, evaluation=evaluation)
    done = run(recipe, "training.per_device_train_batch_size=5", f"output_dir={tmp_path / 'two'}", "--json",
               FINETUNE_TIMEOUT_S="60")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert finetune("run", recipe, "--output-dir", tmp_path / "one")[0] == 0
    two, one = (read_run(only(tmp_path / name)) for name in ("two", "one"))
    assert json.loads(done.stdout) == two  # written and printed once
    for name, shots in (("zero_shot", 0), ("few_shot", 2)):
        assert flatten(two["baselines"][name]) == pytest.approx(flatten(one["baselines"][name]), rel=1e-5)
        mine, theirs = two["prompted"][name], one["prompted"][name]
        for fact in ("reason", "kind", "split", "template", "example_rows", "calibrate", "max_length", "cut_rows"):
            assert mine[fact] == theirs[fact]
        assert len(mine["example_rows"]) == shots
        assert mine["energy_kwh"] > 0
        assert mine["inference"]["rows"] >= 16  # of both processes together
    assert flatten(two["metrics"]["test"]) == pytest.approx(flatten(one["metrics"]["test"]), rel=1e-5)


def test_a_checkpoint_that_cannot_be_asked_is_null_with_the_reason(toy_recipe, finetune, only_run):
    recipe = toy_recipe("bert", evaluation=EVALUATION, training={"max_steps": 1})
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    assert "zero_shot is null:" in err
    run = read_run(only_run())
    assert run["baselines"]["zero_shot"] is None
    assert "no trained head for masked words" in run["prompted"]["few_shot"]["reason"]
    code, shown, _ = finetune("show", only_run())
    assert "no trained head" in shown


@pytest.mark.slow
def test_two_ranks_write_the_answers_of_one(toy_recipe, speaking_gpt2, tmp_path):
    (tmp_path / "data").mkdir()
    rows = tiny.toy_questions(unanswerable=True, count=60)
    for split, part in {"train": rows[:40], "validation": rows[40:]}.items():
        text = "".join(json.dumps(row) + "\n" for row in part)
        (tmp_path / "data" / f"{split}.jsonl").write_text(text)
    found = []
    for count in (1, 2):
        recipe = toy_recipe(
            "gpt2", task="question-answering", model={"name_or_path": str(speaking_gpt2)}, training={"max_steps": 1},
            dataset={"path": str(tmp_path / "data")}, output_dir=str(tmp_path / str(count)),
            evaluation={"baselines": ["zero_shot", "few_shot"], "prompt": {"shots": 2}},
        )  # fmt: skip
        done = run(recipe, count=count)
        assert done.returncode == 0, done.stderr
        record = read_run(only(tmp_path / str(count)))
        assert record["prompted"]["zero_shot"]["reason"] is None
        found.append(record["baselines"])
    assert found[0]["zero_shot"]["f1"]["n"] == 20
    assert found[0] == found[1]
