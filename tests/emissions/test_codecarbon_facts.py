"""One test per fact about codecarbon 3.3 that the meter relies on: a release that breaks one says which here."""

import inspect
import logging
import threading
import time

import pytest

from finetune.emissions import tables, tracker
from finetune.emissions.quiet import Capture

pytestmark = pytest.mark.usefixtures("codecarbon_home")


@pytest.fixture
def make_tracker(tmp_path):
    import codecarbon

    made = []

    def make(**changes):
        logging.getLogger("codecarbon").addFilter(Capture())
        given = tracker._fixed_arguments() | {
            "output_dir": str(tmp_path),
            "experiment_id": "x",
            "force_carbon_intensity_g_co2e_kwh": 100.0,
            "country_iso_code": "BRA",
            "gpu_ids": [],
            "force_cpu_power": None,
            "force_ram_power": None,
        }
        made.append(codecarbon.OfflineEmissionsTracker(**(given | changes)))
        return made[-1]

    yield make
    for one in made:
        if getattr(one, "_scheduler_monitor_power", None) is not None:
            one._scheduler_monitor_power.stop()
            one._scheduler.stop()


def test_fact_every_setting_of_the_constructor_is_stated_by_us():
    import codecarbon
    from codecarbon.emissions_tracker import BaseEmissionsTracker

    known = set()
    for kind in (codecarbon.OfflineEmissionsTracker, BaseEmissionsTracker):
        known |= set(inspect.signature(kind.__init__).parameters) - {"self", "args", "kwargs"}
    per_run = {
        *("output_dir", "experiment_id", "force_carbon_intensity_g_co2e_kwh", "country_iso_code"),
        *("gpu_ids", "force_cpu_power", "force_ram_power"),
    }
    # Without effect once output_methods is given, and the old name of the token.
    deprecated = {name for name in known if name.startswith("save_to_")} | {"co2_signal_api_token"}
    assert known - deprecated == set(tracker._fixed_arguments()) | per_run


def test_fact_constructor_swallows_its_errors_and_leaves_half_an_object(make_tracker, tmp_path):
    assert not hasattr(make_tracker(output_dir=str(tmp_path / "missing")), "_start_time")


def test_fact_start_swallows_its_errors_and_then_has_measured_nothing(make_tracker, monkeypatch):
    from codecarbon.external.hardware import CPU

    monkeypatch.setattr(CPU, "start", lambda self: 1 / 0)
    one = make_tracker()
    one.start()
    assert one._power_measurement_count == 0


def test_fact_start_ends_with_one_measurement(make_tracker):
    one = make_tracker()
    one.start()
    assert one._power_measurement_count == 1


def test_fact_flush_skips_a_call_within_50_ms_and_a_direct_measurement_does_not(make_tracker):
    one = make_tracker()
    one.start()
    one._measure_power_and_energy()
    count = one._power_measurement_count
    one._last_measured_time = time.perf_counter()
    one.flush()
    assert one._power_measurement_count == count
    one._measure_power_and_energy()
    assert one._power_measurement_count == count + 1


def test_fact_totals_per_component_are_cumulative_kwh(make_tracker):
    one = make_tracker(force_ram_power=100.0)
    one.start()
    before = one._total_ram_energy.kWh
    one._last_measured_time -= 36.0  # 100 W × 36 s = 0.001 kWh
    one._measure_power_and_energy()
    assert one._total_ram_energy.kWh - before == pytest.approx(0.001, rel=0.01)
    assert one._total_cpu_energy.kWh >= 0
    assert one._total_gpu_energy.kWh == 0


def test_fact_force_ram_power_is_a_constant(make_tracker):
    one = make_tracker(force_ram_power=42.0)
    one._ensure_hardware_ready()
    (ram,) = [part for part in one._hardware if type(part).__name__ == "RAM"]
    assert pytest.approx(42.0) == ram.total_power().W


def test_fact_force_cpu_power_is_a_tdp_for_the_load_model(make_tracker):
    one = make_tracker(force_cpu_power=100.0)
    one._ensure_hardware_ready()
    (cpu,) = [part for part in one._hardware if type(part).__name__ == "CPU"]
    assert (cpu._mode, cpu._tdp) == ("cpu_load", 100.0)


def test_fact_load_model_is_cubic_in_the_load(make_tracker, monkeypatch):
    one = make_tracker(force_cpu_power=100.0)
    one._ensure_hardware_ready()
    (cpu,) = [part for part in one._hardware if type(part).__name__ == "CPU"]
    for load, watts in ((0, 10.0), (50, 21.25), (100, 100.0)):
        monkeypatch.setattr(cpu._cpu_load_meter, "percent", lambda load=load: load)
        assert pytest.approx(watts) == cpu._get_power_from_cpu_load().W


