import sys
import threading
import time

import psutil
import pytest

from finetune.emissions import allocation, tracker
from finetune.emissions.allocation import Gpu
from finetune.emissions.tracker import CodecarbonSource, SteadyLoad

pytestmark = pytest.mark.usefixtures("codecarbon_home")


@pytest.fixture
def make_source(tmp_path):
    made = []

    def make(directory=tmp_path, **options):
        source = CodecarbonSource(directory, "run-1", 100.0, "BRA", **({"environment": {}} | options))
        made.append(source)
        return source

    yield make
    for source in made:
        source.stop()


def by_name(components):
    return {part.name: part for part in components}


def test_source_says_how_each_component_is_known_and_prints_nothing(make_source, capfd):
    source = make_source()
    parts = by_name(source.start())
    first, second = source.read(), source.read()
    source.stop()
    assert set(parts) == {"cpu", "gpu", "ram"}
    assert parts["cpu"].method in ("measured", "modelled")
    assert parts["ram"].method == "assumed"
    assert parts["ram"].detail.startswith("memory constant, ")
    assert all(second[name] >= first[name] for name in first)
    assert second["ram"] > first["ram"]
    assert source.tool()["name"] == "codecarbon"
    assert source.tool()["version"].startswith("3.3.")
    assert not any("Multiple instances" in note or "We will use" in note for note in source.notes())
    assert capfd.readouterr() == ("", "")


def test_source_ignores_codecarbons_own_settings(make_source, monkeypatch, tmp_path):
    plain = make_source()
    expected = plain.start()
    plain.stop()
    hostile = {
        "force_ram_power": "999",
        "force_cpu_power": "888",
        "pue": "7",
        "tracking_mode": "process",
        "allow_multiple_runs": "False",
        "output_methods": "csv",
        "co2_signal_api_token": "secret",
        "rapl_prefer_psys": "true",
        "log_level": "debug",
    }
    (tmp_path / ".codecarbon.config").write_text(
        "[codecarbon]\n" + "".join(f"{key}={value}\n" for key, value in hostile.items())
    )
    for key, value in hostile.items():
        monkeypatch.setenv(f"CODECARBON_{key.upper()}", value)
    source = make_source()
    assert source.start() == expected
    assert source._tracker._pue == 1.0
    assert not source._tracker._electricitymaps_api_token
    source.stop()
    assert not list(tmp_path.glob("*.csv"))


def test_source_without_its_folder_gives_null_with_the_reason(make_source, tmp_path):
    source = make_source(tmp_path / "not there")
    parts = by_name(source.start())
    assert parts["cpu"].method is None
    assert "not there" in parts["cpu"].detail
    assert parts["ram"].method is None
    assert source.read() == {}


