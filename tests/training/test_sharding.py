"""FSDP2 over two processes: the training of plain data parallel, the same files, an exact resume."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from finetune.training.sharding import _without_numbers
from tests.training.conftest import read_log, read_run

FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
TRAINING = {"num_train_epochs": 4, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 2,
            "learning_rate": 1e-3, "save_strategy": "steps", "save_steps": 3}  # fmt: skip


def start(recipe, *arguments, **environment):
    """Start a run of two processes in a session of its own, so that all of it can be killed."""
    return subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "finetune", "run",
         str(recipe), *map(str, arguments)],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip


def finish(process):
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out


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


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "gpt2", "t5"])
def test_sharded_processes_train_as_plain_ones_and_resume_exactly(family, toy_recipe, tmp_path):
    recipe = toy_recipe(family, training=TRAINING)
    finish(start(recipe, f"output_dir={tmp_path / 'plain'}"))
    finish(start(recipe, f"output_dir={tmp_path / 'whole'}", **FSDP2))
    plain, whole = only(tmp_path / "plain"), only(tmp_path / "whole")
    losses = [[line["loss"] for line in read_log(run) if "loss" in line] for run in (plain, whole)]
    assert len(losses[0]) == 16
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    weights = [load_file(run / "model/model.safetensors") for run in (plain, whole)]
    assert list(weights[0]) == list(weights[1])
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-4) for name in weights[0])
    assert read_run(plain)["model"] == read_run(whole)["model"]
    # Killed after the second checkpoint, it goes on from there.
    killed = start(recipe, **FSDP2)
    deadline = time.monotonic() + 300
    while not list((tmp_path / "runs").glob("*/checkpoints/step-00000006/state.json")):
        assert killed.poll() is None, killed.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    finish(start(recipe, "--resume", **FSDP2))
    resumed = only(tmp_path / "runs")
    assert read_log(resumed) == read_log(whole)
    again = load_file(resumed / "model/model.safetensors")
    assert all(torch.equal(again[name], weights[1][name]) for name in again)
