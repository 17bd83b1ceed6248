"""Who makes which trial, once; what a kill leaves; how the budget of all holds."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import optuna
import pytest

from finetune.emissions.budget import Budget
from finetune.errors import FinetuneError
from finetune.runs.liveness import sign_of_life
from finetune.runs.record import list_runs
from finetune.sweep.account import Amount, spent, trials, verdict
from finetune.sweep.life import take_up_the_dead
from finetune.sweep.report import make_report, to_json, to_text, totals
from finetune.sweep.space import identity, suggest
from finetune.sweep.store import TakenOver, should_prune
from finetune.sweep.worker import work
from tests.sweep.conftest import changed, killed_worker, settings_of, states
from tests.sweep.databases import database


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


def never_began(reason):
    return changed("failed", reason, code=1, emissions={"phases": {"load": {}}})


def test_worker_stops_where_every_trial_would_fail(new_worker, sweep_file, play):
    play.endings |= {label: never_began("no such file") for label in range(4)}
    with pytest.raises(FinetuneError, match=r"3 trials failed before their training began.*no such file"):
        work(new_worker(sweep_file()))
    assert len(play.commands) == 3


def test_worker_a_first_trial_that_fails_before_its_training_leaves_the_others(new_worker, sweep_file, play):
    play.endings |= {0: never_began("out of memory"), 1: never_began("the file is locked")}
    worker = new_worker(sweep_file())
    assert work(worker).code == 0
    assert states(worker) == ["failed", "failed", "complete", "complete"]


@pytest.mark.parametrize(
    "keys", [{}, {"max_energy_kwh": 0.05}, {"max_energy_kwh": 0.05, "sampler": "tpe", "trials": 4}]
)
def test_worker_values_that_the_recipe_refuses_fail_their_trial_alone(keys, new_worker, sweep_file, play):
    space = {"peft": [{"method": "lora", "r": 8}, None], "model.freeze": ["backbone", "none"]}
    worker = new_worker(sweep_file(space=space, **keys))
    assert work(worker).code == 0
    assert sorted(states(worker)) == ["complete", "complete", "complete", "failed"]
    [failed] = [entry for entry in trials(worker.store.entries()) if entry.state == "failed"]
    assert "backbone leaves no layer for adapters" in failed.reason
    assert len(play.commands) == 3
    assert work(new_worker(sweep_file(space=space, **keys))).code == 0
    assert len(play.commands) == 3


def test_worker_tells_when_no_trial_could_be_made(new_worker, sweep_file, play, capsys):
    space = {"peft": [{"method": "lora", "r": rank} for rank in (1, 2, 4, 8)], "model.freeze": "backbone"}
    worker = new_worker(sweep_file(space=space))
    ending = work(worker)
    assert (ending.code, ending.reason) == (1, "no trial was finished: 4 trials failed")
    assert play.commands == []
    text = to_text(report_of(worker), ending.reason)
    assert text.count("backbone leaves no layer for adapters") == 4


def test_worker_leaves_runs_of_its_names_alone_that_have_other_values(new_worker, sweep_file, play, tmp_path):
    work(new_worker(sweep_file()))
    shutil.rmtree(tmp_path / "runs" / ".sweeps")
    other = {"training.learning_rate": [2e-4, 1e-3], "training.weight_decay": [0.0, 0.1]}
    worker = new_worker(sweep_file(space=other))
    assert work(worker).code == 0
    assert [entry.values[0] for entry in trials(worker.store.entries())] == pytest.approx([0.52, 0.62, 0.6, 0.7])
    assert len(play.commands) == 4 + 2  # the last two have the same values and names, and are taken as they are


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


def test_worker_takes_up_the_trial_of_one_that_was_killed(new_worker, sweep_file, play, tmp_path):
    def die(run):
        changed("interrupted")(run)
        raise KeyboardInterrupt  # as if the worker had vanished: it writes nothing more

    play.endings[1] = die
    with pytest.raises(KeyboardInterrupt):
        work(new_worker(sweep_file()))
    second = new_worker(sweep_file())
    running = next(entry for entry in second.store.entries() if entry.state == "running")
    take_up_the_dead(second.store)
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


def test_worker_tries_what_its_sampler_never_draws(new_worker, sweep_file, monkeypatch):
    """One that draws the same combination again and again has not used up the space of four."""
    monkeypatch.setattr("finetune.sweep.store._sampler", lambda sweep, drawn: optuna.samplers.RandomSampler(seed=1))
    monkeypatch.setattr("finetune.sweep.worker._MOST_REPEATS", 3)
    worker = new_worker(sweep_file(sampler="random", trials=4))
    assert work(worker).reason is None
    assert states(worker) == ["complete"] * 4
    endless = {"training.learning_rate": {"low": 1e-4, "high": 1e-3}, "training.weight_decay": [0.0, 0.1]}
    worker = new_worker(sweep_file(sampler="random", trials=4, space=endless, name="endless"))
    assert "draws in a row were tried before" in work(worker).reason
    assert states(worker) == ["complete"]


def test_worker_leaves_values_to_one_that_draws_them_at_the_same_moment(new_worker, sweep_file, monkeypatch):
    monkeypatch.setattr("finetune.sweep.store._sampler", lambda sweep, drawn: optuna.samplers.RandomSampler(seed=1))
    monkeypatch.setattr("finetune.sweep.worker._MOST_REPEATS", 3)
    path = sweep_file(sampler="random", trials=4)
    slow = new_worker(path).store
    slow.study.sampler = optuna.samplers.RandomSampler(seed=1)
    drawn = slow.study.ask()  # has its number, but no values yet
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(work, new_worker(path))
        time.sleep(0.3)
        suggest(slow.sweep.space, drawn)
        slow.note(drawn.number, holder=sign_of_life())
        assert "1 trial is still made by other workers" in other.result().reason
    found = trials(slow.entries())
    assert len({identity(entry.params) for entry in found}) == len(found) == 4


def test_account_rounding_takes_no_room():
    assert Amount(0.1 + 0.2).fits(Budget(energy_kwh=0.3))
    assert not Amount(0.3001).fits(Budget(energy_kwh=0.3))


def test_space_a_step_that_was_added_up_is_the_one_that_was_counted():
    assert identity({"a": 0.1 + 0.2, "b": True}) == identity({"b": True, "a": 0.3})
    assert identity({"a": 1e-5}) != identity({"a": 1.1e-5})
    assert identity({"a": True}) != identity({"a": 1})


def test_worker_two_on_one_journal_make_twelve_trials_once_within_the_budget(new_worker, sweep_file, play, tmp_path):
    two_make_twelve(None, new_worker, sweep_file, play, tmp_path)


@pytest.mark.slow
def test_worker_two_on_one_file_of_sqlite_do_so(new_worker, sweep_file, play, tmp_path):
    two_make_twelve(f"sqlite:///{tmp_path}/sweep.db", new_worker, sweep_file, play, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_worker_two_on_one_database_do_so_and_take_up_the_dead(kind, new_worker, sweep_file, play, tmp_path):
    with database(kind) as url:
        two_make_twelve(url, new_worker, sweep_file, play, tmp_path)
        path = sweep_file(storage=url, name="again", pruning="successive_halving")
        worker = new_worker(path)
        dead = worker.store.draw()
        worker.store.note(dead.number, holder=killed_worker(), reserved=Amount(0.1, 0.2))
        assert not should_prune(url, "again", dead.number, 1, 0.5)
        assert work(new_worker(path)).code == 0
        assert states(worker) == ["complete"] * 4
        with pytest.raises(TakenOver):
            worker.store.note(dead.number, reason="too late")


def two_make_twelve(storage, new_worker, sweep_file, play, tmp_path):
    path = sweep_file(
        objective=["accuracy", "energy_kwh"], sampler="tpe", trials=12, max_energy_kwh=0.05,
        storage=storage,
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
