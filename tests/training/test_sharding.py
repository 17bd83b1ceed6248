"""FSDP2 over two processes: the training of plain data parallel, the same files, an exact resume."""

import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest
import torch
from safetensors.torch import load_file

from finetune.training.sharding import _without_numbers
from tests.training.conftest import read_log, read_run

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
TRAINING = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3, "max_grad_norm": 0.1, "save_strategy": "steps", "save_steps": 3}  # fmt: skip


def start(recipe, *arguments, **environment):
    """Start a run of two processes."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "finetune", "run",
         str(recipe), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True,
    )  # fmt: skip


def finish(process):
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out


def kill_all(process):
    """Kill torchrun and its processes, each of which has a session of its own."""
    for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.communicate()


def only(folder):
    [directory] = folder.iterdir()
    return directory


def test_frame_of_a_model_takes_no_memory_and_keeps_its_ties(checkpoints):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoints("gpt2"))
    frame = _without_numbers(model)
    assert all(tensor.is_meta for tensor in frame.state_dict().values())
    assert frame.lm_head.weight is frame.transformer.wte.weight
    assert list(frame.state_dict()) == list(model.state_dict())
    frame.load_state_dict(model.state_dict(), assign=True)
    frame.tie_weights()
    assert all(torch.equal(frame.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def assert_same_training(plain, sharded):
    steps = [[line for line in read_log(run) if "loss" in line] for run in (plain, sharded)]
    assert len(steps[0]) == 16
    for name in ("loss", "grad_norm", "learning_rate"):
        one, other = ([line[name] for line in lines] for lines in steps)
        assert one == pytest.approx(other, rel=1e-4), name
    one, other = (load_file(run / "model/model.safetensors") for run in (plain, sharded))
    assert list(one) == list(other)
    assert all(torch.allclose(one[name], other[name], atol=1e-4) for name in one)
    assert read_run(plain)["model"] == read_run(sharded)["model"]


@pytest.mark.slow
def test_model_with_tied_weights_is_not_cut_up(toy_recipe, tmp_path):
    process = start(toy_recipe("t5", training=TRAINING), f"output_dir={tmp_path / 'sharded'}", **FSDP2)
    out, _ = process.communicate(timeout=300)
    assert process.returncode != 0
    assert "FSDP: T5ForSequenceClassification has a weight that several of its modules share" in out


@pytest.mark.slow
def test_sharded_run_trains_as_a_plain_one_and_resumes_exactly_after_a_kill(toy_recipe, tmp_path):
    recipe = toy_recipe(training=TRAINING)
    finish(start(recipe, f"output_dir={tmp_path / 'plain'}"))
    finish(start(recipe, f"output_dir={tmp_path / 'sharded'}", **FSDP2))
    sharded = only(tmp_path / "sharded")
    assert_same_training(only(tmp_path / "plain"), sharded)
    killed = start(recipe, **FSDP2)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "runs").glob("*/checkpoints/step-00000006/state.json")):
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kill_all(killed)
    finish(start(recipe, "--resume", **FSDP2))
    resumed = only(tmp_path / "runs")
    assert read_log(resumed) == read_log(sharded)
    one, other = (load_file(run / "model/model.safetensors") for run in (resumed, sharded))
    assert all(torch.equal(one[name], other[name]) for name in one)
