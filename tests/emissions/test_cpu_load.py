import threading
import time
import types

import pytest

from finetune.emissions.allocation import CpuShare
from finetune.emissions.load import ShareLoad, SteadyLoad


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


class FakeCpu:
    """codecarbon's CPU in load mode, with a load of our choice and a clock of our own."""

    _tdp = 100.0

    def __init__(self, watts, now):
        self.watts, self.now = watts, now
        self._power_history_lock = threading.Lock()
        self._power_history = []
        self._last_sample_time = now()

    def _take_power_sample(self):
        now = self.now()
        duration, self._last_sample_time = now - self._last_sample_time, now
        return types.SimpleNamespace(W=self.watts(now)), duration

    def monitor_power(self):
        self._power_history.append(self._take_power_sample())


@pytest.mark.parametrize("seconds", [20, 300])
@pytest.mark.parametrize("borders_per_s", [0, 3, 10])
def test_steady_load_does_not_add_up_what_borders_guess(monkeypatch, borders_per_s, seconds):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    # Full load in every other second: the worst case for the guess about the second that is not over yet.
    cpu = FakeCpu(lambda now: 100.0 if int(now) % 2 else 10.0, lambda: clock[0])
    steady = SteadyLoad(cpu)
    energies = []
    for step in range(1, seconds * 30 + 1):
        clock[0] = step / 30
        if step % 30 == 0:
            cpu.monitor_power()
        if borders_per_s and step > 30 and step % (30 // borders_per_s) == 0:
            energies.append(steady.measure()[1])
    energies.append(steady.measure()[1])
    sampled = seconds / 2 * 110
    assert min(energies) >= 0
    assert steady._sampled_j == pytest.approx(sampled)
    # However long it runs, what is reported is ahead of the samples by one second's swing at most.
    assert sampled - 1e-6 <= sum(energies) <= sampled + 90


def test_steady_load_is_exact_under_constant_load(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    cpu = FakeCpu(lambda now: 80.0, lambda: clock[0])
    steady = SteadyLoad(cpu)
    for step in range(1, 100):
        clock[0] = step * 0.37
        if step % 3 == 0:
            cpu.monitor_power()
        assert steady.measure()[1] == pytest.approx(80 * 0.37)


def test_steady_load_has_a_reading_in_the_first_second(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    cpu = FakeCpu(lambda now: 50.0, lambda: clock[0])
    steady = SteadyLoad(cpu)
    clock[0] = 0.01  # too short to know the load: the model's least, a tenth of the TDP
    assert steady.measure()[1] == pytest.approx(0.1)
    clock[0] = 0.4
    assert steady.measure()[1] == pytest.approx(20.0 - 0.1)
