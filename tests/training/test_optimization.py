"""finetune.training.optimization and plan: what decays, how the rate moves, when things are due."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finetune.models.build import build_model, open_checkpoint
from finetune.models.depth import parameters_by_depth
from finetune.recipe.adapter_keys import Peft
from finetune.recipe.schema import Model, Training
from finetune.tasks import LabelScheme, all_tasks
from finetune.training.optimization import build_optimizer, build_schedule, parameter_groups, warmup_steps
from finetune.training.plan import make_plan


def small_model():
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))


def test_parameter_groups_leave_norms_and_biases_without_decay():
    model = small_model()
    decayed, plain = parameter_groups(model, 0.1)
    assert [parameter.shape for parameter in decayed["params"]] == [(4, 4), (2, 4)]
    assert decayed["weight_decay"] == 0.1
    assert plain["weight_decay"] == 0.0
    assert len(plain["params"]) == 4


def test_parameter_groups_leave_frozen_parameters_out():
    model = small_model()
    model[0].requires_grad_(False)
    found = sum(len(group["params"]) for group in parameter_groups(model, 0.1))
    assert found == len(list(model.parameters())) - 2


@pytest.mark.parametrize("optim", ["adamw_torch_fused", "adamw_torch", "sgd", "adafactor"])
def test_build_optimizer_lowers_the_loss(optim):
    torch.manual_seed(0)
    model = small_model()
    optimizer = build_optimizer(model, Training(optim=optim, learning_rate=0.01))
    inputs = torch.randn(16, 4)
    losses = []
    for _ in range(30):
        loss = (model(inputs) - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]


def test_build_schedule_warms_up_and_ends_at_zero():
    training = Training(learning_rate=1.0, warmup_steps=0.2)
    optimizer = build_optimizer(small_model(), training)
    schedule = build_schedule(optimizer, training, 10)
    rates = []
    for _ in range(10):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0, 0.5, 1, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8])
    assert schedule.get_last_lr()[0] == pytest.approx(0)


@pytest.mark.parametrize(("wanted", "steps"), [(0, 0), (7, 7), (0.06, 6), (0.055, 6)])
def test_warmup_steps_takes_steps_or_a_share(wanted, steps):
    assert warmup_steps(wanted, 100) == steps


@given(st.integers(1, 5000), st.integers(1, 64), st.integers(1, 8), st.floats(0.1, 5))
def test_make_plan_counts_optimizer_steps(rows, batch, accumulation, epochs):
    training = Training(
        per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_train_epochs=epochs
    )
    plan = make_plan(training, rows)
    assert (plan.steps_per_epoch - 1) * batch * accumulation < rows <= plan.steps_per_epoch * batch * accumulation
    assert plan.total_steps - 1 < epochs * plan.steps_per_epoch <= plan.total_steps
    assert plan.evaluates_at(plan.total_steps)
    assert not plan.saves_at(plan.total_steps)


def test_make_plan_of_two_processes_takes_half_the_steps():
    training = Training(per_device_train_batch_size=8, num_train_epochs=2)
    assert make_plan(training, 64, world=2).total_steps == make_plan(training, 64).total_steps // 2


def test_make_plan_by_steps():
    training = Training(eval_strategy="steps", eval_steps=5, save_strategy="steps", save_steps=10, max_steps=23)
    plan = make_plan(training, 1000)
    assert [step for step in range(1, 24) if plan.evaluates_at(step)] == [5, 10, 15, 20, 23]
    assert [step for step in range(1, 24) if plan.saves_at(step)] == [10, 20]


def test_make_plan_without_evaluation():
    plan = make_plan(Training(eval_strategy="no", save_strategy="no", max_steps=3, logging_steps=2), 1000)
    assert not any(plan.evaluates_at(step) or plan.saves_at(step) for step in range(1, 4))
    assert [step for step in range(1, 4) if plan.logs_at(step)] == [2, 3]


def tiny_model(folder, peft=None, **changes):
    settings = Model(name_or_path=str(folder), **changes)
    labels = LabelScheme("single_label_classification", ("bad", "good"))
    return build_model(open_checkpoint(settings), settings, all_tasks()["text-classification"], labels, peft)[0]


@pytest.mark.parametrize("family", ["bert", "gpt2", "bart"])
def test_layerwise_decay_slows_each_layer_further_down(family, checkpoints):
    model = tiny_model(checkpoints(family))
    optimizer = build_optimizer(model, Training(learning_rate=1.0, weight_decay=0.1, layerwise_lr_decay=0.5))
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert rate_of.keys() == {id(parameter) for parameter in model.parameters()}
    depth = len(parameters_by_depth(model)) - 1
    assert rate_of[id(model.get_input_embeddings().weight)] == 0.5**depth
    assert {rate_of[id(p)] for p in list(model.children())[-1].parameters()} == {1.0}
    assert sorted(set(rate_of.values())) == [0.5**d for d in range(depth, -1, -1)]
    assert all(decay_of[id(p)] == (0.1 if p.ndim >= 2 else 0.0) for p in model.parameters())
    assert optimizer.param_groups[0]["lr"] == 1.0  # what the log calls the learning rate


def test_layerwise_decay_counts_frozen_layers_and_reaches_adapters(checkpoints):
    lora = Peft(method="lora", r=2, lora_alpha=4, lora_dropout=0.0, target_modules=["query"])
    training = Training(learning_rate=1.0, layerwise_lr_decay=0.5)
    for changes, rates in [({}, [1, 0.5, 0.25]), ({"freeze": 1}, [1, 0.5])]:
        model = tiny_model(checkpoints("bert"), lora, **changes)
        found = {group["lr"] for group in build_optimizer(model, training).param_groups}
        assert sorted(found, reverse=True) == rates


def test_layerwise_decay_of_one_learns_as_without(checkpoints):
    weights = []
    for decay in (None, 1.0):
        model = tiny_model(checkpoints("bert"))
        with torch.random.fork_rng():
            torch.manual_seed(0)
            torch.nn.init.normal_(model.classifier.weight)
        training = Training(learning_rate=0.01, layerwise_lr_decay=decay)
        optimizer = build_optimizer(model, training)
        schedule = build_schedule(optimizer, training, 4)
        for _ in range(4):
            model(torch.tensor([[5, 6, 7]])).logits.square().sum().backward()
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))


def test_layerwise_decay_keeps_its_ratios_along_the_schedule(checkpoints):
    training = Training(learning_rate=1.0, layerwise_lr_decay=0.5, warmup_steps=2)
    optimizer = build_optimizer(tiny_model(checkpoints("bert")), training)
    schedule = build_schedule(optimizer, training, 10)
    for _ in range(9):
        optimizer.step()
        schedule.step()
        rates = sorted(set(schedule.get_last_lr()), reverse=True)
        assert rates == pytest.approx([rates[0] * 0.5**depth for depth in range(4)])
