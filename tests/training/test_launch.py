"""finetune.training.launch: real processes, with a few lines of Python in place of a training."""

import os
import signal
import sys
import threading
import time

import pytest

from finetune.errors import FinetuneError
from finetune.training import launch


@pytest.fixture
def play(monkeypatch, capfd):
    """Return a function that launches two processes of a script and gives (exit code, stdout, stderr)."""

    def call(script: str, count: int = 2):
        head = "import os, signal, sys, time; rank = int(os.environ['RANK'])\n"
        monkeypatch.setattr(launch, "_command", lambda words: [sys.executable, "-c", head + script, *words])
        code = launch.launch([], {}, count)
        return code, *capfd.readouterr()

    return call


def test_launch_tells_each_process_its_place(play):
    code, out, _ = play("""
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR")
line = " ".join(os.environ[name] for name in names)
print(line) if rank == 0 else sys.exit(line)
""")
    assert code == 0
    assert out == "0 0 2 2 0 127.0.0.1\n"


def test_launch_passes_arguments_on(play, monkeypatch, capfd):
    monkeypatch.setattr(launch, "_command", lambda words: [sys.executable, "-c", "import sys; print(sys.argv)", *words])
    options = {"resume": True, "smoke": False, "country": None, "output-dir": "a b"}
    assert launch.launch(["r.yaml", "training.seed=1"], options, 2) == 0
    expected = ["-c", "run", "r.yaml", "training.seed=1", "--num-processes=2", "--resume", "--output-dir=a b"]
    assert capfd.readouterr().out == f"{expected}\n"


def test_launch_divides_the_cores(play, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(launch, "_cores", lambda: 6)
    code, out, err = play("print(os.environ['OMP_NUM_THREADS'])")
    assert (code, out) == (0, "3\n")
    assert "2 processes with 3 threads each" in err


def test_launch_keeps_the_threads_that_the_user_has_set(play, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert play("print(os.environ['OMP_NUM_THREADS'])")[1] == "5\n"


@pytest.mark.parametrize("code", [0, 1, 70, 143])
def test_launch_returns_the_code_of_the_first_process(code, play):
    assert play(f"sys.exit({code} if rank == 0 else 0)")[0] == code


def test_launch_counts_a_killed_first_process_as_a_shell_does(play):
    assert play("os.kill(os.getpid(), signal.SIGKILL) if rank == 0 else None")[0] == 137


def test_launch_shows_what_another_process_died_of(play):
    _, out, err = play(
        """
if rank == 1:
    print("quiet")
    raise ValueError("a strange thing")
sys.exit(1)
""",
        3,
    )
    assert "a strange thing" not in err  # an error of its own is what the first process tells
    assert out == ""
    _, out, err = play("""
if rank == 1:
    sys.stderr.write("a strange thing")
    sys.exit(70)
sys.exit(1)
""")
    assert "process 1 ended with 70\na strange thing" in err
    assert "process 1 was killed (signal 9)" in play("os.kill(os.getpid(), 9) if rank else sys.exit(1)")[2]


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_launch_passes_signals_to_every_process(signum, play, tmp_path):
    def send_when_ready():
        while len(list(tmp_path.glob("ready-*"))) < 2:
            time.sleep(0.02)
        os.kill(os.getpid(), signum)

    threading.Thread(target=send_when_ready, daemon=True).start()
    before = signal.getsignal(signum)
    code, *_ = play(f"""
def end(number, frame):
    open(rf"{tmp_path}/ended-{{rank}}", "w").write(str(number))
    sys.exit(128 + number)
signal.signal(signal.SIGINT, end), signal.signal(signal.SIGTERM, end)
open(rf"{tmp_path}/ready-{{rank}}", "w")
time.sleep(60)
""")
    assert code == 128 + signum
    assert [(tmp_path / f"ended-{rank}").read_text() for rank in (0, 1)] == [str(int(signum))] * 2
    assert signal.getsignal(signum) is before


@pytest.mark.parametrize("ends_first", [0, 1])
def test_launch_ends_a_process_that_stays_behind(ends_first, play, monkeypatch):
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 0.3)
    code, _, err = play(f"sys.exit(7) if rank == {ends_first} else time.sleep(300)")
    assert code == (7 if ends_first == 0 else 137)
    assert ("process 1 did not end" if ends_first == 0 else "process 1 ended with 7") in err


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent is gone")
def test_launch_that_is_killed_takes_its_processes_along(tmp_path):
    import subprocess

    inner = f"import os, time; open(rf'{tmp_path}/' + os.environ['RANK'], 'w').write(str(os.getpid())); time.sleep(300)"
    outer = (
        "import sys\nfrom finetune.training import launch\n"
        f"launch._command = lambda words: [sys.executable, '-c', {inner!r}]\nlaunch.launch([], {{}}, 2)"
    )
    launcher = subprocess.Popen([sys.executable, "-c", outer], stderr=subprocess.DEVNULL)

    def started():
        return [int(text) for rank in "01" if (tmp_path / rank).exists() and (text := (tmp_path / rank).read_text())]

    while len(started()) < 2:
        assert launcher.poll() is None
        time.sleep(0.05)
    launcher.kill()
    launcher.wait()
    for pid in started():
        for _ in range(600):
            if not _is_running(pid):
                break
            time.sleep(0.05)
        assert not _is_running(pid)


def _is_running(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_world_of_another_size_is_refused(monkeypatch, finetune, toy_recipe):
    monkeypatch.setenv("WORLD_SIZE", "1")  # as torchrun --nproc_per_node 1 sets it
    code, _, err = finetune("run", toy_recipe(), "--num-processes", 2)
    assert code == 1
    assert "--num-processes 2, but a launcher started 1 process" in err
    assert "Leave --num-processes out" in err


def test_dry_run_tells_the_steps_of_all_processes(finetune, toy_recipe):
    code, out, err = finetune("run", toy_recipe(), "--dry-run", "--num-processes", 4)
    assert code == 0, err
    assert "4 (2 an epoch, 32 rows a step)" in out


def test_launch_is_not_asked_for_less_than_one(finetune, toy_recipe):
    assert finetune("run", toy_recipe(), "--num-processes", 0)[0] == 2


def test_other_ranks_errors_are_finetune_errors():
    from finetune import ranks

    assert isinstance(ranks.told(None), FinetuneError)
    report = {"rank": 1, "kind": "failed", "message": "no more paper", "hint": "Buy some."}
    assert (ranks.told(report).message, ranks.told(report).hint) == ("process 1: no more paper", "Buy some.")
