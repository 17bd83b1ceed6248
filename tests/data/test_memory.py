"""Memory hardly grows with the rows, whatever the format: measured in processes of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.memory import generate

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="this system does not say RssAnon"),
]
SIZES = (120_000, 320_000)  # both beyond one row group of the generated parquet files, which is decoded as a whole
ROWS_MORE = SIZES[1] - SIZES[0]
# 32 bytes a row; over so few rows, the pieces that are held for a moment (8 MiB) weigh more than the rows.
ALLOWED = 32 * ROWS_MORE + 8 * 2**20


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_memory_is_nearly_flat_from_reading_to_scores(form, tmp_path):
    few, many = (measured(generate(tmp_path, form, rows), tmp_path) for rows in SIZES)
    assert max(many["highest_bytes"].values()) - max(few["highest_bytes"].values()) < ALLOWED
    assert list(tmp_path.glob("cache/*")) == [tmp_path / "cache" / "tokens"]


def measured(path, folder):
    environment = {**os.environ, "FINETUNE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "benchmarks.memory", str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])
