"""What the loop promises holds for every task: any cut of a batch, several processes, going on exactly."""

import json

import pytest
import torch

from tests import tiny
from tests.marks import slowly
from tests.training.conftest import read_log
from tests.training.test_ranks import RAGGED, assert_same_training, run, weights_of

ROWS = {"token-classification": tiny.toy_tagged_rows, "fill-mask": tiny.toy_rows}
TASKS = ("token-classification", *slowly(["fill-mask"]))  # fill-mask draws masks beside dropout and order


@pytest.fixture
def task_recipe(toy_recipe, tmp_path):
    """Return a function that writes a recipe for a task and its toy rows."""

    def write(task, **sections):
        folder = tmp_path / task
        folder.mkdir()
        rows = ROWS[task]()
        for split, part in {"train": rows[:64], "validation": rows[64:80], "test": rows[80:]}.items():
            (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        return toy_recipe(task=task, dataset={"path": str(folder)}, **sections)

    return write


@pytest.mark.parametrize("task", TASKS)
def test_a_batch_may_be_cut_in_any_way(task, task_recipe, finetune, tmp_path):
    recipe = task_recipe(task, training=RAGGED)
    for name, batch, accumulation in (("one", 10, 1), ("accumulated", 5, 2), ("single", 1, 10)):
        words = f"training.per_device_train_batch_size={batch}", f"training.gradient_accumulation_steps={accumulation}"
        code, _, err = finetune("run", recipe, *words, "--output-dir", tmp_path / name)
        assert code == 0, err
    [one], [accumulated], [single] = (list((tmp_path / name).iterdir()) for name in ("one", "accumulated", "single"))
    assert_same_training(one, accumulated)
    assert_same_training(one, single)


@pytest.mark.parametrize("task", TASKS)
def test_a_resumed_run_goes_on_exactly(task, task_recipe, finetune, interrupt_after, tmp_path, monkeypatch):
    from finetune.training.session import Session

    settings = {"num_train_epochs": 2, "gradient_accumulation_steps": 2, "per_device_train_batch_size": 5}
    recipe = task_recipe(task, dropout=0.1, training=settings)
    check = Session.check
    assert finetune("run", recipe, "--output-dir", tmp_path / "whole")[0] == 0
    interrupt_after(9)
    code, _, _ = finetune("run", recipe, "--output-dir", tmp_path / "cut")
    assert code == 143
    monkeypatch.setattr(Session, "check", check)
    assert finetune("run", recipe, "--resume", "--output-dir", tmp_path / "cut")[0] == 0
    [whole], [cut] = (list((tmp_path / name).iterdir()) for name in ("whole", "cut"))
    assert read_log(whole) == read_log(cut)
    first, second = weights_of(whole), weights_of(cut)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_two_processes_train_as_one(task, task_recipe, finetune, tmp_path):
    recipe = task_recipe(task, training=RAGGED)
    done = run(recipe, "training.per_device_train_batch_size=5", f"output_dir={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr
    assert finetune("run", recipe, "--output-dir", tmp_path / "one")[0] == 0
    [one], [two] = (list((tmp_path / name).iterdir()) for name in ("one", "two"))
    assert_same_training(one, two)


@pytest.mark.parametrize("freeze", ["backbone", 1])
@pytest.mark.parametrize("task", ["token-classification"])
def test_a_frozen_part_that_is_kept_changes_nothing(task, freeze, task_recipe, finetune, tmp_path, monkeypatch):
    from finetune.training import features

    recipe = task_recipe(task, model={"freeze": freeze}, training={"max_steps": 12})
    code, _, err = finetune("run", recipe, "--output-dir", tmp_path / "kept")
    assert code == 0, err
    assert "it is computed once for each row and kept" in err
    monkeypatch.setattr(features, "_fits", lambda size, free: False)
    assert finetune("run", recipe, "--output-dir", tmp_path / "anew")[0] == 0
    [kept], [anew] = (list((tmp_path / name).iterdir()) for name in ("kept", "anew"))
    assert_same_training(kept, anew)
