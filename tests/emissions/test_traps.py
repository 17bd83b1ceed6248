"""docs/energy-traps.md: every trap that we know of has a guard, and every guard a test; the tests that were lacking."""

import ast
import inspect
import logging
import re
import signal
import subprocess
import threading
import time
import types
from pathlib import Path

import pytest

import finetune.emissions
from finetune.emissions import tracker
from finetune.emissions.components import COMPONENTS
from finetune.emissions.tracker import CodecarbonSource
from tests.synthetic import SyntheticSource

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "energy-traps.md"
ROOM = Path(finetune.emissions.__file__).parent
FACTS = [Path(__file__).with_name(name) for name in ("test_codecarbon_facts.py", "test_traps.py")]
# codecarbon's issues and pull requests that change a number or lose one.
KNOWN_ISSUES = {
    "17", "41", "43", "96", "150", "217", "225", "232", "244", "292", "293", "294", "300", "309", "322", "334", "335",
    "364", "368", "369", "375", "418", "425", "438", "447", "451", "462", "477", "484", "523", "532", "533", "544",
    "563", "569", "597", "629", "679", "681", "689", "702", "758", "779", "788", "851", "854", "873", "894", "915",
    "925", "936", "985", "987", "1092", "1101", "1104", "1204", "1268", "1274", "1304", "1305", "1308", "1309", "1313",
    "1316", "1320", "1328", "1344", "1355", "1367", "1377", "1384", "1390", "1407",
}  # fmt: skip


def rows():
    """Return the rows of every table of the page: trap, issues, guard, tests."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and not set(line) <= set("|-") and cells[0] != "trap":
            assert len(cells) == 4, line
            found.append(cells)
    return found


def functions_of_the_tests():
    names = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    return names


def test_traps_every_named_test_exists_and_every_trap_has_one_or_a_reason():
    known = functions_of_the_tests()
    assert len(rows()) > 30
    for trap, _, guard, tests in rows():
        named = re.findall(r"`(test_\w+)`", tests)
        assert [name for name in named if name not in known] == [], trap
        assert named or guard.startswith("Cannot reach us:"), f"{trap}: neither a test nor a reason"


def test_traps_every_known_issue_stands_in_the_table():
    stated = {number for _, issues, *_ in rows() for number in re.findall(r"#(\d+)", issues)}
    assert KNOWN_ISSUES - stated == set()


def accesses(path):
    """Return the names of private attributes that a module reads or sets on anything but self."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_own = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        if isinstance(node, ast.Attribute) and not is_own and re.match(r"_[^_]", node.attr):
            yield node.attr


def test_traps_every_private_name_of_codecarbon_has_a_contract_test():
    tested = "".join(path.read_text(encoding="utf-8") for path in FACTS)
    assert {name for name in accesses(ROOM / "tracker.py") if not re.search(rf"\b{name}\b", tested)} == set()


def test_traps_codecarbons_tasks_flush_results_and_online_tracker_are_not_used():
    forbidden = {
        *("start_task", "stop_task", "flush", "final_emissions", "final_emissions_data", "EmissionsTracker"),
        *("_prepare_emissions_data", "track_emissions", "gpu_count"),
    }
    used = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for path in ROOM.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert used & forbidden == set()
    assert "OfflineEmissionsTracker" in used


@pytest.fixture
def make_source(tmp_path, codecarbon_home):
    made = []

    def make(**options):
        made.append(CodecarbonSource(tmp_path, "run-1", 100.0, "BRA", **({"environment": {}} | options)))
        return made[-1]

    yield make
    for source in made:
        source.stop()


