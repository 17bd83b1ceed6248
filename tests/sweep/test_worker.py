"""Who makes which trial, once; what a kill leaves; how the budget of all holds."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from finetune.errors import FinetuneError
from finetune.runs.record import list_runs
from finetune.sweep.account import Amount, spent, trials, verdict
from finetune.sweep.report import make_report, to_json, to_text, totals
from finetune.sweep.worker import take_up_the_dead, work
from tests.sweep.conftest import changed, settings_of


def states(worker):
    return [entry.state for entry in trials(worker.store.entries())]


def report_of(worker):
    return make_report(worker.sweep, worker.store.entries())


def test_worker_makes_every_combination_of_a_grid_once(new_worker, sweep_file, play, tmp_path):
    worker = new_worker(sweep_file())
    assert work(worker).code == 0
    tried = [(s["training.learning_rate"], s["training.weight_decay"]) for s in map(settings_of, play.commands)]
    assert tried == [(1e-4, 0.0), (1e-4, 0.1), (1e-3, 0.0), (1e-3, 0.1)]
    runs = list_runs(tmp_path / "runs")[0]
    assert {run.group for run in runs} == {"search"}
    assert {run.tags for run in runs} == {("trial",)}
    assert [run.name for run in runs] == ["search-000", "search-001", "search-002", "search-003"]
    assert to_json(report_of(worker))["best"] == [3]
    # The same command again finds nothing to do.
    play.commands.clear()
    assert work(new_worker(sweep_file())).code == 0
    assert play.commands == []


def test_worker_energy_is_that_of_the_ranking_and_the_front_is_right(new_worker, sweep_file):
    worker = new_worker(sweep_file(objective=["accuracy", "energy_kwh"]))
    work(worker)
    values = [entry.values for entry in trials(worker.store.entries())]
    assert values[1] == (pytest.approx(0.5 + 0.01 + 0.1), pytest.approx(0.0011))
    # 0 and 1 lose to 2 and 3, which cost the same and score more.
    assert sorted(entry.label for entry in report_of(worker).best) == [2, 3]
    assert "front    trials 3 and 2" in to_text(report_of(worker))


def test_worker_means_over_seeds(new_worker, sweep_file, play):
    worker = new_worker(sweep_file(seeds=[1, 2]))
    work(worker)
    assert [settings_of(command)["training.seed"] for command in play.commands] == [1, 2] * 4
    assert len(trials(worker.store.entries())[0].runs) == 2
    assert trials(worker.store.entries())[0].values == (pytest.approx(0.51),)


def test_worker_a_failed_trial_counts_and_leaves_the_others(new_worker, sweep_file, play):
    play.endings[1] = changed("failed", "the loss is not a finite number", code=1)
    worker = new_worker(sweep_file())
    assert work(worker).code == 0
    assert states(worker) == ["complete", "failed", "complete", "complete"]
    total = totals(report_of(worker))
    assert total["runs"] == 4
    assert total["energy_kwh"] == pytest.approx(0.001 + 0.0011 + 0.001 + 0.0011)
    assert "the loss is not a finite number" in to_json(report_of(worker))["trials"][1]["reason"]


def test_worker_stops_where_every_trial_would_fail(new_worker, sweep_file, play):
    play.endings[0] = changed("failed", "no such file", code=1, emissions={"phases": {"load": {}}})
    with pytest.raises(FinetuneError, match=r"trial 0 failed before its training began.*no such file"):
        work(new_worker(sweep_file()))
    assert len(play.commands) == 1


def test_worker_goes_on_with_an_interrupted_trial_in_its_own_run(new_worker, sweep_file, play, tmp_path):
    play.endings[1] = changed("interrupted", "SIGINT received", code=130, signum=2)
    first = new_worker(sweep_file())
    assert work(first).code == 130
    assert states(first) == ["complete", "waiting", "waiting", "waiting"]
    play.commands.clear()
    second = new_worker(sweep_file())
    assert work(second).code == 0
    assert [options["resume"] for _, options in play.commands].count(True) == 1
    assert len(play.commands) == 3
    assert len(list_runs(tmp_path / "runs")[0]) == 4
    assert [entry.label for entry in trials(second.store.entries())] == [0, 1, 2, 3]
    assert totals(report_of(second))["energy_kwh"] == pytest.approx(0.0042)


def killed_worker():
    """Return the sign of life of a process that is gone."""
    code = "import json; from finetune.runs.liveness import sign_of_life; print(json.dumps(sign_of_life()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_worker_takes_up_the_trial_of_one_that_was_killed(new_worker, sweep_file, play, tmp_path):
    def die(run):
        changed("interrupted")(run)
        raise KeyboardInterrupt  # as if the worker had vanished: it writes nothing more

    play.endings[1] = die
    with pytest.raises(KeyboardInterrupt):
        work(new_worker(sweep_file()))
    second = new_worker(sweep_file())
    running = next(entry for entry in second.store.entries() if entry.state == "running")
    take_up_the_dead(second)
    assert states(second)[1] == "running"  # this process holds it, and lives
    second.store.note(running.number, holder=killed_worker())
    assert work(second).code == 0
    assert states(second) == ["complete"] * 4
    assert len(list_runs(tmp_path / "runs")[0]) == 4
    assert second.store.give_up(running) is False  # nobody takes it up twice


def test_worker_ends_before_the_budget_is_over(new_worker, sweep_file, play):
    # 2 Wh are held back for each, 1 and 1.1 Wh are used, and 0.1 Wh goes into each forecast:
    # after 1.1, 2.3, 3.4 Wh a fourth would need 3.5 + 2 of 5 Wh.
    worker = new_worker(sweep_file(max_energy_kwh=0.005))
    ending = work(worker)
    assert "the budget leaves no room" in ending.reason
    assert states(worker) == ["complete"] * 3
    assert [options["max-energy"] for _, options in play.commands] == ["0.002kWh"] * 3  # their shares are less
    assert spent(worker.store.entries()).kwh == pytest.approx(0.001 + 0.0011 + 0.001 + 4 * 0.0001)
    assert totals(report_of(worker))["budget_kwh"] < 0.005
    # With more to spend the same sweep goes on, and its last trial may take all that is left.
    again = new_worker(sweep_file(max_energy_kwh=0.01))
    assert work(again).code == 0
    assert float(play.commands[-1][1]["max-energy"].removesuffix("kWh")) == pytest.approx(0.01 - 0.0031 - 5 * 0.0001)
    assert states(again) == ["complete"] * 4


def test_worker_a_run_beside_another_is_no_energy_objective(new_worker, sweep_file, play, tmp_path, monkeypatch):
    monkeypatch.setenv("FINETUNE_HOST_FOLDER", str(tmp_path / "host"))
    play.shared_with = ["other-run"]
    worker = new_worker(sweep_file(objective="energy_kwh"), allow_shared=False)
    work(worker)
    assert states(worker) == ["failed"] * 4
    assert "shared the machine with other-run" in trials(worker.store.entries())[0].reason
    allowed = new_worker(sweep_file(objective="energy_kwh", name="side-by-side"))
    work(allowed)
    assert states(allowed) == ["complete"] * 4


def test_worker_a_run_that_its_budget_cut_short_is_no_result(new_worker, sweep_file, play):
    play.endings[2] = changed("stopped", "energy budget of 0.002 kWh: 0.0019 kWh were spent at step 3")
    worker = new_worker(sweep_file(max_energy_kwh=1.0))
    work(worker)
    assert states(worker)[2] == "failed"
    assert trials(worker.store.entries())[2].reason.startswith("cut short: energy budget")


def test_worker_says_what_pruning_saved(new_worker, sweep_file, play):
    emissions = {"energy_kwh": 0.0004, "emissions_g": 0.04, "complete": True, "phases": {"train": {}},
                 "forecasts": [{"energy_kwh": 0.001}, {"energy_kwh": 0.0012}]}  # fmt: skip
    play.endings[1] = changed("stopped", "pruned: accuracy 0.4", emissions=emissions)
    worker = new_worker(sweep_file(pruning="successive_halving"))
    work(worker)
    assert states(worker) == ["complete", "pruned", "complete", "complete"]
    assert totals(report_of(worker))["saved_by_pruning_kwh"] == pytest.approx(0.0008)
    assert "about 0.800 Wh saved, by the forecasts of 1 pruned trial" in to_text(report_of(worker))


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_worker_samplers_never_try_the_same_twice(sampler, new_worker, sweep_file, play):
    worker = new_worker(sweep_file(sampler=sampler, trials=4))
    work(worker)
    tried = {str(settings_of(command)) for command in play.commands}
    assert len(tried) == len(play.commands) == 4
    more = new_worker(sweep_file(sampler=sampler, trials=5))
    assert "the space is used up" in work(more).reason


@pytest.mark.parametrize(
    "storage",
    [
        pytest.param(None, id="journal"),
        pytest.param("sqlite:///{folder}/sweep.db", id="database", marks=pytest.mark.slow),
    ],
)
def test_worker_two_on_one_storage_make_twelve_trials_once_within_the_budget(
    storage, new_worker, sweep_file, play, tmp_path
):
    path = sweep_file(
        objective=["accuracy", "energy_kwh"], sampler="tpe", trials=12, max_energy_kwh=0.05,
        storage=storage.format(folder=tmp_path) if storage else None,
        space={"training.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}, "training.weight_decay": [0, 0.1]},
    )  # fmt: skip
    new_worker(path)  # makes the tables of the database, which two at once would
    with ThreadPoolExecutor(2) as pool:
        endings = [pool.submit(lambda: work(new_worker(path))) for _ in range(2)]
        assert [ending.result().code for ending in endings] == [0, 0]
    worker = new_worker(path)
    report = report_of(worker)
    assert states(worker) == ["complete"] * 12
    assert len({entry.label for entry in report.trials}) == 12
    tried = [settings_of(command) for command in play.commands]
    assert len({str(settings) for settings in tried}) == len(tried) == 12
    assert len(list_runs(tmp_path / "runs")[0]) == 12
    assert sum(entry.values[1] for entry in report.trials) < totals(report)["budget_kwh"] < 0.05
    values = {entry.label: entry.values for entry in report.trials}
    for label, (accuracy, kwh) in values.items():
        beaten = any(a >= accuracy and k <= kwh and (a, k) != (accuracy, kwh) for a, k in values.values())
        assert (label in [entry.label for entry in report.best]) is not beaten


def test_worker_a_storage_that_cannot_be_opened_is_told(new_worker, sweep_file, tmp_path):
    with pytest.raises(FinetuneError, match=r"storage sqlite:///.*/none/sweep\.db cannot be opened") as caught:
        new_worker(sweep_file(storage=f"sqlite:///{tmp_path}/none/sweep.db"))
    assert caught.value.hint.startswith("storage names a file, or a database")


def test_worker_another_definition_is_another_sweep(new_worker, sweep_file):
    work(new_worker(sweep_file()))
    with pytest.raises(FinetuneError, match="the sweep search was begun with another recipe, space"):
        new_worker(sweep_file(seeds=[7]))


def test_account_two_that_reserve_at_once_are_both_seen(new_worker, sweep_file):
    worker = new_worker(sweep_file(max_energy_kwh=0.003))
    first, second = worker.store.draw(), worker.store.draw()
    for entry in (first, second):
        worker.store.note(entry.number, reserved=Amount(0.002, 0.2))
    entries, budget = worker.store.entries(), worker.sweep.budget
    first, second = (replace(entries[place], reserved=Amount(0.002, 0.2)) for place in (0, 1))
    assert verdict(entries, first, budget) == "wait"
    assert verdict(entries, second, budget) == "step back"
    worker.store.note(second.number, reserved=None)
    assert verdict(worker.store.entries(), first, budget) == "begin"
    worker.store.note(first.number, granted=True)
    assert verdict(worker.store.entries(), second, budget) == "wait"
    worker.store.note(first.number, spent={"a": Amount(0.0015, 0.1)})
    worker.store.finish(first.number, "complete", [0.5])
    assert verdict(worker.store.entries(), second, budget) == "over"