def test_fact_monitor_samples_the_load_each_second_into_a_history(make_tracker):
    one = make_tracker(force_cpu_power=100.0)
    one._ensure_hardware_ready()
    (cpu,) = [part for part in one._hardware if type(part).__name__ == "CPU"]
    cpu.start()
    cpu.monitor_power()
    ((power, seconds),) = cpu._power_history
    assert power.W > 0
    assert 0 <= seconds < 60
    assert cpu._last_sample_time <= time.perf_counter()
    assert cpu._power_history_lock is not None
    assert one._scheduler_monitor_power.interval == 1


def test_fact_measurements_of_an_instance_may_be_replaced(make_tracker):
    from codecarbon.core.units import Energy, Power

    one = make_tracker(force_cpu_power=100.0)
    one.start()
    (cpu,) = [part for part in one._hardware if type(part).__name__ == "CPU"]
    before = one._total_cpu_energy.kWh
    cpu.measure_power_and_energy = lambda last_duration: (Power.from_watts(1), Energy.from_energy(kWh=0.5))
    one._measure_power_and_energy()
    assert one._total_cpu_energy.kWh - before == pytest.approx(0.5)


def test_fact_rapl_counts_packages_and_corrects_one_wrap(rapl_cpu, tmp_path):
    from codecarbon.core.units import Time

    cpu = rapl_cpu({"0": ("package-0", 1_000_000), "1": ("package-1", 262_143_000_000)})
    cpu.start()
    (tmp_path / "rapl/intel-rapl/intel-rapl:0/energy_uj").write_text("51000000")
    (tmp_path / "rapl/intel-rapl/intel-rapl:1/energy_uj").write_text("99671150")
    joules = cpu._get_energy_from_cpus(Time(1.0)).kWh * 3.6e6
    assert joules == pytest.approx(50 + 100, rel=1e-4)
    assert [file.sample_skipped for file in cpu._intel_interface._rapl_files] == [False, False]


def test_fact_rapl_leaves_dram_out(rapl_cpu, tmp_path):
    from codecarbon.core.units import Time

    cpu = rapl_cpu({"0": ("package-0", 1_000_000), "1": ("dram", 5_000_000)})
    cpu.start()
    (tmp_path / "rapl/intel-rapl/intel-rapl:0/energy_uj").write_text("31000000")
    (tmp_path / "rapl/intel-rapl/intel-rapl:1/energy_uj").write_text("95000000")
    assert cpu._get_energy_from_cpus(Time(1.0)).kWh * 3.6e6 == pytest.approx(30, rel=1e-4)


def test_fact_rapl_says_when_a_sample_was_skipped(rapl_cpu, tmp_path):
    from codecarbon.core.units import Time

    cpu = rapl_cpu({"0": ("package-0", 1_000_000)})
    cpu.start()
    (tmp_path / "rapl/intel-rapl/intel-rapl:0/energy_uj").write_text("")
    assert cpu._get_energy_from_cpus(Time(1.0)).kWh == 0
    assert cpu._intel_interface._rapl_files[0].sample_skipped


def test_fact_hardware_cache_turns_no_gpus_into_all_gpus():
    from codecarbon.core.hardware_cache import _canonical_gpu_ids

    assert _canonical_gpu_ids([]) is None
    assert _canonical_gpu_ids([0, 2]) == ("0", "2")


class FakeDevices:
    devices = ()

    def get_gpu_static_info(self):
        return [{"uuid": "GPU-4e81", "gpu_index": 0}, {"uuid": "GPU-77aa", "gpu_index": 1}]


def fake_gpu(ids):
    from codecarbon.external.hardware import GPU

    gpu = GPU.__new__(GPU)
    gpu.gpu_ids, gpu.devices, gpu.num_gpus, gpu._gpu_ids_resolved = ids, FakeDevices(), 2, False
    return gpu


def test_fact_gpus_are_picked_by_number_and_lost_by_uuid():
    assert fake_gpu([1])._get_gpu_ids() == [1]
    assert fake_gpu(["1"])._get_gpu_ids() == [1]
    # "GPU-4e81".lstrip("MIG-") is "PU-4e81": why we resolve UUIDs ourselves.
    assert fake_gpu(["GPU-4e81"])._get_gpu_ids() == []


