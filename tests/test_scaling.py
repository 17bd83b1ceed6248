"""The paper estimate of docs/scaling.md, and the script for SLURM."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import scaling

ROOT = Path(__file__).parents[1]
BERT = scaling.MODELS[0]
FAST, SLOW = scaling.NETWORKS


def test_scaling_sends_what_a_ring_all_reduce_sends():
    gradients = BERT.parameters * 4
    assert scaling.sent_bytes(BERT, 1) == 0
    assert scaling.sent_bytes(BERT, 2) == gradients
    assert scaling.sent_bytes(BERT, 4) == pytest.approx(1.5 * gradients)
    assert scaling.sent_bytes(BERT, 64) == pytest.approx(2 * 63 / 64 * gradients)


@pytest.mark.parametrize("overlapped", [False, True])
def test_scaling_efficiency_falls_with_machines_and_slower_networks(overlapped):
    def efficiency(gpus, network, accumulated=1):
        return scaling.efficiency(BERT, gpus, network, accumulated, overlapped=overlapped)

    assert efficiency(1, FAST) == 1
    assert efficiency(8, FAST) == efficiency(8, SLOW)  # one machine has no network in it
    assert efficiency(8, FAST) > efficiency(16, FAST) > efficiency(64, FAST) > 0
    assert efficiency(16, FAST) > efficiency(16, SLOW)
    assert efficiency(16, FAST, 8) > efficiency(16, FAST, 1)


def test_scaling_computes_the_example_by_hand():
    # 6 × 86e6 × 4096 / (312e12 × 0.4) s, then 2 × 15/16 × 440 MB over 20 GB/s and 30 hops of 10 µs.
    assert scaling.compute_s(BERT) == pytest.approx(0.016935, rel=1e-3)
    assert scaling.exchange_s(BERT, 16, FAST) == pytest.approx(0.04125 + 0.0003)
    alone = 0.0169354 / (0.0169354 + 0.04155)
    assert scaling.efficiency(BERT, 16, FAST, 1, overlapped=False) == pytest.approx(alone, rel=1e-3)


STAND_INS = {
    "scontrol": 'test "$1 $2" = "show hostnames" && printf "node7\\nnode8\\n"',
    "srun": 'shift; for SLURM_NODEID in 0 1; do export SLURM_NODEID; "$@"; done',  # one machine after the other
    "torchrun": 'printf "%s|" "$@"; echo',
}


def test_scaling_script_for_slurm_starts_a_torchrun_on_each_machine(tmp_path):
    syntax = subprocess.run(["bash", "-n", ROOT / "docs/slurm/finetune.sbatch"], capture_output=True, text=True)
    assert syntax.returncode == 0, syntax.stderr
    for name, does in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{does}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/activate").write_text("")
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "FINETUNE_ENV": str(tmp_path),
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "123456",
        "SLURM_JOB_NODELIST": "node[7-8]",
        "SLURM_NNODES": "2",
    }
    script = ROOT / "docs/slurm/finetune.sbatch"
    done = subprocess.run(
        ["bash", script, "my recipe.yaml", "--resume"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    started = [line.strip("|").split("|") for line in done.stdout.splitlines()]
    where = ["--master-addr", "node7", "--master-port", str(20000 + 123456 % 20000)]
    assert started == [
        ["--nnodes", "2", "--node-rank", str(rank), "--nproc-per-node", "gpu", *where, "-m", "finetune", "run",
         "my recipe.yaml", "--resume"]
        for rank in (0, 1)
    ]  # fmt: skip


def test_scaling_prints_its_tables():
    printed = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == scaling.table().strip()
    assert printed.stdout.count("\n| 64 | 8 |") == len(scaling.MODELS)
