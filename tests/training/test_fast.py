"""The fast parts of a step on a processor train as the plain ones do."""

import pytest
import torch
from safetensors.torch import load_file

from finetune.training import fast, gradients, prepare
from tests import tiny
from tests.marks import slowly
from tests.training.conftest import read_log, read_run

TRAINING = {"per_device_train_batch_size": 16, "learning_rate": 1e-3}


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def opened(monkeypatch):
    """Return a list of what the runs of the test shared their steps among."""
    found = []

    def open_threads(*arguments):
        found.append(fast.open_threads(*arguments))
        return found[-1]

    monkeypatch.setattr(prepare, "open_threads", open_threads)
    return found


@pytest.fixture
def plainly(monkeypatch):
    """Return a function that turns the fast parts off for the runs after it."""

    def off():
        monkeypatch.setattr(prepare, "speed_up_model", lambda *arguments: None)
        monkeypatch.setattr(prepare, "open_threads", lambda *arguments: None)

    return off


def losses(directory):
    return [line["loss"] for line in read_log(directory) if "loss" in line]


def weights(directory):
    return load_file(directory / "model" / "model.safetensors")


def run_into(finetune, recipe, folder, *settings):
    code, _, err = finetune("run", recipe, f"output_dir={folder}", *settings)
    assert code == 0, err
    [directory] = folder.iterdir()
    return directory


@pytest.mark.parametrize("family", ["bert", "gpt2", "t5", *slowly(sorted({*tiny.FAMILIES} - {"bert", "gpt2", "t5"}))])
def test_fast_step_trains_as_the_plain_one(family, toy_recipe, finetune, tmp_path, two_threads, opened, plainly):
    recipe = toy_recipe(family, training=TRAINING)
    quick = run_into(finetune, recipe, tmp_path / "quick")
    assert opened[0].count == 2
    plainly()
    plain = run_into(finetune, recipe, tmp_path / "plain")
    assert len(losses(quick)) == 8
    assert losses(quick) == pytest.approx(losses(plain), rel=1e-4)
    found, wanted = weights(quick), weights(plain)
    assert list(found) == list(wanted)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-3, atol=2e-4, msg=f"{name} differs")
    assert read_run(quick)["model"] == read_run(plain)["model"]
    assert (quick / "model" / "config.json").read_text() == (plain / "model" / "config.json").read_text()


@pytest.mark.parametrize("family", ["bert", *slowly(["gpt2", "t5"])])
def test_fast_step_in_bfloat16_stays_near_the_plain_one(family, toy_recipe, finetune, tmp_path, two_threads, plainly):
    recipe = toy_recipe(family, training={**TRAINING, "mixed_precision": "bf16"})
    quick = run_into(finetune, recipe, tmp_path / "quick")
    plainly()
    plain = run_into(finetune, recipe, tmp_path / "plain")
    assert losses(quick) == pytest.approx(losses(plain), rel=0.02)


def test_bfloat16_copies_give_the_gradients_of_autocast_to_the_bit():
    from torch import nn

    from finetune.models.fast.shadows import cast_shadows, shadows_in_place

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 48), nn.GELU(), nn.LayerNorm(48), nn.Linear(48, 8))
    values = torch.randn(32, 24)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(values).float().square().sum()
    expected = torch.autograd.grad(loss, list(model.parameters()))
    shadows = cast_shadows(model)
    copies = {id(shadow.parameter): shadow.copy for shadow in shadows}
    assert len(copies) == 4
    with shadows_in_place(shadows), torch.autocast("cpu", torch.bfloat16):
        again = model(values).float().square().sum()
        found = torch.autograd.grad(again, [copies.get(id(p), p) for p in copies_or_own(model, shadows)])
    assert torch.equal(loss, again)
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.float(), other)
    assert all(isinstance(parameter, nn.Parameter) for parameter in model.parameters())


def copies_or_own(model, shadows):
    """Return the parameters of a model whose copies are in place, in its order."""
    own = {id(shadow.copy): shadow.parameter for shadow in shadows}
    tensors = [tensor for module in model.modules() for tensor in module._parameters.values() if tensor is not None]
    return [own.get(id(tensor), tensor) for tensor in tensors]


