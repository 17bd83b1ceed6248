"""finetune.training.unfreezing: which parameters learn in which step, and that the others stay untouched."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from finetune.models.build import build_model, open_checkpoint
from finetune.recipe.schema import Model, Training
from finetune.tasks import LabelScheme, all_tasks
from finetune.training.optimization import build_optimizer
from finetune.training.plan import Plan
from finetune.training.unfreezing import Unfreezing, freeze_unreached, plan_unfreezing
from tests.marks import slowly
from tests.training.conftest import read_log, read_run
from tests.training.test_resume import outcome

TASK = all_tasks()["text-classification"]
LABELS = LabelScheme("single_label_classification", ("bad", "good"))
# 64 rows in batches of 8: 8 steps an epoch; groups: head, layer 1, layer 0, embeddings.
GRADUAL = {"gradual_unfreezing": 0.5, "num_train_epochs": 2, "learning_rate": 1e-3, "weight_decay": 0.5}


def calendar(steps_per_epoch, total_steps):
    return Plan(64, 8, steps_per_epoch, total_steps, 1, None, None)


def tiny_model(folder, **changes):
    settings = Model(name_or_path=str(folder), **changes)
    return build_model(open_checkpoint(settings), settings, TASK, LABELS)[0]


@given(st.integers(1, 8), st.integers(1, 50), st.integers(1, 400))
def test_open_groups_grows_by_one_every_so_many_steps(groups, steps_each, step):
    unfreezing = Unfreezing(tuple([] for _ in range(groups)), steps_each)
    assert unfreezing.open_groups(1) == 1
    assert unfreezing.open_groups(step) == min(groups, (step + steps_each - 1) // steps_each)


def test_before_opens_the_groups_of_that_step_in_any_order_of_calls(checkpoints):
    model = tiny_model(checkpoints("bert"))
    unfreezing = plan_unfreezing(model, 1.0, calendar(10, 100))
    for step, learning in [(35, 4), (1, 1), (10, 1), (11, 2), (21, 3), (30, 3), (31, 4)]:
        unfreezing.before(step)
        states = [{parameter.requires_grad for parameter in group} for group in unfreezing.groups]
        assert states == [{True}] * learning + [{False}] * (4 - learning)


def test_plan_freezes_for_good_what_is_never_reached(checkpoints):
    model = tiny_model(checkpoints("bert"))
    [note] = freeze_unreached(model, 1.0, calendar(10, 20))
    assert len(plan_unfreezing(model, 1.0, calendar(10, 20)).groups) == 2
    assert "4 groups of layers, one more every 10 steps; the run ends before the lowest 2 of them learn" in note
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained
    assert not [name for name in trained if "embeddings" in name or "layer.0" in name]
    assert plan_unfreezing(model, None, calendar(10, 20)) is None
    assert freeze_unreached(model, None, calendar(10, 20)) == ()


def test_plan_leaves_out_what_the_recipe_freezes(checkpoints):
    model = tiny_model(checkpoints("bert"), freeze=1)
    assert len(plan_unfreezing(model, 1.0, calendar(1, 9)).groups) == 2


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd", "adafactor"])
def test_parameters_that_wait_get_no_update_no_decay_and_no_state(optim, checkpoints):
    model = tiny_model(checkpoints("bert"))
    unfreezing = plan_unfreezing(model, 1.0, calendar(2, 8))
    optimizer = build_optimizer(model, Training(optim=optim, learning_rate=0.01, weight_decay=0.5))
    inputs = torch.tensor([[5, 6, 7, 8]])
    for step in range(1, 9):
        unfreezing.before(step)
        before = [[parameter.detach().clone() for parameter in group] for group in unfreezing.groups]
        model(inputs).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        for index, group in enumerate(unfreezing.groups):
            same = [torch.equal(old, new) for old, new in zip(before[index], group, strict=True)]
            waits = index >= unfreezing.open_groups(step)
            assert all(same) if waits else not all(same)
            assert not waits or not any(optimizer.state.get(parameter) for parameter in group)


def test_run_unfreezes_and_counts_what_was_ever_trained(toy_recipe, finetune, only_run, checkpoints):
    code, _, err = finetune("run", toy_recipe(training={**GRADUAL, "num_train_epochs": 1}))
    assert code == 0, err
    assert "note: gradual unfreezing: 4 groups of layers, one more every 4 steps; the run ends before" in err
    start = tiny_model(checkpoints("bert")).state_dict()
    end = load_file(only_run() / "model" / "model.safetensors")
    changed = {name for name, tensor in end.items() if name in start and not torch.equal(tensor, start[name])}
    assert [name for name in changed if "layer.1" in name]
    assert not [name for name in changed if "embeddings" in name or "layer.0" in name]
    model = read_run(only_run())["model"]
    assert model["trainable_parameters"] == sum(
        tensor.numel() for name, tensor in end.items() if "embeddings" not in name and "layer.0" not in name
    )
    assert model["trainable_parameters"] < model["parameters"]


def test_first_step_of_a_run_trains_the_head_alone(toy_recipe, finetune, tmp_path):
    logs = []
    for name, training in (("plain", {}), ("gradual", {"gradual_unfreezing": 0.01})):
        recipe = toy_recipe(training={"max_steps": 2, "eval_strategy": "no", **training})
        code, _, err = finetune("run", recipe, f"output_dir={tmp_path / name}")
        assert code == 0, err
        logs.append(read_log(next((tmp_path / name).iterdir())))
    assert logs[0][0]["loss"] == logs[1][0]["loss"]
    assert logs[0][0]["grad_norm"] > logs[1][0]["grad_norm"]


# Steps 1-4 train the head, 5-8 one layer more, 9-12 two, 13-16 all; a check comes after each micro-batch and before
# each of the evaluation batches, so these lie before, on and after the borders of the groups.
@pytest.mark.parametrize("checks", [9, *slowly([5, 14])])
def test_resumed_run_equals_the_uninterrupted_one(
    checks, toy_recipe, finetune, only_run, interrupt_after, monkeypatch, tmp_path
):
    recipe = toy_recipe(dropout=0.2, training=GRADUAL)
    code, _, err = finetune("run", recipe, f"output_dir={tmp_path / 'whole'}")
    assert code == 0, err
    interrupt_after(checks)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, "--resume")
    assert code == 0, err
    assert outcome(only_run()) == outcome(next((tmp_path / "whole").iterdir()))