def plain_state(source):
    """Return every simple setting of codecarbon's tracker, without clocks and identifiers."""
    changing = ("time", "run_id", "occurrence", "timestamp", "_sum", "_power", "_total", "history")
    settings = ("_force_cpu_power", "_force_ram_power", "_measure_power_secs")
    state = {
        name: value
        for name, value in vars(source._tracker).items()
        if isinstance(value, bool | int | float | str | list | None)
        and (name in settings or not any(word in name for word in changing))
    }
    assert {"_pue", "_wue", "_tracking_mode", "_measure_power_secs", "_force_carbon_intensity_g_co2e_kwh"} <= set(state)
    return state


def test_traps_absurd_settings_of_codecarbon_change_nothing(make_source, monkeypatch, tmp_path):
    from codecarbon import OfflineEmissionsTracker
    from codecarbon.emissions_tracker import BaseEmissionsTracker

    plain = make_source()
    expected, state = plain.start(), plain_state(plain)
    plain.stop()
    known = {
        name
        for kind in (OfflineEmissionsTracker, BaseEmissionsTracker)
        for name in inspect.signature(kind.__init__).parameters
    } - {"self", "args", "kwargs"}
    assert len(known) > 30
    home, here = tmp_path / "home", tmp_path / "here"
    for folder, value in ((home, "777"), (here, "888")):
        folder.mkdir()
        lines = "".join(f"{name}={value}\n" for name in sorted(known))
        (folder / ".codecarbon.config").write_text(f"[codecarbon]\n{lines}")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(here)
    for name in known:
        monkeypatch.setenv(f"CODECARBON_{name.upper()}", "999")
    hostile = make_source()
    assert hostile.start() == expected
    assert plain_state(hostile) == state
    assert hostile._tracker._pue == 1.0
    hostile.stop()
    assert [path.name for path in here.iterdir()] == [path.name for path in home.iterdir()] == [".codecarbon.config"]
    assert not list(tmp_path.glob("*.csv"))


def test_traps_a_stale_lock_of_another_run_stops_nothing(make_source, monkeypatch, tmp_path):
    from codecarbon import lock

    stale = tmp_path / ".codecarbon.lock"
    stale.touch()
    monkeypatch.setattr(lock, "LOCKFILE", str(stale))
    assert all(part.method is not None for part in make_source().start())
    assert stale.exists()


def test_traps_signals_stay_ours(make_source):
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    source = make_source()
    source.start()
    source.stop()
    assert {number: signal.getsignal(number) for number in before} == before


def test_traps_memory_is_known_without_asking_slurm(make_source, monkeypatch):
    from codecarbon.external import ram

    def no_scontrol(*_, **__):
        raise FileNotFoundError("scontrol")

    expected = {part.name: part for part in make_source().start()}["ram"]
    monkeypatch.setattr(ram, "SLURM_JOB_ID", "4711")
    monkeypatch.setattr(subprocess, "check_output", no_scontrol)
    source = make_source()
    # codecarbon alone would count the memory at 0 W, and start a process for scontrol at every measurement.
    assert {part.name: part for part in source.start()}["ram"] == expected
    assert not any("RAM" in note for note in source.notes())


def test_traps_nothing_in_codecarbon_grows_while_a_run_lasts(make_source):
    source = make_source()
    source.start()
    for _ in range(50):
        source._tracker._monitor_power()  # what it does each second
    source.read()
    lists = {name: len(value) for name, value in vars(source._tracker).items() if isinstance(value, list)}
    assert {name: size for name, size in lists.items() if size > 10} == {}
    assert "_cpu_utilization_history" in lists
    assert all(len(getattr(part, "_power_history", ())) <= 10 for part in source._tracker._hardware)


@pytest.mark.parametrize(
    ("kind", "component", "method"),
    [
        ("AppleSiliconChip", "cpu", "modelled"),
        ("AppleSiliconChip", "gpu", "modelled"),
        ("Raspberry", "cpu", "measured"),
    ],
)
def test_traps_power_samples_of_other_chips_are_not_called_counters(kind, component, method):
    from codecarbon.external import hardware

    assert inspect.isclass(getattr(hardware, kind))
    part = tracker._describe_hardware(type(kind, (), {"chip_part": component.upper()})())
    assert (part.name, part.method) == (component, method)
    assert (part.low, part.high) == (0.7, 1.3)
    assert tracker._describe_hardware(type("Unheard", (), {})()) is None


