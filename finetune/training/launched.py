"""What started this process, and whether it asks for something that a run cannot do.

A launcher that starts one process where several were asked for, or several that know nothing of each other, would
leave every one of them training alone on all the data. That is an error, and so is a way of splitting the model that
this version does not compute with: nothing that a launcher's configuration says is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Mapping

from finetune.errors import FinetuneError

# Launchers that number their processes in their own way, and how many each says there are.
_COUNTS = {
    "SLURM_STEP_NUM_TASKS": "srun",
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpirun",
    "MV2_COMM_WORLD_SIZE": "mpirun",
}
_SPLITS = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration (tensor, context or sequence parallel)",
}


def check_launch(environment: Mapping[str, str]) -> None:
    """Raise FinetuneError when a launcher asks for what would not happen."""
    if not environment.get("WORLD_SIZE"):
        _check_alone(environment)
    for name, what in _SPLITS.items():
        if _says_yes(environment, name):
            raise FinetuneError(
                f"{what} is asked for ({name}), and this version does not train with it",
                "FSDP2 shards weights, gradients and optimizer: accelerate launch --use_fsdp --fsdp_version 2",
            )
    if wants_sharding(environment) and environment.get("FSDP_VERSION", "1") != "2":
        raise FinetuneError(
            "FSDP1 is asked for (FSDP_VERSION), and this version does not train with it",
            "Take its successor: --fsdp_version 2, or fsdp_version: 2 in Accelerate's configuration.",
        )
    if wants_sharding(environment) and environment.get("WORLD_SIZE", "1") == "1":
        raise FinetuneError(
            "FSDP is asked for (ACCELERATE_USE_FSDP) with one process, which has nobody to share the model with",
            "Start more: accelerate launch --use_fsdp --fsdp_version 2 --num_processes N, or leave FSDP out.",
        )
    backend = environment.get("ACCELERATE_DYNAMO_BACKEND", "no").lower()
    if backend != "no":
        raise FinetuneError(
            f"ACCELERATE_DYNAMO_BACKEND is {backend}: what is compiled is said in the recipe",
            "Set training.torch_compile=true, and dynamo_backend to no in Accelerate's configuration.",
        )


def wants_sharding(environment: Mapping[str, str]) -> bool:
    """Tell whether Accelerate's configuration asks for FSDP."""
    return _says_yes(environment, "ACCELERATE_USE_FSDP")


def _check_alone(environment: Mapping[str, str]) -> None:
    """Refuse to be one of several processes that do not know of each other."""
    for name, launcher in _COUNTS.items():
        count = environment.get(name, "")
        if count.isdigit() and int(count) > 1:
            raise FinetuneError(
                f"{launcher} started {count} processes ({name}), and each of them would train alone",
                f"Start torchrun once on each machine: {_torchrun(environment)}",
            )
    # accelerate launch names the meeting point only when it was asked for several processes.
    if "ACCELERATE_MIXED_PRECISION" in environment and "MASTER_ADDR" in environment:
        raise FinetuneError(
            "accelerate launch was asked for several processes and has started one that would train alone; "
            "it does so for processors (--cpu)",
            f"Use {_torchrun(environment)}",
        )


def _torchrun(environment: Mapping[str, str]) -> str:
    address = environment.get("MASTER_ADDR", "127.0.0.1")
    end = "-m finetune run RECIPE"
    if address in ("127.0.0.1", "localhost") and not environment.get("SLURM_STEP_NUM_TASKS"):
        return f"torchrun --nproc-per-node 2 {end} (or finetune run RECIPE --num-processes 2)"
    port = environment.get("MASTER_PORT", "29500")
    where = "ADDRESS" if address in ("127.0.0.1", "localhost") else address
    return (
        f"torchrun --nnodes 2 --node-rank 0 (1 on the second) --nproc-per-node 1 "
        f"--master-addr {where} --master-port {port} {end}"
    )


def _says_yes(environment: Mapping[str, str], name: str) -> bool:
    return environment.get(name, "").lower() in ("1", "true", "yes", "on")
