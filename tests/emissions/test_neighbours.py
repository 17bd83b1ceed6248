import json
import os
import stat
import subprocess
import sys

import pytest

from finetune.emissions import neighbours
from finetune.emissions.components import overlap
from finetune.emissions.neighbours import Neighbours, host_folder, living_runs
from finetune.runs import liveness

HOST = ("cpu", "ram")


@pytest.fixture
def other_process(tmp_path):
    """Return a function that joins as another process, which lives until the test is over or it is killed."""
    started = []
    code = (
        "import sys; from pathlib import Path; from finetune.emissions.neighbours import Neighbours\n"
        "own = Neighbours(sys.argv[1], Path(sys.argv[2])); own.join(('cpu', 'ram'))\n"
        "print(own.met, flush=True); sys.stdin.read()"
    )

    def start(run_id):
        process = subprocess.Popen(
            [sys.executable, "-c", code, run_id, str(tmp_path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        started.append(process)
        process.said = process.stdout.readline().strip()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def files(tmp_path):
    return sorted(path.name for path in tmp_path.rglob("*.json"))


def test_neighbours_know_of_each_other_whoever_comes_first(tmp_path):
    first, second = Neighbours("first", tmp_path), Neighbours("second", tmp_path)
    assert first.met is None  # nobody has looked
    first.join(HOST)
    assert first.met == ()
    second.join(HOST)
    assert second.met == ("first",)
    first.look()
    assert first.met == ("second",)


def test_neighbours_of_a_run_that_was_over_between_two_looks_still_learn_of_it(tmp_path):
    long, short = Neighbours("long", tmp_path), Neighbours("short", tmp_path)
    long.join(HOST)
    short.join(HOST)
    short.leave()
    assert living_runs(tmp_path) == ("long",)
    long.look()
    assert long.met == ("short",)
    long.leave()
    later = Neighbours("later", tmp_path)
    later.join(HOST)
    assert later.met == ()
    assert files(tmp_path) == [f"later.{os.getpid()}.json"]
    later.leave()
    assert files(tmp_path) == []


def test_neighbours_are_met_for_good(tmp_path):
    first, second = Neighbours("first", tmp_path), Neighbours("second", tmp_path)
    first.join(HOST)
    second.join(HOST)
    first.leave()
    second.look()
    assert (first.met, second.met) == (("second",), ("first",))


def test_neighbours_do_not_count_the_run_itself(tmp_path):
    machines = [Neighbours("run", tmp_path), Neighbours("run", tmp_path)]
    for meter in machines:  # two hosts of one run on one machine, or a life that was killed and resumed
        meter.join(HOST)
    assert [meter.met for meter in machines] == [(), ()]


@pytest.mark.parametrize(
    ("one", "other", "shares"),
    [
        ("cpu", "cpu", True),
        ("cpu", "cpu:cgroup-7", True),
        ("cpu:cgroup-7", "cpu:cgroup-7", True),
        ("cpu:cgroup-7", "cpu:cgroup-8", False),
        ("cpu:0-3,8", "cpu:4-7", False),
        ("cpu:0-3,8", "cpu:8-9", True),
        ("gpu:GPU-a", "gpu:GPU-b", False),
        ("gpu", "gpu:GPU-b", True),
        ("cpu", "ram", False),
    ],
)
def test_neighbours_share_hardware_or_are_none(tmp_path, one, other, shares):
    assert overlap(one, other) == overlap(other, one) == shares
    first, second = Neighbours("first", tmp_path), Neighbours("second", tmp_path)
    first.join([one])
    second.join([other])
    assert bool(second.met) == shares


def test_neighbours_in_other_processes_count_while_these_live(tmp_path, other_process):
    process = other_process("elsewhere")
    assert process.said == "()"
    here = Neighbours("here", tmp_path)
    here.join(HOST)
    assert here.met == ("elsewhere",)
    here.leave()
    process.kill()
    process.wait()
    assert living_runs(tmp_path) == ()
    later = Neighbours("later", tmp_path)
    later.join(HOST)
    assert later.met == ()
    assert files(tmp_path) == [f"later.{os.getpid()}.json"]


def test_neighbours_clear_away_a_killed_run_and_no_other_users_file(tmp_path, other_process):
    process = other_process("killed")
    process.kill()
    process.wait()
    theirs = tmp_path / "finetune-runs-4711"
    theirs.mkdir()
    (theirs / "old.1.json").write_text(json.dumps({"run_id": "old", "hardware": ["cpu"], "met": [], "pid": 1}))
    here = Neighbours("here", tmp_path)
    here.join(HOST)
    assert here.met == ()
    assert files(tmp_path) == [f"here.{os.getpid()}.json", "old.1.json"]


def test_neighbours_of_another_host_that_shares_the_folder_are_none(tmp_path):
    theirs = tmp_path / "finetune-runs-4711"
    theirs.mkdir()
    entry = liveness.sign_of_life() | {"run_id": "far", "hardware": ["cpu"], "met": ["here"]}
    (theirs / "far.1.json").write_text(json.dumps(entry | {"boot_id": "another"}))
    here = Neighbours("here", tmp_path)
    here.join(HOST)
    assert here.met == ()
    assert living_runs(tmp_path) == ("here",)
    (theirs / "far.1.json").write_text(json.dumps(entry))
    here.look()
    assert here.met == ("far",)


def test_neighbours_of_users_whose_processes_are_hidden_go_by_their_last_sign(tmp_path, monkeypatch):
    theirs = tmp_path / "finetune-runs-4711"
    theirs.mkdir()
    entry = liveness.sign_of_life() | {"run_id": "theirs", "hardware": ["cpu"], "met": [], "pid": 2**22 + 1}
    (theirs / "theirs.1.json").write_text(json.dumps(entry))
    os.chown(theirs / "theirs.1.json", 4711, -1) if os.getuid() == 0 else pytest.skip("only root may give files away")
    assert living_runs(tmp_path) == ()
    monkeypatch.setattr(neighbours, "_sees_all_processes", lambda: False)
    assert living_runs(tmp_path) == ("theirs",)
    (theirs / "theirs.1.json").write_text(json.dumps(entry | {"heartbeat_at": 0.0}))
    assert living_runs(tmp_path) == ()


def test_neighbours_read_nothing_that_could_do_harm(tmp_path):
    theirs = tmp_path / "finetune-runs-4711"
    theirs.mkdir()
    good = liveness.sign_of_life() | {"run_id": "x", "hardware": ["cpu"], "met": []}
    bad = [good | {"run_id": "\x1b[2Jboo"}, good | {"run_id": 7}, good | {"met": [1]}, good | {"hardware": "cpu"}, []]
    contents = [*map(json.dumps, bad), "not json", "[" * 10_000, json.dumps(good) + " " * 20_000]
    for number, content in enumerate(contents):
        (theirs / f"{number}.json").write_text(content)
    os.mkfifo(theirs / "pipe.json")  # opening it would wait for a writer
    (tmp_path / "secret.json").write_text(json.dumps(good))
    (theirs / "link.json").symlink_to(tmp_path / "secret.json")
    here = Neighbours("here", tmp_path)
    here.join(HOST)
    assert here.met == ()
    assert here.problem is None


def test_neighbours_files_are_readable_by_all_and_hold_no_secrets(tmp_path):
    before = os.umask(0o077)
    try:
        Neighbours("here", tmp_path).join(HOST)
    finally:
        os.umask(before)
    (path,) = tmp_path.rglob("*.json")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert set(json.loads(path.read_text())) == {
        "pid", "process_started", "boot_id", "pid_namespace", "heartbeat_at", "run_id", "hardware", "met"
    }  # fmt: skip


def test_neighbours_say_when_nobody_can_look(tmp_path):
    (tmp_path / "file").write_text("")
    here = Neighbours("here", tmp_path / "file")
    here.join(HOST)
    here.look()
    here.leave()
    assert here.met is None
    assert "could not be looked for" in here.problem
    with pytest.raises(OSError, match="Not a directory"):
        living_runs(tmp_path / "file")


def test_neighbours_do_not_follow_a_planted_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"finetune-runs-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    here = Neighbours("here", tmp_path)
    here.join(HOST)
    assert here.met is None
    assert "not a folder of this user" in here.problem
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_host_folder_can_be_named():
    assert str(host_folder({"FINETUNE_HOST_FOLDER": "/shared"})) == "/shared"
    assert str(host_folder({"TMPDIR": "/tmp/job-7"})) == "/tmp"