def test_copies_follow_their_weights(two_threads):
    from torch import nn

    from finetune.models.fast.shadows import cast_shadows, shadows_in_place

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4).requires_grad_(False))
    shadows = cast_shadows(model)
    with torch.no_grad():
        model[0].weight.fill_(2.0)
    with shadows_in_place(shadows):
        assert torch.equal(model[0].weight, torch.full((4, 4), 2.0, dtype=torch.bfloat16))
        assert not model[1].weight.requires_grad


def test_threads_give_the_same_run_twice_and_resume_it_exactly(
    toy_recipe, finetune, tmp_path, two_threads, opened, interrupt_after, monkeypatch
):
    recipe = toy_recipe(dropout=0.1, training={**TRAINING, "num_train_epochs": 4, "gradient_accumulation_steps": 2})
    whole = run_into(finetune, recipe, tmp_path / "whole")
    again = run_into(finetune, recipe, tmp_path / "again")
    with monkeypatch.context():
        interrupt_after(5)
        code, _, _ = finetune("run", recipe, f"output_dir={tmp_path / 'broken'}")
    assert code == 143
    monkeypatch.undo()
    code, _, err = finetune("run", recipe, f"output_dir={tmp_path / 'broken'}", "--resume")
    assert code == 0, err
    [resumed] = (tmp_path / "broken").iterdir()
    assert opened[0].count == 2
    for other in (again, resumed):
        assert read_log(other) == read_log(whole)
        assert all(torch.equal(value, weights(whole)[name]) for name, value in weights(other).items())


def test_dropout_of_a_run_follows_the_seed(toy_recipe, finetune, tmp_path, two_threads):
    recipe = toy_recipe(dropout=0.1, training=TRAINING)
    one = run_into(finetune, recipe, tmp_path / "one", "training.train_sampling_strategy=sequential")
    two = run_into(finetune, recipe, tmp_path / "two", "training.train_sampling_strategy=sequential", "training.seed=7")
    assert losses(one) != losses(two)


@pytest.mark.parametrize(
    ("family", "settings", "dropout"),
    [
        ("bart", {}, 0.1),
        ("bert", {"gradient_checkpointing": True}, 0.0),
        ("bert", {"per_device_train_batch_size": 8}, 0.0),
    ],
)
def test_steps_stay_whole_where_threads_would_not_help_or_not_be_exact(
    family, settings, dropout, toy_recipe, finetune, tmp_path, two_threads, opened
):
    run_into(finetune, toy_recipe(family, dropout, training={**TRAINING, **settings}), tmp_path / "runs")
    assert opened[0] is None or opened[0].count == 1


def test_workers_share_the_cores(two_threads):
    threads = gradients.start_threads(torch.nn.Linear(2, 2), 64, "no")
    assert threads.count == 2
    assert {threads.pool.submit(torch.get_num_threads).result() for _ in range(4)} == {1}
    assert torch.get_num_threads() == 2


def test_clipping_in_threads_is_that_of_torch(two_threads):
    from types import SimpleNamespace

    from torch import nn

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 20), nn.Linear(20, 7), nn.Linear(7, 3).requires_grad_(False))
    gradients_of = [torch.randn_like(parameter) for parameter in model.parameters()][:4]
    threads = gradients.start_threads(model, 16, "no")
    for most in (1.0, 100.0, None):
        prepared = SimpleNamespace(
            recipe=SimpleNamespace(training=SimpleNamespace(max_grad_norm=most)), threads=threads
        )
        parameters = [p for p in model.parameters() if p.requires_grad]
        for parameter, gradient in zip(parameters, gradients_of, strict=True):
            parameter.grad = gradient.clone()
        norm = gradients.clip_gradients(prepared, parameters)
        found = [parameter.grad.clone() for parameter in parameters]
        for parameter, gradient in zip(parameters, gradients_of, strict=True):
            parameter.grad = gradient.clone()
        assert norm == pytest.approx(float(nn.utils.clip_grad_norm_(parameters, most or float("inf"))), rel=1e-6)
        for one, parameter in zip(found, parameters, strict=True):
            torch.testing.assert_close(one, parameter.grad)
        assert all(torch.equal(one, given) for one, given in zip(found, gradients_of, strict=True)) == (most != 1.0)


def test_threads_share_parameters_by_their_size():
    parameters = [torch.zeros(size) for size in (100, 1, 60, 1, 40, 1)]
    shares = gradients._even_shares(parameters, 2)
    assert sorted(place for share in shares for place in share) == [0, 1, 2, 3, 4, 5]
    sizes = [sum(parameters[place].numel() for place in share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
