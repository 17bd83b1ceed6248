"""finetune.training.features: a frozen part is computed once, and nothing but the time shows it."""

import json
import shutil
import signal

import pytest
import torch
from safetensors.torch import load_file

from finetune.models.cut import NoCutError
from finetune.training import features, gradients, loop
from finetune.training.interrupts import Interrupted
from tests.marks import slowly
from tests.training.conftest import read_log, read_run

# 64 rows: 6 steps an epoch of two micro-batches, the last of them ragged.
TRAINING = {
    "num_train_epochs": 3,
    "per_device_train_batch_size": 6,
    "gradient_accumulation_steps": 2,
    "learning_rate": 5e-3,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 4,
}


def outcome(directory):
    weights = load_file(directory / "model" / "model.safetensors")
    return read_log(directory), weights, read_run(directory)["metrics"]


def assert_close(one, other, tolerance):
    (log, weights, _), (other_log, other_weights, _) = one, other
    steps = [line for line in log if "loss" in line]
    other_steps = [line for line in other_log if "loss" in line]
    assert len(steps) == len(other_steps) == 18
    for line, other_line in zip(steps, other_steps, strict=True):
        assert line["step"] == other_line["step"]
        assert line["loss"] == pytest.approx(other_line["loss"], abs=tolerance)
        assert line["grad_norm"] == pytest.approx(other_line["grad_norm"], rel=1e-2, abs=tolerance)
    assert weights.keys() == other_weights.keys()
    for name, tensor in weights.items():
        assert torch.allclose(tensor, other_weights[name], atol=tolerance), name


@pytest.fixture
def trained(finetune, tmp_path):
    """Return a function that runs a recipe into a folder of its own: (outcome, what was said)."""

    def train(recipe, name, *arguments):
        code, _, err = finetune("run", recipe, f"output_dir={tmp_path / name}", *arguments)
        assert code == 0, err
        [directory] = (tmp_path / name).iterdir()
        assert not list(directory.glob("features-*"))
        return outcome(directory), err

    return train


def refuse(*arguments):
    raise NoCutError("a test wants it so")


@pytest.mark.parametrize(
    ("family", "freeze"),
    [("bert", "backbone"), ("gpt2", 1), ("bart", "backbone"),
     *slowly([("bert", 1), ("distilbert", "backbone"), ("gpt2", "backbone"), ("bart", 1), ("t5", "backbone")])],
)  # fmt: skip
def test_features_give_the_result_of_the_whole_model(family, freeze, toy_recipe, trained, monkeypatch):
    recipe = toy_recipe(family, model={"freeze": freeze}, training=TRAINING)
    kept, said = trained(recipe, "kept")
    assert "are kept until the run ends" in said
    monkeypatch.setattr(features, "find_cut", refuse)
    plain, said = trained(recipe, "plain")
    assert "computed anew in every epoch: a test wants it so" in said
    assert_close(kept, plain, 2e-4)


@pytest.mark.parametrize(
    ("family", "freeze"), [("bert", "backbone"), *slowly([("distilbert", 1), ("gpt2", 1), ("bart", 1)])]
)
def test_features_on_disk_equal_features_computed_anew_with_dropout(family, freeze, toy_recipe, trained, monkeypatch):
    recipe = toy_recipe(family, dropout=0.2, model={"freeze": freeze}, training=TRAINING)
    kept, _ = trained(recipe, "kept")
    monkeypatch.setattr(features, "_fits", lambda size, free: False)
    anew, said = trained(recipe, "anew")
    assert "are not kept, as" in said
    assert_close(kept, anew, 2e-4)


@pytest.mark.parametrize(("family", "freeze"), [("bert", "backbone"), ("bert", 1), ("distilbert", 1)])
def test_features_of_batches_of_one_shape_are_exact(
    family, freeze, toy_recipe, toy_data, tmp_path, trained, monkeypatch
):
    folder = tmp_path / "same-length"
    shutil.copytree(toy_data, folder)
    for path in folder.glob("*.jsonl"):
        labels = [json.loads(line)["label"] for line in path.read_text().splitlines()]
        lines = [json.dumps({"text": f"{label} day", "label": label}) for label in labels]
        path.write_text("\n".join(lines) + "\n")
    shape = {"per_device_train_batch_size": 8, "per_device_eval_batch_size": 8, "gradient_accumulation_steps": 1}
    recipe = toy_recipe(
        family, dataset={"path": str(folder)}, model={"freeze": freeze}, training={**TRAINING, **shape, "max_steps": 18}
    )
    kept, _ = trained(recipe, "kept")
    monkeypatch.setattr(features, "find_cut", refuse)
    plain, _ = trained(recipe, "plain")
    assert kept[0] == plain[0]
    assert all(torch.equal(tensor, plain[1][name]) for name, tensor in kept[1].items())


def test_features_in_bf16_give_the_result_of_the_whole_model(toy_recipe, trained, monkeypatch):
    recipe = toy_recipe(model={"freeze": 1}, training={**TRAINING, "mixed_precision": "bf16"})
    kept, _ = trained(recipe, "kept")
    monkeypatch.setattr(features, "find_cut", refuse)
    plain, _ = trained(recipe, "plain")
    losses = [[line["loss"] for line in log if "loss" in line] for log in (kept[0], plain[0])]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


