import os
import subprocess
import sys

import pytest

from finetune.errors import FinetuneError
from finetune.training.launched import check_launch

TORCHRUN = {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}
ACCELERATE = {"ACCELERATE_MIXED_PRECISION": "no", "ACCELERATE_DYNAMO_BACKEND": "NO"}
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        TORCHRUN,
        ACCELERATE,  # accelerate launch, one process
        ACCELERATE | TORCHRUN,
        ACCELERATE | TORCHRUN | FSDP2,
        {"SLURM_NTASKS": "8", "SLURM_PROCID": "0"},  # a batch script without srun
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_STEP_NUM_TASKS": "2"} | TORCHRUN,  # srun torchrun
        {"ACCELERATE_USE_DEEPSPEED": "false"},
        {"MASTER_ADDR": "10.0.0.1"},  # exported by hand, nothing started
    ],
)
def test_launched_lets_through_what_will_happen(environment):
    check_launch(environment)


@pytest.mark.parametrize(
    ("environment", "says", "hint"),
    [
        (ACCELERATE | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}, "would train alone", "--nproc-per-node 2"),
        (
            ACCELERATE | {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "1234"},
            "would train alone",
            "--master-addr 10.0.0.7 --master-port 1234 -m finetune run RECIPE",
        ),
        ({"SLURM_STEP_NUM_TASKS": "8"}, "srun started 8 processes", "torchrun once on each machine"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun started 2 processes", "torchrun"),
        ({"ACCELERATE_USE_DEEPSPEED": "true"} | TORCHRUN, "DeepSpeed", "--fsdp_version 2"),
        ({"ACCELERATE_USE_MEGATRON_LM": "true"}, "Megatron-LM", "FSDP2"),
        ({"ACCELERATE_USE_PARALLELISM_CONFIG": "true"} | TORCHRUN, "parallelism configuration", "FSDP2"),
        ({"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "1"} | TORCHRUN, "FSDP1", "fsdp_version: 2"),
        ({"ACCELERATE_USE_FSDP": "true"} | TORCHRUN, "FSDP1", "fsdp_version: 2"),
        (FSDP2, "one process", "--num_processes"),
        ({"ACCELERATE_DYNAMO_BACKEND": "INDUCTOR"}, "said in the recipe", "training.torch_compile=true"),
    ],
)
def test_launched_stops_what_would_not_happen(environment, says, hint):
    with pytest.raises(FinetuneError) as caught:
        check_launch(environment)
    assert says in caught.value.message
    assert hint in (caught.value.hint or "")


@pytest.mark.slow
@pytest.mark.parametrize("machines", [1, 2])
def test_accelerate_launch_on_processors_is_told_to_use_torchrun(machines, toy_recipe, tmp_path):
    words = ["--cpu", "--num_processes", "2", "--num_machines", str(machines), "--machine_rank", "0"]
    if machines == 2:
        words += ["--main_process_ip", "10.9.8.7", "--main_process_port", "29555"]
    started = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *words, "-m", "finetune", "run", str(toy_recipe())],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert started.returncode != 0
    assert "would train alone" in started.stderr
    assert "torchrun --nnodes 2" in started.stderr if machines == 2 else "torchrun --nproc-per-node 2" in started.stderr
    assert not (tmp_path / "runs").exists()
