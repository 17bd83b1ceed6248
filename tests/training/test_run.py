"""finetune run, end to end on tiny checkpoints: what it learns, writes and says."""

import json
import math

import pytest
from safetensors.torch import load_file

from tests.marks import slowly
from tests.tiny import FAMILIES
from tests.training.conftest import read_log, read_run


@pytest.mark.parametrize("family", ["bert", *slowly(["gpt2", "bart"])])
def test_run_learns_held_out_rows(family, toy_recipe, finetune, only_run):
    recipe = toy_recipe(family, training={"num_train_epochs": 15, "learning_rate": 2e-3})
    code, out, err = finetune("run", recipe)
    assert code == 0, err
    run = read_run(only_run())
    assert run["status"] == "completed"
    assert run["main_metric"]["name"] == "accuracy"
    assert run["main_metric"]["split"] == "test"
    assert run["metrics"]["test"]["accuracy"]["value"] >= 0.9
    assert run["baselines"]["majority"]["accuracy"]["value"] == pytest.approx(0.5, abs=0.15)
    losses = [line["loss"] for line in read_log(only_run()) if "loss" in line]
    assert losses[-1] < losses[0] / 3
    assert "accuracy" in out
    assert "kWh" in out


def test_run_on_shuffled_labels_stays_near_chance(toy_recipe, toy_data, tmp_path, finetune, only_run):
    import random
    import shutil

    folder = tmp_path / "shuffled"
    shutil.copytree(toy_data, folder)
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    labels = [row["label"] for row in rows]
    random.Random(4).shuffle(labels)
    shuffled = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in shuffled))
    code, _, err = finetune("run", toy_recipe(dataset={"path": str(folder)}, training={"num_train_epochs": 6}))
    assert code == 0, err
    assert read_run(only_run())["metrics"]["test"]["accuracy"]["value"] <= 0.8


@pytest.mark.parametrize("family", FAMILIES)
def test_run_trains_every_family(family, toy_recipe, finetune, only_run):
    code, _, err = finetune("run", toy_recipe(family, training={"max_steps": 3}))
    assert code == 0, err
    run = read_run(only_run())
    assert run["training"]["steps"] == 3
    assert math.isfinite(run["training"]["train_loss"])
    assert (only_run() / "model" / "model.safetensors").is_file()


def test_run_writes_what_the_contract_promises(toy_recipe, finetune, only_run):
    finetune("run", toy_recipe(tags=["toy"]))
    directory = only_run()
    names = {path.name for path in directory.iterdir()}
    assert names >= {"recipe.yaml", "run.json", "log.jsonl", "energy.jsonl", "predictions-test.jsonl", "model"}
    assert not [path for path in directory.rglob("*") if path.name.endswith(".tmp")]
    assert (directory / "model" / "README.md").read_text().startswith("---\n")
    run = read_run(directory)
    assert run["run_id"] == directory.name
    assert run["tags"] == ["toy"]
    assert run["dataset"]["label_names"] == ["bad", "good"]
    assert run["model"]["kind"] == "encoder-only"
    emissions = run["emissions"]
    assert emissions["energy_kwh"] > 0
    assert emissions["wh_per_1000_predictions"] > 0
    inference, test_rows = emissions["inference"], run["dataset"]["rows"]["test"]
    # Half a minute, or three passes where they take less.
    assert inference["rows"] == 3 * test_rows or inference["duration_s"] >= 30
    assert (inference["split"], inference["batch_size"] > 0, inference["mean_length_tokens"] > 1) == (
        "test",
        True,
        True,
    )
    assert emissions["sci_g_per_run"] is None
    assert emissions["tracking_overhead_percent"] > 0
    assert sum(phase["energy_kwh"] for phase in emissions["phases"].values()) == pytest.approx(emissions["energy_kwh"])
    assert {"load", "preprocess", "baseline", "train", "evaluate", "save"} <= set(emissions["phases"])
    assert [point["step"] for point in run["timeline"]] == [8, 16]
    energies = [point["energy_kwh"] for point in run["timeline"]]
    assert energies == sorted(energies)


def test_run_saves_a_model_that_predicts_the_same(toy_recipe, toy_data, checkpoints, finetune, only_run):
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    finetune("run", toy_recipe(dropout=0.1, training={"num_train_epochs": 4}))
    directory = only_run()
    model = AutoModelForSequenceClassification.from_pretrained(directory / "model").eval()
    tokenizer = AutoTokenizer.from_pretrained(directory / "model")
    texts = [json.loads(line)["text"] for line in (toy_data / "test.jsonl").read_text().splitlines()]
    saved = [json.loads(line) for line in (directory / "predictions-test.jsonl").read_text().splitlines()]
    for text, line in zip(texts, saved, strict=True):
        with torch.no_grad():
            chances = model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0]
        assert model.config.id2label[int(chances.argmax())] == line["prediction"]
        assert float(chances.max()) == pytest.approx(line["probability"], abs=1e-5)


