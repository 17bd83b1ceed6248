"""Runs with adapters: they learn, resume exactly, and leave an ordinary model and the adapter behind."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file

from finetune.training.interrupts import Interrupted
from tests.marks import slowly
from tests.training.conftest import read_run
from tests.training.test_kill import call, start, wait_for_step
from tests.training.test_ranks import (
    LONG,
    RAGGED,
    assert_equal_bit_for_bit,
    assert_same_training,
    only,
    run,
    sabotage,
)
from tests.training.test_resume import outcome

__all__ = ["sabotage"]  # a fixture

LORA = {"method": "lora", "r": 4}
TRAINING = {
    "num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 3, "learning_rate": 1e-2,
    "save_strategy": "steps", "save_steps": 4, "logging_steps": 1,
}  # fmt: skip


@pytest.mark.parametrize("family", ["bert", *slowly(["gpt2", "bart"])])
def test_adapters_teach_a_trained_model_other_labels(family, toy_recipe, toy_data, finetune, tmp_path):
    """Random frozen weights say little about a text, so the checkpoint here is one that learned the task first."""
    learned = toy_recipe(family, training={"num_train_epochs": 15, "learning_rate": 2e-3})
    assert finetune("run", learned, f"output_dir={tmp_path / 'learned'}")[0] == 0
    [base] = (tmp_path / "learned").glob("*/model")
    turned = tmp_path / "turned"
    turned.mkdir()
    for split in ("train", "validation", "test"):
        rows = [json.loads(line) for line in (toy_data / f"{split}.jsonl").read_text().splitlines()]
        other = {"good": "bad", "bad": "good"}
        lines = [json.dumps({"text": row["text"], "label": other[row["label"]]}) + "\n" for row in rows]
        (turned / f"{split}.jsonl").write_text("".join(lines))
    for method in ("lora", "ia3"):
        recipe = toy_recipe(
            model={"name_or_path": str(base)},
            dataset={"path": str(turned)},
            peft={"method": method},
            training={"num_train_epochs": 15, "learning_rate": 1e-2},
        )
        code, _, err = finetune("run", recipe, f"output_dir={tmp_path / method}")
        assert code == 0, err
        [directory] = (tmp_path / method).iterdir()
        run = read_run(directory)
        assert run["baselines"]["untrained"]["accuracy"]["value"] <= 0.3
        assert run["metrics"]["test"]["accuracy"]["value"] >= 0.85
        assert run["recipe"]["peft"]["method"] == method
        assert 0 < run["model"]["trainable_parameters"] < 0.5 * run["model"]["parameters"]
        merged = load_file(directory / "model" / "model.safetensors")
        before = load_file(base / "model.safetensors")
        assert merged.keys() == before.keys()
        assert [name for name in before if "embed" in name and not torch.equal(before[name], merged[name])] == []
        code, out, err = finetune("predict", directory, turned / "test.jsonl")
        assert code == 0, err
        lines = (directory / "predictions-test.jsonl").read_text().splitlines()
        predicted = [json.loads(line)["prediction"] for line in lines]
        assert [json.loads(line)["prediction"] for line in out.splitlines()] == predicted


# In an accumulation window, at the end of an epoch, in the evaluation after it, in the ragged last batch.
@pytest.mark.parametrize(
    ("checks", "peft"), [(17, LORA), *slowly([(5, LORA), (16, {"method": "ia3"}), (33, {**LORA, "use_dora": True})])]
)
def test_resumed_run_equals_the_uninterrupted_one(
    checks, peft, toy_recipe, finetune, only_run, interrupt_after, monkeypatch, tmp_path
):
    recipe = toy_recipe(dropout=0.2, peft=peft, training=TRAINING)
    code, _, err = finetune("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, err
    interrupt_after(checks)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == outcome(next((tmp_path / "whole").iterdir()))
    assert adapter_of(only_run()) == adapter_of(next((tmp_path / "whole").iterdir()))


def adapter_of(directory):
    folder = directory / "model" / "adapter"
    tensors = load_file(folder / "adapter_model.safetensors")
    return (folder / "adapter_config.json").read_text(), {name: tensor.tolist() for name, tensor in tensors.items()}


def test_interrupt_after_merging_still_resumes_exactly(toy_recipe, finetune, only_run, monkeypatch, tmp_path):
    from finetune.training import finish

    recipe = toy_recipe(dropout=0.2, peft=LORA, training=TRAINING)
    code, _, err = finetune("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, err

    def interrupted(*arguments):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(finish, "write_predictions", interrupted)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == outcome(next((tmp_path / "whole").iterdir()))


def test_checkpoints_hold_only_what_is_trained(toy_recipe, finetune, only_run):
    code, _, err = finetune("run", toy_recipe(peft=LORA, training=TRAINING))
    assert code == 0, err
    trained = read_run(only_run())["model"]["trainable_parameters"]
    files = sorted((only_run() / "checkpoints").glob("*/model.safetensors"))
    assert len(files) == 3
    for path in files:
        tensors = load_file(path)
        assert sum(tensor.numel() for tensor in tensors.values()) == trained
        assert all("lora_" in name or name.startswith("classifier") for name in tensors)


def test_room_asked_for_on_the_disk_is_that_of_small_checkpoints(toy_recipe, finetune):
    recipe, needed = toy_recipe(training=TRAINING), {}
    for name, changes in {"whole": [], "lora": ["peft.method=lora", "peft.r=1"]}.items():
        code, out, err = finetune("run", recipe, "--dry-run", "--json", *changes)
        assert code == 0, err
        report = json.loads(out)
        needed[name] = report["disk"]["needed_bytes"]
        parameters = report["model"]["parameters"]
    assert 4 * parameters < needed["lora"] < 2 * 4 * parameters  # the saved model, and little besides
    assert needed["whole"] > 6 * 4 * parameters


def test_resume_on_other_frozen_weights_is_refused(
    toy_recipe, finetune, checkpoints, interrupt_after, monkeypatch, tmp_path
):
    base = tmp_path / "base"
    shutil.copytree(checkpoints("bert"), base)
    recipe = toy_recipe(model={"name_or_path": str(base)}, peft=LORA, training=TRAINING)
    interrupt_after(20)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    weights = load_file(base / "model.safetensors")
    weights["embeddings.word_embeddings.weight"] += 0.1
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 1
    assert "the weights under the adapters are others now" in err


def test_frozen_lower_layers_and_decayed_rates_go_with_adapters(toy_recipe, finetune, only_run, checkpoints):
    recipe = toy_recipe(peft=LORA, model={"freeze": 1}, training={"max_steps": 4, "layerwise_lr_decay": 0.5})
    code, _, err = finetune("run", recipe)
    assert code == 0, err
    base = load_file(checkpoints("bert") / "model.safetensors")
    saved = load_file(only_run() / "model" / "model.safetensors")
    changed = {name for name in base if not torch.equal(base[name], saved[f"bert.{name}"])}
    assert [name for name in changed if "layer.1" in name]
    assert not [name for name in changed if "layer.0" in name or "embeddings" in name]


@pytest.mark.slow
def test_killed_run_with_adapters_resumes_exactly(toy_recipe, tmp_path):
    recipe = toy_recipe(dropout=0.1, peft=LORA, training={**TRAINING, "num_train_epochs": 12, "save_steps": 1})
    process = start(recipe)
    directory = wait_for_step(tmp_path / "runs", 20, process)
    process.kill()
    process.wait()
    resumed = call("run", recipe, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    whole = call("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    assert outcome(directory) == outcome(next((tmp_path / "whole").iterdir()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "sections", "training"),
    [
        ("bert", {"peft": {**LORA, "lora_dropout": 0.0}}, {}),
        ("t5", {"peft": {"method": "ia3"}}, {}),
        ("gpt2", {"peft": {**LORA, "lora_dropout": 0.0}, "model": {"freeze": 1}}, {"layerwise_lr_decay": 0.5}),
        ("bert", {}, {"gradual_unfreezing": 0.5, "layerwise_lr_decay": 0.8}),
        ("bart", {}, {"gradual_unfreezing": 0.25}),
    ],
)
def test_two_processes_train_a_part_as_one(family, sections, training, toy_recipe, finetune, tmp_path):
    recipe = toy_recipe(family, training={**RAGGED, **training}, **sections)
    done = run(recipe, "training.per_device_train_batch_size=5", f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert finetune("run", recipe, "--output-dir", tmp_path / "one")[0] == 0
    assert_same_training(only(tmp_path / "two"), only(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("part", [{"peft": LORA}, {"training": {**LONG, "gradual_unfreezing": 0.5}}], ids=str)
def test_killed_group_that_trains_a_part_resumes_exactly(part, toy_recipe, sabotage, tmp_path):
    recipe = toy_recipe(dropout=0.2, **{"training": LONG, **part})
    assert run(recipe, "--output-dir", tmp_path / "whole").returncode == 0
    killed = run(recipe, **sabotage(1, 8, "os.kill(os.getpid(), signal.SIGKILL)"))
    assert killed.returncode != 0
    resumed = run(recipe, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert_equal_bit_for_bit(only(tmp_path / "runs"), only(tmp_path / "whole"))


@pytest.mark.parametrize("key", ["peft.method=lora", "training.gradual_unfreezing=1"])
def test_what_fsdp_cannot_cut_up_is_refused(key, toy_recipe, finetune, monkeypatch):
    from accelerate import Accelerator

    monkeypatch.setattr(Accelerator, "is_fsdp2", True)
    code, _, err = finetune("run", toy_recipe(), key)
    assert code == 1
    assert f"{key.split('=')[0].removesuffix('.method')}: not available with FSDP" in err