@pytest.mark.parametrize(
    ("mode", "method"),
    [
        ("intel_rapl", "measured"), ("windows_emi", "measured"), ("intel_power_gadget", "measured"),
        ("cpu_load", "modelled"), ("constant", "assumed"),
    ],
)  # fmt: skip
def test_fact_modes_of_a_cpu_have_the_names_that_we_tell_them_by(mode, method):
    from codecarbon.core import resource_tracker
    from codecarbon.external import hardware

    assert f'"{mode}"' in inspect.getsource(resource_tracker) + inspect.getsource(hardware)
    cpu = types.SimpleNamespace(_mode=mode, _model="a CPU", _tdp=65.0, _is_generic_tdp=True)
    assert tracker._describe_cpu(cpu).method == method


def test_fact_a_sample_of_the_load_is_a_power_and_the_seconds_that_it_covers(rapl_cpu):
    cpu = rapl_cpu({"0": ("package-0", 1)})
    cpu.start()
    power, seconds = cpu._take_power_sample()
    assert power.W >= 0
    assert 0 <= seconds < 60


def test_fact_a_cpu_says_its_model_and_whether_its_tdp_is_a_guess(rapl_cpu):
    cpu = rapl_cpu({"0": ("package-0", 1)})
    assert (cpu._model, cpu._is_generic_tdp) == ("a CPU", False)


def test_fact_memory_power_follows_from_gigabytes():
    from codecarbon.external.ram import RAM

    assert RAM(force_ram_power=3)._force_ram_power == 3
    assert RAM()._force_ram_power is None
    is_arm = RAM().is_arm_cpu
    assert [RAM()._calculate_ram_power(size) for size in (8, 64)] == ([3.0, 6.0] if is_arm else [10.0, 20.0])


def test_fact_time_inside_a_measurement_is_not_billed_by_codecarbon(make_source):
    source = make_source()
    source.start()
    one = source._tracker
    before = one._last_measured_time
    one._measure_power_and_energy()
    assert one._last_measured_time > before  # stamped at the end: why we put our own stamp of the beginning there


def test_fact_clearing_the_utilization_history_is_a_call(make_source):
    source = make_source()
    source.start()
    source._tracker._monitor_power()
    assert source._tracker._cpu_utilization_history
    source._tracker._clear_utilization_history()
    assert not source._tracker._cpu_utilization_history


def test_traps_two_threads_never_book_a_joule_twice(make_meter):
    """The sampler and the borders of many short phases measure at once; every reading is booked exactly once."""
    readings, lock = [], threading.Lock()

    class Counting(SyntheticSource):
        def read(self):
            with lock:
                number = len(readings) + 1
                readings.append(number)
            return {"cpu": number * 1_000_003, "ram": number * 7}

    source = Counting({"cpu": 1.0, "ram": 1.0})
    meter = make_meter(source, clock=time.monotonic, interval_s=0.0005)
    for _ in range(400):
        with meter.phase("train"), meter.phase("evaluate"):
            meter.mark()
    meter.close("completed")
    [life] = meter._lives()
    measured = len(readings) - 1  # the first is the baseline
    assert measured >= 5 * 400
    booked = {name: sum(energy for (of, _), energy in life.microjoules.items() if of == name) for name in COMPONENTS}
    assert booked == {"cpu": measured * 1_000_003, "gpu": 0, "ram": measured * 7}


def test_traps_codecarbon_is_silent_and_its_log_filter_goes_with_the_source(make_source, capfd):
    source = make_source()
    source.start()
    source.read()
    source.stop()
    assert logging.getLogger("codecarbon").filters == []
    assert capfd.readouterr() == ("", "")
