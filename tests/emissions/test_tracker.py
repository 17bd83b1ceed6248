import os
import sys
import threading
import time
import types

import psutil
import pytest

from finetune.emissions import allocation, gpus, tracker
from finetune.emissions.gpus import Gpu
from finetune.emissions.tracker import CodecarbonSource

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
    ("cards", "stated", "driver", "method", "said"),
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
    make_source, monkeypatch, cards, stated, driver, method, said
):
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: cards)
    monkeypatch.setattr(gpus, "has_nvidia_driver", lambda: driver)
    source = make_source(environment={} if stated is None else {"CUDA_VISIBLE_DEVICES": stated})
    gpu = by_name(source.start())["gpu"]
    assert gpu.method == method
    assert said in gpu.detail
    assert "gpu" not in source.read()


def test_source_passes_nvml_numbers_for_uuids(make_source, monkeypatch):
    cards = (Gpu(0, "GPU-a"), Gpu(1, "GPU-b"), Gpu(2, "GPU-c"))
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: cards)
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": "GPU-c,GPU-a"})
    assert source._resolve_gpus() == (None, [0, 2])


def test_source_warns_of_two_ways_to_number_gpus(make_source, monkeypatch):
    cards = (Gpu(0, "GPU-a", "T4"), Gpu(1, "GPU-b", "A100"))
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: cards)
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
    share = allocation.MemoryShare(2 * allocation.GIB, "cgroup", "cgroup-77")
    total = psutil.virtual_memory().total
    assert total > share.bytes
    monkeypatch.setattr(allocation, "memory_share", lambda *_, **__: share)
    part = by_name(make_source().start())["ram"]
    assert part.detail == f"memory constant, 10.0 W, cgroup-scaled, 2 of {total / allocation.GIB:.3g} GiB"
    assert part.hardware == ("ram:cgroup-77",)


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
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: (Gpu(0, "GPU-a"),))
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


SHARE = allocation.CpuShare(2, 64, "cgroup", (0, 1), key="0-1")


@pytest.fixture
def no_counter(monkeypatch):
    from codecarbon.core import cpu

    monkeypatch.setattr(cpu, "is_rapl_available", lambda: False)


def give_share(monkeypatch, share):
    monkeypatch.setattr(allocation, "cpu_share", lambda *_, **__: share)


def test_source_scales_the_load_model_to_the_share_once(make_source, monkeypatch, no_counter):
    give_share(monkeypatch, SHARE)
    source = make_source(cpu_tdp_w=225.0)
    part = by_name(source.start())["cpu"]
    assert part.method == "modelled"
    assert part.detail == ("CPU load model, TDP 7.031 W, cgroup-scaled, 2 of 64 processors, 225 W given by the user")
    assert (part.low, part.high) == (0.3, 3.0)
    assert part.hardware == ("cpu:0-1",)
    (cpu,) = [one for one in source._tracker._hardware if type(one).__name__ == "CPU"]
    assert cpu._tdp == pytest.approx(225 * 2 / 64)
    for load, watts in ((100.0, 7.03125), (0.0, 0.703125)):
        monkeypatch.setattr(cpu._cpu_load_meter, "percent", lambda load=load: load)
        assert pytest.approx(watts) == cpu._get_power_from_cpu_load().W


def test_source_reads_the_load_of_the_share_and_not_of_the_machine(make_source, monkeypatch, no_counter, tmp_path):
    from finetune.emissions.load import ShareLoad

    group = tmp_path / "group"
    group.mkdir()
    (group / "cpu.stat").write_text("usage_usec 0\n")
    give_share(monkeypatch, allocation.CpuShare(0.5, 2, "cgroup", group=group, key="cgroup-9"))
    source = make_source(cpu_tdp_w=100.0)
    source.start()
    (cpu,) = [one for one in source._tracker._hardware if type(one).__name__ == "CPU"]
    assert isinstance(cpu._cpu_load_meter, ShareLoad)
    source._tracker._scheduler_monitor_power.stop()  # it would take its own samples in between
    cpu._cpu_load_meter.reset()
    time.sleep(0.05)
    assert pytest.approx(2.5) == cpu._get_power_from_cpu_load().W  # the group is idle, whatever the machine does
    (group / "cpu.stat").write_text("usage_usec 99000000\n")
    assert pytest.approx(25.0) == cpu._get_power_from_cpu_load().W


def test_source_says_when_only_the_machines_load_can_be_read(make_source, monkeypatch, no_counter):
    from codecarbon.external.hardware import SystemCPULoadMeter

    give_share(monkeypatch, allocation.CpuShare(8, 64, "SLURM", key="slurm-7"))
    source = make_source(cpu_tdp_w=64.0)
    part = by_name(source.start())["cpu"]
    assert part.detail == (
        "CPU load model, TDP 8 W, SLURM-scaled, 8 of 64 processors, 64 W given by the user, "
        "at the load of the whole machine"
    )
    (cpu,) = [one for one in source._tracker._hardware if type(one).__name__ == "CPU"]
    assert isinstance(cpu._cpu_load_meter, SystemCPULoadMeter)