def test_source_without_codecarbon_gives_null_with_the_reason(make_source, monkeypatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    parts = by_name(make_source().start())
    assert parts["cpu"].method is None
    assert "codecarbon" in parts["cpu"].detail


def test_source_notices_a_start_that_swallowed_its_error(make_source, monkeypatch):
    from codecarbon.external.hardware import CPU

    def broken(self):
        raise OSError("counter gone")

    monkeypatch.setattr(CPU, "start", broken)
    parts = by_name(make_source().start())
    assert parts["cpu"].method is None
    assert "counter gone" in parts["cpu"].detail


def test_source_reports_a_failed_measurement_as_none(make_source, monkeypatch):
    source = make_source()
    source.start()

    def broken():
        raise OSError("device lost")

    monkeypatch.setattr(source._tracker, "_measure_power_and_energy", broken)
    readings = source.read()
    assert readings
    assert set(readings.values()) == {None}
    assert "device lost" in source.problem("cpu")


def test_source_notices_a_rapl_counter_that_cannot_be_read(make_source, rapl_cpu, tmp_path):
    source = make_source()
    source.start()
    counter = rapl_cpu({"0": ("package-0", 1_000_000)})
    source._tracker._hardware = [counter]
    counter.start()
    source.read()
    (tmp_path / "rapl/intel-rapl/intel-rapl:0/energy_uj").write_text("")
    assert source.read()["cpu"] is None
    assert "RAPL" in source.problem("cpu")


def test_source_describes_rapl_as_measured(rapl_cpu):
    part = tracker._describe_hardware(rapl_cpu({"0": ("package-0", 1)}))
    assert (part.name, part.method) == ("cpu", "measured")
    assert "RAPL" in part.detail
    assert (part.low, part.high) == (0.95, 1.05)


@pytest.mark.parametrize(
    ("gpus", "stated", "driver", "method", "said"),
    [
        ((), None, False, "absent", "no GPU"),
        ((Gpu(0, "GPU-a"),), "", False, "absent", "CUDA_VISIBLE_DEVICES=''"),
        ((Gpu(0, "GPU-a"),), "-1", False, "absent", "hides every GPU"),
        ((Gpu(0, "GPU-a"),), "GPU-zzz", False, "absent", "hides every GPU"),
        (None, None, True, None, "NVML"),
        (None, None, False, "absent", "no GPU"),
    ],
)
def test_source_settles_gpus_that_are_hidden_or_unreadable(
    make_source, monkeypatch, gpus, stated, driver, method, said
):
    monkeypatch.setattr(allocation, "nvidia_gpus", lambda: gpus)
    monkeypatch.setattr(allocation, "has_nvidia_driver", lambda: driver)
    source = make_source(environment={} if stated is None else {"CUDA_VISIBLE_DEVICES": stated})
    gpu = by_name(source.start())["gpu"]
    assert gpu.method == method
    assert said in gpu.detail
    assert "gpu" not in source.read()


def test_source_passes_nvml_numbers_for_uuids(make_source, monkeypatch):
    cards = (Gpu(0, "GPU-a"), Gpu(1, "GPU-b"), Gpu(2, "GPU-c"))
    monkeypatch.setattr(allocation, "nvidia_gpus", lambda: cards)
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-a"})
    assert source._resolve_gpus() == (None, [0, 2])


def test_source_warns_of_two_ways_to_number_gpus(make_source, monkeypatch):
    cards = (Gpu(0, "GPU-a", "T4"), Gpu(1, "GPU-b", "A100"))
    monkeypatch.setattr(allocation, "nvidia_gpus", lambda: cards)
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": "0"})
    source._resolve_gpus()
    assert "CUDA_DEVICE_ORDER" in source.notes()[0]


def test_source_uses_the_users_tdp_only_without_a_counter(make_source, monkeypatch):
    from codecarbon.core import cpu

    monkeypatch.setattr(cpu, "is_rapl_available", lambda: False)
    source = make_source(cpu_tdp_w=65.0)
    part = by_name(source.start())["cpu"]
    assert part.method == "modelled"
    assert "65 W given by the user" in part.detail
    assert (part.low, part.high) == (0.5, 2.0)
    monkeypatch.setattr(cpu, "is_rapl_available", lambda: True)
    with_counter = make_source(cpu_tdp_w=65.0)
    arguments = {}

    def build(**given):
        arguments.update(given)
        raise RuntimeError("seen enough")

    monkeypatch.setattr("codecarbon.OfflineEmissionsTracker", build)
    with_counter.start()
    assert arguments["force_cpu_power"] is None
    assert "not used" in with_counter.notes()[0]


def test_source_scales_the_memory_constant_to_the_cgroup(make_source, monkeypatch):
    limit = 2 * allocation.GIB
    assert psutil.virtual_memory().total > limit
    monkeypatch.setattr(allocation, "memory_limit_bytes", lambda: limit)
    part = by_name(make_source().start())["ram"]
    assert part.detail == "memory constant, 10.0 W for the cgroup's memory limit"


def test_source_leaves_no_thread_behind(make_source):
    before = set(threading.enumerate())
    source = make_source()
    source.start()
    monitor = source._tracker._scheduler_monitor_power
    assert set(threading.enumerate()) - before
    source.stop()
    monitor._run()  # as if a timer had fired during stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
    assert not set(threading.enumerate()) - before


class FakeCpu:
    """codecarbon's CPU in load mode, with a load of our choice and a clock of our own."""

    _tdp = 100.0

    def __init__(self, watts, now):
        self.watts, self.now = watts, now
        self._power_history_lock = threading.Lock()
        self._power_history = []
        self._last_sample_time = now()

    def _take_power_sample(self):
        from codecarbon.core.units import Power

        now = self.now()
        duration, self._last_sample_time = now - self._last_sample_time, now
        return Power.from_watts(self.watts(now)), duration

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
            energies.append(steady.measure(0.0)[1].kWh * 3.6e6)
    energies.append(steady.measure(0.0)[1].kWh * 3.6e6)
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
        assert steady.measure(0.0)[1].kWh * 3.6e6 == pytest.approx(80 * 0.37)


def test_steady_load_has_a_reading_in_the_first_second(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    cpu = FakeCpu(lambda now: 50.0, lambda: clock[0])
    steady = SteadyLoad(cpu)
    clock[0] = 0.01  # too short to know the load: the model's least, a tenth of the TDP
    assert steady.measure(0.0)[1].kWh * 3.6e6 == pytest.approx(0.1)
    clock[0] = 0.4
    assert steady.measure(0.0)[1].kWh * 3.6e6 == pytest.approx(20.0 - 0.1)


def test_source_keeps_no_gpu_that_codecarbon_adds_against_our_word(make_source, monkeypatch):
    from codecarbon import OfflineEmissionsTracker

    find_hardware = OfflineEmissionsTracker._ensure_hardware_ready

    class GPU:
        def start(self):
            raise AssertionError("a hidden GPU was measured")

    def find_more(self):
        if not self._hardware_initialized:
            find_hardware(self)
            self._hardware.append(GPU())

    monkeypatch.setattr(OfflineEmissionsTracker, "_ensure_hardware_ready", find_more)
    monkeypatch.setattr(allocation, "nvidia_gpus", lambda: (Gpu(0, "GPU-a"),))
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": ""})
    assert by_name(source.start())["gpu"].method == "absent"
    assert "GPU" not in [type(part).__name__ for part in source._tracker._hardware]


def test_source_bills_the_time_inside_a_measurement(make_source, monkeypatch):
    clock = [50.0]
    source = make_source()
    source.start()
    (ram,) = [part for part in source._tracker._hardware if type(part).__name__ == "RAM"]
    (cpu,) = [part for part in source._tracker._hardware if type(part).__name__ == "CPU"]
    source._tracker._hardware = [ram, cpu]
    measure = cpu.measure_power_and_energy

    def slow(last_duration):
        clock[0] += 2.0
        return measure(last_duration)

    monkeypatch.setattr(cpu, "measure_power_and_energy", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    source._tracker._last_measured_time = clock[0]
    first = source.read()["ram"]
    for _ in range(5):
        clock[0] += 8.0
        last = source.read()["ram"]
    assert (last - first) / 1e6 == pytest.approx(ram.total_power().W * 5 * (8 + 2), rel=1e-5)