def test_fact_gpu_device_says_whether_it_has_an_energy_counter():
    import types

    from codecarbon.core.gpu_device import GPUDevice

    class Card(GPUDevice):
        counter = 5_000.0

        def _init_static_details(self):
            self._gpu_name, self._uuid = "card", "GPU-1"

        def _get_total_energy_consumption(self):
            return self.counter

        def _get_power_usage(self):
            return 70.0

    class Old(Card):
        counter = None

    new, old = Card(None, 0), Old(None, 1)
    new.start()
    old.start()
    assert (new._has_counter, new._use_power_fallback) == (True, False)
    assert (old._has_counter, old._use_power_fallback) == (False, True)
    part = types.SimpleNamespace(devices=types.SimpleNamespace(devices=[new, old]))
    gpu = type("GPU", (), {"devices": part.devices, "_get_gpu_ids": lambda self: [0]})()
    assert tracker._describe_hardware(gpu).detail == "energy counter of card (GPU-1)"
    gpu = type("GPU", (), {"devices": part.devices, "_get_gpu_ids": lambda self: [0, 1]})()
    assert tracker._describe_hardware(gpu).detail.startswith("power sampled each second")


def test_fact_tdp_table_knows_some_processors_and_not_others():
    from codecarbon.core import cpu
    from codecarbon.core.hardware_cache import get_cached_tdp

    table = get_cached_tdp(cpu)
    assert table._get_cpu_power_from_registry("AMD EPYC 7742") > 0
    assert table._get_cpu_power_from_registry("Completely Unheard Of 9000") is None


def test_fact_a_logger_filter_survives_the_constructor_and_hears_warnings(make_tracker, capfd):
    make_tracker()
    (capture,) = logging.getLogger("codecarbon").filters
    logging.getLogger("codecarbon").warning("a warning")
    assert capture.warnings == ["codecarbon: a warning"]
    assert capfd.readouterr() == ("", "")


def test_fact_a_timer_that_fires_during_stop_would_start_again():
    from codecarbon.external.scheduler import PeriodicScheduler

    fired = threading.Event()
    scheduler = PeriodicScheduler(3600, fired.set)
    scheduler.start()
    scheduler.stop()
    scheduler._run()
    assert fired.is_set()
    assert not scheduler._stopped
    scheduler.stop()


def test_fact_offline_tracker_with_a_forced_intensity_never_asks_for_a_place(make_tracker, monkeypatch):
    import socket

    def refuse(*_):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    one = make_tracker(country_iso_code=None)
    one.start()
    one.flush()
    assert one.stop() is not None
    assert one.final_emissions_data.emissions == pytest.approx(one.final_emissions_data.energy_consumed * 0.1)


def test_fact_country_table_has_the_shape_we_read():
    countries = tables.country_intensities()
    assert len(countries) >= 200
    assert all(len(code) == 3 and code.isupper() and row.name and row.year for code, row in countries.items())
    assert countries["BRA"].g_per_kwh == pytest.approx(98.348)
    assert {code for code, row in countries.items() if not 1 < row.g_per_kwh < 1500} == {"CAF"}


def test_fact_world_average_is_475_from_a_report_of_2019():
    assert tables.world_intensity().g_per_kwh == 475
    assert "2019" in tables._table("carbon_intensity_per_source.json")["world_average_source"]


@pytest.mark.parametrize(("country", "regions"), [("USA", 51), ("CAN", 13), ("SWE", 4), ("NOR", 5), ("FIN", 1)])
def test_fact_region_tables_have_the_shape_we_read(country, regions):
    found = tables.region_intensities(country)
    assert len(found) == regions
    assert all(1 < row.g_per_kwh < 1500 for row in found if row.name != "prince edward island")


def test_fact_cloud_table_has_google_cloud_only_and_names_no_year():
    found = tables.cloud_regions()
    assert len(found) == 40
    assert {name.partition(":")[0] for name in found} == {"gcp"}
    countries = tables.country_intensities()
    assert all(country in countries and 1 < row.g_per_kwh < 1500 for country, row in found.values())
    assert "year" not in tables._text("cloud/impact.csv").splitlines()[0]
    # A release with newer figures must get its year: these two are Google's for 2023 (2024: 412.72 and 39.32).
    assert (found["gcp:us-central1"][1].g_per_kwh, found["gcp:europe-north1"][1].g_per_kwh) == (430, 46)


def test_fact_our_region_figures_are_codecarbons(make_tracker):
    from codecarbon.core.emissions import Emissions
    from codecarbon.core.units import Energy
    from codecarbon.external.geography import GeoMetadata
    from codecarbon.input import DataSource

    emissions = Emissions(DataSource())
    for country in ("USA", "CAN", "CHN", "SWE", "NOR", "FIN"):
        for row in tables.region_intensities(country):
            place = GeoMetadata(country_iso_code=country, region=row.names[0])
            kg = emissions.get_private_infra_emissions(Energy.from_energy(1.0), place)
            assert row.g_per_kwh == pytest.approx(kg * 1000, rel=1e-9)
