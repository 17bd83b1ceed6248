import pytest

from finetune.emissions.allocation import CpuShare
from finetune.emissions.load import ShareLoad


@pytest.fixture
def stat(tmp_path):
    """Write /proc/stat from {processor: (busy ticks, idle ticks)}."""

    def write(ticks):
        lines = ["cpu 1 2 3 4 5 6 7 8 9 10"]
        # user nice system idle iowait irq softirq steal guest guest_nice; guests count as user already
        lines += [f"cpu{number} {busy} 0 0 {idle} 0 0 0 0 {busy} 0" for number, (busy, idle) in ticks.items()]
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/stat").write_text("\n".join([*lines, "intr 1 2"]) + "\n")

    return write


def test_load_of_pinned_processors_is_theirs_alone(tmp_path, stat):
    stat({0: (0, 0), 1: (0, 0), 2: (0, 0), 10: (0, 0)})
    load = ShareLoad(CpuShare(2, 4, "affinity", (1, 10)), tmp_path)
    assert load.can_read
    stat({0: (1000, 0), 1: (50, 50), 2: (1000, 0), 10: (100, 0)})
    assert load.percent() == 75.0
    assert load.percent() == 75.0  # no time has passed: the last one
    stat({0: (2000, 0), 1: (50, 150), 2: (2000, 0), 10: (100, 100)})
    assert load.percent() == 0.0


def test_load_of_a_quota_is_what_the_group_used_of_it(tmp_path, clock):
    group = tmp_path / "sys/fs/cgroup/app"
    group.mkdir(parents=True)
    (group / "cpu.stat").write_text("usage_usec 1000000\n")
    load = ShareLoad(CpuShare(2.0, 64, "cgroup", group=group), tmp_path, clock)
    clock.sleep(1.0)
    (group / "cpu.stat").write_text("usage_usec 2500000\n")
    assert load.percent() == pytest.approx(75.0)
    clock.sleep(1.0)
    (group / "cpu.stat").write_text("usage_usec 9500000\n")  # a burst above the quota
    assert load.percent() == 100.0
    (group / "cpu.stat").unlink()
    clock.sleep(1.0)
    assert load.percent() == 100.0


def test_load_begins_anew_after_a_reset(tmp_path, stat):
    stat({0: (0, 0)})
    load = ShareLoad(CpuShare(1, 2, "cgroup", (0,)), tmp_path)
    stat({0: (900, 0)})
    load.reset()
    stat({0: (900, 100)})
    assert load.percent() == 0.0


def test_load_of_a_count_alone_cannot_be_read(tmp_path):
    assert not ShareLoad(CpuShare(8, 64, "SLURM"), tmp_path).can_read
    assert not ShareLoad(CpuShare(1, 2, "affinity", (5,)), tmp_path).can_read