@pytest.mark.parametrize("freeze", ["backbone", 1])
def test_frozen_part_is_computed_once_a_row(freeze, toy_recipe, trained, monkeypatch):
    rows = []
    read = features.read_states

    def counted(cut, inputs):
        rows.append(len(inputs["input_ids"]))
        return read(cut, inputs)

    monkeypatch.setattr(features, "read_states", counted)
    trained(toy_recipe(model={"freeze": freeze}, training=TRAINING), "kept")
    assert sum(rows) == 64 + 16 + 16  # train, validation and test, over three epochs and the baseline


# Checks come between the batches of the frozen part (1 and 2), then after each micro-batch of 11 an epoch.
@pytest.mark.parametrize(("freeze", "checks"), [("backbone", 20), (1, 33), *slowly([("backbone", 2), (1, 1)])])
def test_resume_with_features_equals_the_uninterrupted_run(
    freeze, checks, toy_recipe, finetune, only_run, trained, interrupt_after, monkeypatch
):
    small = {**TRAINING, "per_device_eval_batch_size": 32}  # two batches through the frozen part, then the first step
    recipe = toy_recipe(dropout=0.2, model={"freeze": freeze}, training=small)
    whole, _ = trained(recipe, "whole")
    interrupt_after(checks)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    log, weights, metrics = outcome(only_run())
    assert log == whole[0]
    assert metrics == whole[2]
    assert all(torch.equal(tensor, whole[1][name]) for name, tensor in weights.items())


def test_interrupt_while_features_are_computed_saves_a_checkpoint(toy_recipe, finetune, only_run, monkeypatch):
    recorded = loop.record

    def interrupted(prepared, session, name):
        recorded(prepared, session, name)
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(loop, "record", interrupted)
    code, _, err = finetune("run", toy_recipe(model={"freeze": "backbone"}, training=TRAINING))
    assert code == 143
    assert "the state is saved" in err
    assert [path.name for path in (only_run() / "checkpoints").glob("step-*")] == ["step-00000000"]
    assert not list(only_run().glob("features-*"))


def test_features_are_booked_to_the_phase_that_needs_them(toy_recipe, trained, monkeypatch):
    from contextlib import contextmanager

    from finetune.training.session import Session

    phases, open_phases = {}, []
    recorded, phase = features._record, Session.phase

    @contextmanager
    def opened(self, name):
        with phase(self, name):
            open_phases.append(name)
            yield
            open_phases.pop()

    def seen(prepared, session, name, cut):
        phases[name] = open_phases[-1]
        return recorded(prepared, session, name, cut)

    monkeypatch.setattr(Session, "phase", opened)
    monkeypatch.setattr(features, "_record", seen)
    trained(toy_recipe(model={"freeze": "backbone"}, training=TRAINING), "kept")
    assert phases == {"test": "baseline", "train": "train", "validation": "evaluate"}


def test_frozen_part_runs_without_dropout(toy_recipe, finetune, monkeypatch):
    modes = []
    step = gradients.outputs_of

    def seen(prepared, batch):
        bert = prepared.bare_model.bert
        modes.append((bert.embeddings.dropout.training, bert.encoder.layer[0].training, bert.encoder.layer[1].training))
        return step(prepared, batch)

    monkeypatch.setattr(gradients, "outputs_of", seen)
    for init, freeze, expected in (
        ("pretrained", "none", (True, True, True)),
        ("pretrained", "embeddings", (False, True, True)),
        ("pretrained", 1, (False, False, True)),
        ("scratch", "embeddings", (False, True, True)),
    ):
        modes.clear()
        # Without a baseline nothing has put the model into evaluation mode before the first step.
        recipe = toy_recipe(
            model={"init": init, "freeze": freeze}, training={"max_steps": 2}, evaluation={"baselines": ["majority"]}
        )
        code, _, err = finetune("run", recipe)
        assert code == 0, err
        assert set(modes) == {expected}


def test_a_full_disk_means_recomputing(toy_recipe, trained, monkeypatch):
    import errno

    def full(handle, start, size):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(features.os, "posix_fallocate", full)
    _, said = trained(toy_recipe(model={"freeze": "backbone"}, training=TRAINING), "anew")
    assert "of train: 0.0 MB cannot be kept (No space left on device); it is computed anew in every epoch" in said


def test_saved_model_with_frozen_parts_predicts_what_the_run_reported(toy_recipe, finetune, only_run, toy_data):
    code, _, err = finetune("run", toy_recipe(model={"freeze": "backbone"}, training=TRAINING))
    assert code == 0, err
    code, out, err = finetune("predict", only_run(), toy_data / "test.jsonl")
    assert code == 0, err
    reported = [json.loads(line) for line in (only_run() / "predictions-test.jsonl").read_text().splitlines()]
    said = [json.loads(line) for line in out.splitlines()]
    assert [row["prediction"] for row in said] == [row["prediction"] for row in reported]
    for one, other in zip(said, reported, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-4)
