"""What forecasts cost and who pays for them: kills and failures in the middle of one, and budgets that are over."""

import sqlite3
import time

import pytest

from finetune.errors import FinetuneError
from finetune.sweep.account import Amount, Entry, spent, trials
from finetune.sweep.definition import read_sweep
from finetune.sweep.forecast import forecaster
from finetune.sweep.life import signs_of_life
from finetune.sweep.report import make_report, totals
from finetune.sweep.store import TakenOver
from finetune.sweep.worker import work
from finetune.training.words import Request
from tests.sweep.conftest import FORECAST, killed_worker, states


def forecasts(*outcomes):
    """Return a forecast that does what is listed, call by call, then what it does everywhere; and its calls."""
    calls, left = [], list(outcomes)

    def forecast(sweep, entry):
        calls.append(entry.label)
        outcome = left.pop(0) if left else None
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome(entry) if outcome is not None else FORECAST

    return forecast, calls


def test_reserving_a_probe_that_was_killed_fails_its_trial_alone(new_worker, sweep_file):
    forecast, calls = forecasts(FinetuneError("the probe was killed, most likely because the memory was too small"))
    worker = new_worker(sweep_file(max_energy_kwh=0.05), forecast=forecast)
    assert work(worker).code == 0
    assert states(worker) == ["failed", "complete", "complete", "complete"]
    assert calls == [0, 1, 2, 3]
    first = trials(worker.store.entries())[0]
    assert "memory was too small" in first.reason
    # What it took is not known: what was held back for it counts, a tenth of a fourth of the budget.
    assert first.overhead.kwh == pytest.approx(0.05 / 4 / 10)


def test_reserving_ends_where_nothing_is_measured_and_fails_no_trial(new_worker, sweep_file):
    worker = new_worker(sweep_file(max_energy_kwh=0.05), forecast=lambda sweep, entry: (None, Amount()))
    with pytest.raises(FinetuneError, match="needs a measured energy"):
        work(worker)
    assert states(worker) == ["waiting"] * 4


def test_reserving_a_worker_killed_in_a_forecast_leaves_its_cost_and_its_trial(new_worker, sweep_file, play):
    path = sweep_file(max_energy_kwh=0.05)
    forecast, _ = forecasts(
        lambda entry: FORECAST, KeyboardInterrupt()
    )  # as if it had vanished: it writes nothing more
    with pytest.raises(KeyboardInterrupt):
        work(new_worker(path, forecast=forecast))
    second = new_worker(path)
    killed = next(entry for entry in second.store.entries() if entry.state == "running")
    assert killed.overhead == Amount(0.0001, 0.01)  # as much as the one before
    second.store.note(killed.number, holder=killed_worker())
    assert work(second).code == 0
    assert states(second) == ["complete"] * 4
    assert len(play.commands) == 4
    assert totals(make_report(second.sweep, second.store.entries()))["forecasts_kwh"] == pytest.approx(5 * 0.0001)


def test_reserving_no_forecast_is_made_when_nothing_is_left(new_worker, sweep_file, play):
    forecast, calls = forecasts()
    path = sweep_file(max_energy_kwh=0.005)
    assert "the budget leaves no room" in work(new_worker(path, forecast=forecast)).reason
    assert calls == [0, 1, 2, 3]
    before = spent(new_worker(path).store.entries())
    again = new_worker(path, forecast=forecast)
    assert "the budget leaves no room" in work(again).reason
    assert calls == [0, 1, 2, 3]
    assert spent(again.store.entries()) == before
    play.kwh = 0.0029  # after two there is not so much left that the third could be forecast
    forecast, calls = forecasts()
    worker = new_worker(sweep_file(max_energy_kwh=0.006, name="tight"), forecast=forecast)
    assert "the budget leaves no room" in work(worker).reason
    assert calls == [0, 1]


def test_reserving_a_trial_taken_over_during_its_forecast_is_made_once(new_worker, sweep_file, play, capsys):
    stores = []

    def taken(entry):
        stores[0].give_up(entry)  # another machine, after ten minutes without a sign of life
        return FORECAST

    forecast, calls = forecasts(taken)
    worker = new_worker(sweep_file(max_energy_kwh=0.05), forecast=forecast)
    stores.append(worker.store)
    assert work(worker).code == 0
    assert states(worker) == ["complete"] * 4
    assert len(play.commands) == 4
    assert len(calls) == 5
    assert "took this one for dead" in capsys.readouterr().err
    with pytest.raises(TakenOver):
        worker.store.note(0, reason="too late")


def test_reserving_signs_of_life_go_on_during_a_forecast_and_after_an_error(
    new_worker, sweep_file, monkeypatch, capsys
):
    worker = new_worker(sweep_file(max_energy_kwh=0.05))
    store, entry = worker.store, worker.store.draw()
    note, failures = type(store).note, [sqlite3.OperationalError("database is locked")]

    def fails_once(self, number, **facts):
        if failures:
            raise failures.pop()
        note(self, number, **facts)

    monkeypatch.setattr(type(store), "note", fails_once)
    with signs_of_life(store, entry, every_s=0.01):
        assert beats(store, entry.number)
    assert "database is locked" in capsys.readouterr().err
    seen = []

    def looks(entry):
        seen.append(beats(store, entry.number))
        return FORECAST

    forecast, _ = forecasts(looks)
    monkeypatch.setattr("finetune.sweep.worker.signs_of_life", lambda store, entry: signs_of_life(store, entry, 0.01))
    work(new_worker(sweep_file(max_energy_kwh=0.05), forecast=forecast))
    assert seen == [True]


def beats(store, number):
    """Tell whether a new sign of life comes within five seconds."""
    before, deadline = store.entry(number).holder, time.monotonic() + 5
    while store.entry(number).holder == before and time.monotonic() < deadline:
        time.sleep(0.01)
    return store.entry(number).holder != before


def test_forecaster_adds_what_both_looks_took_and_says_when_nothing_is_measured(sweep_file):
    def report(basis, high):
        return {"basis": basis, "forecast": {"energy_kwh_high": high, "emissions_g_high": 7.0}, "pue": 2.0,
                "probe": {"energy_kwh": 0.1}, "carbon_intensity": {"g_per_kwh": 10.0}}  # fmt: skip

    asked = []

    def ask(request):
        asked.append(request.probe)
        return report("probe" if request.probe else "assumed", 1.0)

    sweep = read_sweep(sweep_file(seeds=[1, 2]))
    entry = Entry(0, 0, "running", {"training.learning_rate": 1e-4})
    high, cost = forecaster(Request(()), ask)(sweep, entry)
    assert asked == [False, True]
    assert high == Amount(pytest.approx(1.0 * 2.0 * 1.2 * 2), pytest.approx(7.0 * 1.2 * 2))
    assert cost == Amount(pytest.approx(0.4), pytest.approx(4.0))
    high, cost = forecaster(Request(()), lambda request: report("history", None))(sweep, entry)
    assert high is None
    assert cost.kwh == pytest.approx(0.2)