def test_run_keeps_the_weights_of_the_best_evaluation(toy_recipe, finetune, only_run):
    recipe = toy_recipe(training={"num_train_epochs": 4, "metric_for_best_model": "accuracy"})
    finetune("run", recipe)
    run = read_run(only_run())
    scores = {point["step"]: point["metrics"]["accuracy"] for point in run["timeline"]}
    best = run["training"]["best_step"]
    assert scores[best] == max(scores.values())
    assert run["metrics"]["validation"]["accuracy"]["value"] == scores[best]


def test_run_stops_early_and_says_so(toy_recipe, finetune, only_run):
    training = {"num_train_epochs": 50, "early_stopping_patience": 2, "learning_rate": 1e-9}
    code, _, err = finetune("run", toy_recipe(training=training))
    assert code == 0, err
    run = read_run(only_run())
    assert run["status"] == "stopped"
    assert "2 evaluations in a row without a new best" in run["status_reason"]
    assert len(run["timeline"]) == 3


def test_run_whose_loss_is_not_a_number_stops_with_step_and_cause(toy_recipe, tmp_path, finetune, only_run):
    folder = tmp_path / "numbers"
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [{"text": f"{split} text {index}", "label": 1e14 * (index + 0.5)} for index in range(32)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    training = {"learning_rate": 10.0, "max_grad_norm": 0, "optim": "sgd", "num_train_epochs": 50}
    code, _, err = finetune("run", toy_recipe(dataset={"path": str(folder)}, training=training))
    assert code == 1
    assert "is not a finite number" in err
    assert "training.learning_rate 10 is too high" in err
    run = read_run(only_run())
    assert run["status"] == "failed"
    assert run["emissions"]["energy_kwh"] > 0


@pytest.mark.parametrize(("batch", "advice"), [(8, "per_device_train_batch_size=4"), (1, "gradient_checkpointing")])
def test_run_out_of_memory_proposes_half_the_batch(batch, advice, toy_recipe, finetune, monkeypatch):
    from finetune.training import gradients

    def full(*arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(gradients, "_loss", full)
    code, _, err = finetune("run", toy_recipe(training={"per_device_train_batch_size": batch}))
    assert code == 1
    assert "out of memory" in err
    assert advice in err


def test_runs_of_one_process_equal_each_other(toy_recipe, finetune, tmp_path):
    recipe = toy_recipe(dropout=0.1)
    for _ in range(2):
        finetune("run", recipe)
    first, second = sorted((tmp_path / "runs").iterdir())
    assert read_log(first) == read_log(second)
    one, other = (load_file(path / "model" / "model.safetensors") for path in (first, second))
    assert all((one[name] == other[name]).all() for name in one)


def test_run_with_another_seed_differs(toy_recipe, finetune, tmp_path):
    recipe = toy_recipe()
    finetune("run", recipe)
    finetune("run", recipe, "training.seed=7")
    first, second = (read_log(path) for path in (tmp_path / "runs").iterdir())
    assert [line["loss"] for line in first if "loss" in line] != [line["loss"] for line in second if "loss" in line]


@pytest.mark.parametrize(
    ("labels", "settings", "metric"),
    [
        (lambda index: [index % 3, index * 2 % 3], {}, "f1_micro"),
        (lambda index: index / 7, {}, "pearson"),
        (lambda index: bool(index % 2), {}, "accuracy"),
    ],
    ids=["multi-label", "regression", "boolean"],
)
def test_run_reads_each_kind_of_label(labels, settings, metric, toy_recipe, tmp_path, finetune, only_run):
    folder = tmp_path / "kinds"
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [{"text": f"{split} text number {index} here", "label": labels(index)} for index in range(32)]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = finetune("run", toy_recipe(dataset={"path": str(folder)}, training={"max_steps": 2}))
    assert code == 0, err
    run = read_run(only_run())
    assert run["main_metric"]["name"] == metric
    assert run["main_metric"]["split"] == "validation"


def test_run_of_sentence_pairs_uses_both(toy_recipe, tmp_path, finetune, only_run):
    folder = tmp_path / "pairs"
    folder.mkdir()
    for split in ("train", "validation"):
        rows = [
            {"sentence1": "what a day", "sentence2": word, "label": label}
            for word, label in (("lovely", "yes"), ("awful", "no"))
        ] * 12
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, _, err = finetune("run", toy_recipe(dataset={"path": str(folder)}, training={"num_train_epochs": 8}))
    assert code == 0, err
    assert read_run(only_run())["metrics"]["validation"]["accuracy"]["value"] == 1.0  # only the second text tells


def test_run_with_balanced_class_weights_counts_rare_labels_more(toy_recipe, finetune, only_run):
    code, _, err = finetune("run", toy_recipe(training={"class_weights": "balanced", "label_smoothing_factor": 0.1}))
    assert code == 0, err
    code, _, err = finetune("run", toy_recipe(training={"class_weights": [1.0, 2.0, 3.0]}))
    assert code == 1
    assert "3 weights for 2 labels (bad, good)" in err


def test_run_dry_tells_and_writes_nothing(toy_recipe, finetune, tmp_path):
    code, out, err = finetune("run", toy_recipe(), "--dry-run")
    assert code == 0, err
    for words in ("encoder-only (bert)", "text = text", "16 (8 an epoch, 8 rows a step)", "bad and good", "memory"):
        assert words in out
    assert not (tmp_path / "runs").exists()
    code, out, _ = finetune("run", toy_recipe(), "--dry-run", "--json")
    assert json.loads(out)["training"]["total_steps"] == 16


def test_run_smoke_takes_two_steps_of_a_tiny_model(toy_recipe, finetune, only_run):
    code, _, err = finetune("run", toy_recipe("bart"), "--smoke")
    assert code == 0, err
    run = read_run(only_run())
    assert run["training"]["steps"] == 2
    assert "smoke" in run["tags"]
    assert run["run_id"].startswith("toy-smoke-")


def test_run_prints_its_record_as_json(toy_recipe, finetune):
    code, out, _ = finetune("run", toy_recipe(training={"max_steps": 1}), "--json")
    assert code == 0
    assert json.loads(out)["status"] == "completed"


def test_run_needs_a_recipe(finetune):
    code, _, err = finetune("run")
    assert code == 1
    assert "no recipe is named" in err
    code, _, err = finetune("run", "a.yaml", "b.yaml")
    assert code == 1
    assert "more than one recipe: a.yaml b.yaml" in err


def test_run_in_an_unknown_country_writes_nothing(toy_recipe, finetune, tmp_path):
    code, _, err = finetune("run", toy_recipe(), "--country", "XYZ")
    assert code == 1
    assert "XYZ" in err
    assert not (tmp_path / "runs").exists()


def test_run_record_holds_no_absolute_paths(toy_recipe, finetune, only_run, tmp_path):
    finetune("run", toy_recipe(training={"max_steps": 1}))
    run = read_run(only_run())
    del run["command"]  # as it was typed
    assert str(tmp_path) not in json.dumps({key: run[key] for key in run if key != "recipe"})
    assert str(tmp_path) not in json.dumps({key: run["recipe"][key] for key in ("model", "dataset")})


def test_run_out_of_memory_in_an_evaluation_speaks_of_its_batch(toy_recipe, finetune, monkeypatch):
    from finetune.evaluation.predict import Predictor

    def full(*arguments):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(Predictor, "outputs", full)
    code, _, err = finetune("run", toy_recipe())
    assert code == 1
    assert "out of memory (baseline) with batches of 64 rows" in err
    assert "per_device_eval_batch_size=32" in err


def test_run_with_a_metric_that_raises_says_which(toy_recipe, finetune, tmp_path):
    folder = tmp_path / "raising"
    folder.mkdir()
    (folder / "raising.py").write_text(
        "import datasets\n"
        "import evaluate\n"
        "class Raising(evaluate.Metric):\n"
        "    def _info(self):\n"
        "        kind = datasets.Value('int64')\n"
        "        features = datasets.Features({'predictions': kind, 'references': kind})\n"
        "        return evaluate.MetricInfo(description='', citation='', inputs_description='', features=features)\n"
        "    def _compute(self, predictions, references):\n"
        "        raise ValueError('average is missing')\n"
    )
    code, _, err = finetune("run", toy_recipe(evaluation={"metrics": [str(folder)]}))
    assert code == 1
    assert "raising failed: ValueError: average is missing" in err


def test_run_can_choose_the_best_model_by_its_loss(toy_recipe, finetune, only_run):
    code, _, err = finetune("run", toy_recipe(training={"num_train_epochs": 3, "metric_for_best_model": "loss"}))
    assert code == 0, err
    run = read_run(only_run())
    losses = {point["step"]: point["metrics"]["loss"] for point in run["timeline"]}
    assert losses[run["training"]["best_step"]] == min(losses.values())


def test_run_says_how_long_the_texts_are(toy_recipe, finetune):
    _, _, err = finetune("run", toy_recipe(training={"max_steps": 1}, preprocessing={"max_length": 6}))
    assert "training rows: median" in err
    assert "% cut at 6" in err


def test_run_into_a_folder_that_may_not_be_written_is_one_clear_error(toy_recipe, finetune, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    code, _, err = finetune("run", toy_recipe(), f"output_dir={tmp_path / 'file' / 'runs'}")
    assert code == 1
    assert "Traceback" not in err