def test_source_guesses_an_unknown_tdp_from_all_processors_of_the_machine(make_source, monkeypatch, no_counter):
    from codecarbon.core import cpu as core
    from codecarbon.core.hardware_cache import get_cached_tdp

    table = get_cached_tdp(core)
    monkeypatch.setattr(table, "model", "Unheard Of 9000")
    give_share(monkeypatch, SHARE)
    detail = by_name(make_source().start())["cpu"].detail
    assert detail.startswith("CPU load model, TDP 8 W, cgroup-scaled, 2 of 64 processors, 256 W guessed, Unheard Of")
    monkeypatch.setattr(table, "model", "AMD EPYC 7742")  # 225 W a socket
    monkeypatch.setattr("codecarbon.core.util.count_physical_cpus", lambda: 2)
    assert by_name(make_source().start())["cpu"].detail.endswith("450 W of AMD EPYC 7742")


def test_source_never_scales_a_counter_and_says_what_it_covers(make_source, monkeypatch, rapl_cpu):
    from codecarbon.core import cpu as core

    monkeypatch.setattr(core, "is_rapl_available", lambda: True)
    give_share(monkeypatch, SHARE)
    arguments = {}

    def build(**given):
        arguments.update(given)
        raise RuntimeError("seen enough")

    source = make_source()
    with monkeypatch.context() as patched:
        patched.setattr("codecarbon.OfflineEmissionsTracker", build)
        source.start()
    assert arguments["force_cpu_power"] is None
    part = source._describe_cpu_share(tracker._describe_hardware(rapl_cpu({"0": ("package-0", 1)})))
    assert part.method == "measured"
    assert part.detail.endswith("of the whole machine; this run has 2 of 64 processors (cgroup)")
    assert part.covers() == ("cpu",)


def test_source_meters_every_card_of_its_processes_once(make_source, monkeypatch):
    cards = tuple(Gpu(number, f"GPU-{number}") for number in range(4))
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: cards)
    ranks = [allocation.Process(1, None, ("GPU-0",)), allocation.Process(2, None, ("GPU-2",))]
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": "0"}, processes=ranks)
    assert source._resolve_gpus() == (None, [0, 2])
    together = [allocation.Process(pid, None, ("GPU-0", "GPU-1")) for pid in (1, 2)]
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": "0,1"}, processes=together)
    assert source._resolve_gpus() == (None, [0, 1])


def test_source_says_which_cards_of_other_processes_it_cannot_read(make_source, monkeypatch):
    ranks = [allocation.Process(1, None, ("GPU-0",)), allocation.Process(2, None, ("GPU-1",))]
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: (Gpu(0, "GPU-0"),))  # SLURM shows each task its own card alone
    source = make_source(processes=ranks)
    assert source._resolve_gpus() == (None, [0])
    assert source._unreachable_words() == "1 GPU of other processes of this run cannot be read by the one that meters"
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: ())
    part, indices = make_source(processes=ranks)._resolve_gpus()
    assert (part.method, indices) == (None, [])
    assert "2 GPUs of other processes" in part.detail


def test_source_notices_others_on_its_cards_at_start_and_end(make_source, monkeypatch):
    cards = (Gpu(0, "GPU-a"), Gpu(1, "GPU-b"))
    monkeypatch.setattr(gpus, "nvidia_gpus", lambda: cards)
    own = os.getpid()
    listed = {0: frozenset({111}), 1: frozenset()}
    asked = []

    def ask(indices):
        asked.append(list(indices))
        return {index: listed[index] for index in asked[-1]}

    monkeypatch.setattr(gpus, "compute_processes", ask)
    source = make_source(environment={"CUDA_VISIBLE_DEVICES": "0"}, processes=[allocation.Process(222)])
    source.start()
    listed[0] = frozenset({own, 222, 333})
    source.stop()
    assert asked == [[0], [0]]
    (note,) = [note for note in source.notes() if note.startswith("GPU")]
    assert note == ("GPU 0 is also used by 2 other processes (process id 111, 333): what they draw is in the reading")


def test_source_works_in_a_slurm_job_without_scontrol(make_source, monkeypatch):
    from codecarbon.core import util
    from codecarbon.external import ram

    for module in (util, ram):
        monkeypatch.setattr(module, "SLURM_JOB_ID", "77")

    def refuse(*_, **__):
        raise FileNotFoundError("scontrol")

    monkeypatch.setattr(ram.subprocess, "check_output", refuse)
    parts = by_name(make_source(environment={"SLURM_JOB_ID": "77", "SLURM_MEM_PER_NODE": "1024"}).start())
    assert parts["cpu"].method in ("measured", "modelled")
    assert parts["ram"].detail.startswith("memory constant, 10.0 W, SLURM-scaled, 1 of ")


def test_source_starts_while_torch_is_half_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))  # as another thread sees it meanwhile
    assert not tracker._computes_already()
