import json
import subprocess
import sys
import time

import pytest

from finetune.errors import FinetuneError
from finetune.runs import liveness
from finetune.runs.liveness import claim_run, heartbeat, is_alive, release

HOLD = (
    "import sys; from pathlib import Path; from finetune.runs.liveness import claim_run; claim_run(Path(sys.argv[1])); "
)


def start_holder(directory):
    code = HOLD + "print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"held\n"
    return process


def change(directory, **fields):
    path = directory / "alive.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def test_liveness_a_run_is_alive_between_claim_and_release(tmp_path):
    assert not is_alive(tmp_path)
    claim_run(tmp_path)
    heartbeat(tmp_path)
    assert is_alive(tmp_path)
    claim_run(tmp_path)  # again by the same process
    release(tmp_path)
    assert not is_alive(tmp_path)


def test_liveness_another_process_is_refused_until_the_first_is_killed(tmp_path):
    holder = start_holder(tmp_path)
    try:
        assert is_alive(tmp_path)
        with pytest.raises(FinetuneError, match=f"process {holder.pid}"):
            claim_run(tmp_path)
        release(tmp_path)  # not ours to give back
        assert is_alive(tmp_path)
        holder.kill()
        deadline = time.monotonic() + 30
        while is_alive(tmp_path) and time.monotonic() < deadline:  # a zombie counts as dead, before anyone waits for it
            time.sleep(0.01)
        assert not is_alive(tmp_path)
        claim_run(tmp_path)
        assert json.loads((tmp_path / "alive.json").read_text())["pid"] != holder.pid
    finally:
        holder.kill()
        holder.communicate()


def test_liveness_of_two_claims_at_once_one_wins(tmp_path):
    code = HOLD + "print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(4)]
    first_lines = [process.stdout.readline() for process in processes]
    for process in processes:
        process.communicate()
    assert sorted(first_lines) == [b"", b"", b"", b"held\n"]


def test_liveness_a_reused_process_number_is_not_the_run(tmp_path):
    claim_run(tmp_path)
    change(tmp_path, process_started=1.0)
    assert not is_alive(tmp_path)


@pytest.mark.parametrize("elsewhere", [{"boot_id": "another boot"}, {"pid_namespace": "pid:[1]"}])
def test_liveness_on_another_host_or_in_another_container_the_heartbeat_counts(tmp_path, elsewhere):
    claim_run(tmp_path)
    change(tmp_path, **elsewhere, pid=1)
    assert is_alive(tmp_path)
    change(tmp_path, heartbeat_at=time.time() - liveness.SILENT_AFTER_S - 1)
    assert not is_alive(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": "x", "heartbeat_at": "now"}'])
def test_liveness_a_damaged_file_holds_nothing(tmp_path, content):
    (tmp_path / "alive.json").write_text(content)
    assert not is_alive(tmp_path)
    claim_run(tmp_path)
    assert is_alive(tmp_path)
