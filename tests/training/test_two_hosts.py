"""One run on two machines: network namespaces stand in for them, each with its own torchrun and its own meter."""

import subprocess
import sys
import time

import pytest

from finetune.emissions.journal import read_journal
from finetune.emissions.ledger import total_microjoules
from tests.training.conftest import read_log, read_run
from tests.training.two_hosts import REPOSITORY, TwoHosts, finish, losses, only_run, why_not

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]

LONG = {"num_train_epochs": 30, "save_strategy": "steps", "save_steps": 5, "eval_strategy": "steps", "eval_steps": 20}
QUICK_METER = {"measure_power_secs": 1}
ENDS_WITHIN_S = 60  # after the other host is gone; a machine that tests much at once is slow


def wait_for_loss(folder, steps, processes):
    """Return the run directory once it has logged so many steps."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        runs = list(folder.glob("*/log.jsonl"))
        if runs and len(losses(runs[0].parent)) >= steps:
            return runs[0].parent
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError(f"{steps} steps were not reached")


def alone(recipe, *settings):
    """Train in one process, and return when it is done."""
    command = [sys.executable, "-m", "finetune", "run", str(recipe), *settings]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=240)


def test_two_hosts_make_one_run_with_the_losses_of_one_process(toy_recipe, tmp_path):
    recipe = toy_recipe(emissions=QUICK_METER)
    with TwoHosts(tmp_path / "runs") as hosts:
        ended = finish(hosts.start(recipe))
    assert [code for code, _ in ended] == [0, 0], ended
    directory = only_run(tmp_path / "runs")
    record = read_run(directory)
    assert record["status"] == "completed"
    assert (record["training"]["num_processes"], record["training"]["num_nodes"]) == (2, 2)
    nodes = record["emissions"]["nodes"]
    assert [node["node"] for node in nodes] == [0, 1]
    assert len({node["hostname"] for node in nodes}) == 1  # a label: the namespaces share it, and are two all the same
    assert all(node["energy_kwh"] > 0 for node in nodes)
    assert sum(node["energy_kwh"] for node in nodes) == pytest.approx(record["emissions"]["energy_kwh"], rel=1e-9)
    assert sum(node["emissions_g"] for node in nodes) == pytest.approx(record["emissions"]["emissions_g"], rel=1e-9)
    assert {path.name for path in directory.glob("energy*.jsonl")} == {"energy.jsonl", "energy-1.jsonl"}
    assert [(life.node, life.reason_ended) for life in read_journal(directory)] == [(0, "completed"), (1, "completed")]
    alone(recipe, f"output_dir={tmp_path / 'one'}", "training.per_device_train_batch_size=16")
    one = only_run(tmp_path / "one")
    assert losses(directory) == pytest.approx(losses(one), rel=1e-5)
    assert read_run(one)["metrics"]["test"]["accuracy"] == record["metrics"]["test"]["accuracy"]


@pytest.mark.parametrize("apart", [False, True], ids=["one_folder", "a_folder_each"])
@pytest.mark.parametrize("lost", [1, 0], ids=["second_host_lost", "first_host_lost"])
def test_two_hosts_end_when_one_is_lost_and_resume_exactly(lost, apart, toy_recipe, tmp_path):
    recipe = toy_recipe(dropout=0.1, training=LONG, emissions=QUICK_METER)
    with TwoHosts(tmp_path / "runs", apart=apart) as hosts:
        processes = hosts.start(recipe)
        directory = wait_for_loss(tmp_path / "runs", 23, processes)
        hosts.kill(lost)
        [(code, said)] = finish([processes[1 - lost]], ENDS_WITHIN_S)
        assert code != 0
        if lost == 1:
            assert "its machine is gone" in said
            assert read_run(directory)["status"] == "failed"
        before = {life.node: total_microjoules([life]) for life in read_journal(directory)}
        assert set(before) == {0, 1}
        resumed = finish(hosts.start(recipe, "--resume"))
    assert [code for code, _ in resumed] == [0, 0], resumed
    record = read_run(directory)
    energy = record["emissions"]
    assert record["status"] == "completed"
    assert len(energy["segments"]) == 2
    assert energy["segments"][0]["reason_ended"].startswith("died" if lost == 0 else "failed")
    assert [node["node"] for node in energy["nodes"]] == [0, 1]
    assert sum(node["energy_kwh"] for node in energy["nodes"]) == pytest.approx(energy["energy_kwh"], rel=1e-9)
    lives = read_journal(directory)
    assert [(life.segment, life.node) for life in lives] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    marks = lives[2].resumed_from_uj
    assert marks == lives[3].resumed_from_uj
    assert set(marks) == {0, 1}
    wasted_uj = sum(max(0, total_microjoules([life]) - marks[life.node]) for life in lives[:2])
    assert energy["repeated_work_kwh"] * 3.6e12 == pytest.approx(wasted_uj)
    assert wasted_uj > 0
    with TwoHosts(tmp_path / "whole") as hosts:
        whole = finish(hosts.start(recipe, f"output_dir={tmp_path / 'whole'}"))
    assert [code for code, _ in whole] == [0, 0], whole
    assert read_log(directory) == read_log(only_run(tmp_path / "whole"))


def test_two_hosts_without_a_cable_end_with_an_error(toy_recipe, tmp_path):
    recipe = toy_recipe(training=LONG)
    with TwoHosts(tmp_path / "runs", FINETUNE_TIMEOUT_S="10") as hosts:
        processes = hosts.start(recipe)
        directory = wait_for_loss(tmp_path / "runs", 3, processes)
        hosts.unplug()
        [(code, said)] = finish(processes[:1], ENDS_WITHIN_S)
    assert code != 0
    assert "its machine is gone" in said
    assert read_run(directory)["status"] == "failed"
