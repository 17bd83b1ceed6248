"""Forecasts and budgets of runs: simulated ones, with the real look at the meter, and real tiny ones."""

import random
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.emissions.budget import Budget
from finetune.emissions.forecast import Block
from finetune.emissions.meter import Reading
from finetune.errors import FinetuneError
from finetune.training.outlook import Outlook, forecast_steps
from finetune.training.plan import Plan
from finetune.training.progress import Progress
from finetune.training.session import Session
from finetune.training.stopping import Rules, stop_reason
from finetune.training.workload import Workload
from tests.synthetic import SyntheticSource
from tests.training.conftest import read_run

PUE, GRID = 1.25, 400.0


class Machine:
    """A machine and its meter whose energy is what the simulated work says."""

    def __init__(self):
        self.spent = dict.fromkeys(("load", "baseline", "train", "evaluate", "save", "other"), (0.0, 0.0))

    def work(self, phase, joules, seconds):
        before = self.spent[phase]
        self.spent[phase] = (before[0] + joules, before[1] + seconds)

    @property
    def kwh(self):
        return sum(joules for joules, _ in self.spent.values()) / 3.6e6

    def glance(self):
        phases = {name: (round(joules * 1e6), round(seconds * 1e6)) for name, (joules, seconds) in self.spent.items()}
        elapsed_s = sum(seconds for _, seconds in self.spent.values())
        facility_kwh = self.kwh * PUE
        return Reading(self.kwh, facility_kwh * GRID, elapsed_s, {}, facility_kwh, phases, pue=PUE, g_per_kwh=GRID)


class Simulation:
    """A run without a model: its calendar, the cost of its parts, noise, and another program from some step on."""

    def __init__(self, steps=400, seed=0, noise=0.05, busy_from=None, busy=1.0, eval_every=100):
        self.draw, self.noise, self.busy_from, self.busy = random.Random(seed), noise, busy_from, busy
        self.machine, self.progress = Machine(), Progress()
        plan = Plan(16 * 40, 16, 40, steps, 10, eval_every, eval_every)
        self.workload = Workload(plan, 40 * 1000.0, {"validation": 3000, "test": 5000}, 30_000, 10_000, 10_000)
        self.session = SimpleNamespace(
            meter=self.machine,
            machines=SimpleNamespace(share_energy=lambda meter: None),
            write=lambda: None,
            forecasts=[],
        )

    def cost(self, phase, units, watts_s):
        is_busy = self.busy_from is not None and self.progress.step >= self.busy_from
        factor = self.draw.uniform(1 - self.noise, 1 + self.noise) * (self.busy if is_busy else 1.0)
        self.machine.work(phase, 40.0 * units * watts_s * factor, units * watts_s)

    def evaluate(self):
        self.cost("evaluate", 3000, 1e-4)
        self.progress.timeline.append({})
        self.progress.evaluated_step = self.progress.step
        self.progress.best_saves += 1
        self.cost("save", 10_000, 1e-6)

    def run(self, budget=None):
        """Go through fit() and finish() as the loop does; return the outlook and the reason for a stop."""
        budget = budget or Budget()
        plan, progress = self.workload.plan, self.progress
        self.cost("load", 1, 3.0)
        self.cost("baseline", 5000, 1e-4)
        outlook = Outlook(self.session, self.workload, budget, Block(5000, 40 * 0.5, 0.5))
        outlook.account = outlook.start(progress)
        rules, reason = Rules("accuracy", None, budget, None), None
        while progress.step < plan.total_steps and reason is None:
            tokens = round(1000 * self.draw.uniform(0.8, 1.2))
            self.cost("train", tokens, 3e-4 * (3 if progress.step == 0 else 1))
            progress.add_step(0.5, 16, tokens, tokens)
            if plan.evaluates_at(progress.step):
                self.evaluate()
            if plan.saves_at(progress.step):
                progress.checkpoint_saves += 1
                self.cost("save", 30_000, 1e-6)
            outlook.after_step(progress)
            reason = stop_reason(progress, rules, outlook.account)
        if reason and plan.eval_every and progress.evaluated_step != progress.step:
            self.evaluate()
        self.finish(outlook)
        return outlook, reason

    def finish(self, outlook):
        self.cost("save", 10_000, 1e-6)  # the best weights come back
        self.cost("evaluate", 8000, 1e-4)
        self.inferred = outlook.no_room_for_inference(self.progress, "test") is None
        if self.inferred:
            self.cost("other", 15_000, 1e-4)
        self.cost("save", 10_000, 1e-6)


def test_forecasts_are_made_at_fixed_points():
    assert forecast_steps(200) == {20: 0.1, 50: 0.25, 100: 0.5, 150: 0.75}
    assert forecast_steps(3) == {1: 0.1, 2: 0.5}  # the first step is a tenth and a quarter of the way
    assert forecast_steps(1) == {}


@pytest.mark.parametrize("seed", range(5))
def test_forecasts_of_a_steady_run_are_near(seed):
    simulation = Simulation(seed=seed)
    _, reason = simulation.run()
    assert reason is None
    made = simulation.progress.forecasts
    assert [(known["at_step"], known["share"]) for known in made] == [(40, 0.1), (100, 0.25), (200, 0.5), (300, 0.75)]
    for known in made:
        assert known["energy_kwh"] == pytest.approx(simulation.machine.kwh, rel=0.05)
        assert known["low"] <= simulation.machine.kwh <= known["high"]
        assert known["emissions_g"] == pytest.approx(known["energy_kwh"] * PUE * GRID)
        assert known["duration_s"] == pytest.approx(simulation.machine.glance().elapsed_s, rel=0.05)


def test_the_ranges_cover_most_noisy_runs():
    covered = 0
    for seed in range(20):
        simulation = Simulation(seed=seed, noise=0.4, busy_from=seed * 20, busy=1.15)
        simulation.run()
        first = simulation.progress.forecasts[0]
        covered += first["low"] <= simulation.machine.kwh <= first["high"]
    assert covered >= 16


def test_a_step_in_power_moves_the_next_forecast():
    simulation = Simulation(busy_from=150, busy=2.0)
    simulation.run()
    errors = [simulation.machine.kwh / known["energy_kwh"] - 1 for known in simulation.progress.forecasts]
    assert errors[0] > 0.4
    assert abs(errors[2]) < errors[1]
    assert abs(errors[3]) < 0.2


def test_looks_are_rare_and_told_ahead():
    simulation = Simulation(steps=4000)
    glances = []
    glance = simulation.machine.glance
    simulation.machine.glance = lambda: glances.append(simulation.progress.step) or glance()
    simulation.run()
    elapsed_s = glance().elapsed_s
    assert elapsed_s > 1000
    assert len(glances) < min(elapsed_s / 2, 4000 / 5)


@settings(max_examples=60, deadline=None)
@given(
    share=st.floats(0.05, 1.3), seed=st.integers(0, 10_000), noise=st.floats(0, 0.08),
    busy_from=st.integers(0, 400), carbon=st.booleans(), eval_every=st.sampled_from([None, 40, 100]),
)  # fmt: skip
def test_a_budget_is_never_exceeded(share, seed, noise, busy_from, carbon, eval_every):
    options = {"noise": noise, "busy_from": busy_from, "busy": 1.05, "eval_every": eval_every, "seed": seed}
    free = Simulation(**options)
    free.run()
    limit = share * free.machine.kwh * PUE
    simulation = Simulation(**options)
    try:
        _, reason = simulation.run(Budget(emissions_g=limit * GRID) if carbon else Budget(energy_kwh=limit))
    except FinetuneError:
        assert (simulation.progress.step, share < 0.2) == (0, True)
        return
    assert simulation.machine.kwh * PUE <= limit
    if share < 0.9:
        assert reason is not None
        assert ("carbon" if carbon else "energy") in reason
        assert simulation.machine.kwh * PUE > 0.75 * limit - 2e-5 * PUE  # and most of it is used
    if share > 1.15:
        assert reason is None


@pytest.mark.parametrize("busy", [0.5, 1.5, 2.0])
def test_a_budget_holds_when_the_machine_gets_busy_on_the_way(busy):
    free = Simulation()
    free.run()
    limit = 0.5 * free.machine.kwh * PUE
    simulation = Simulation(busy_from=50, busy=busy)
    _, reason = simulation.run(Budget(energy_kwh=limit))
    assert 0.8 * limit < simulation.machine.kwh * PUE <= limit
    assert reason is not None


def test_a_tight_budget_leaves_out_the_cost_of_an_answer():
    free = Simulation()
    free.run()
    assert free.inferred
    tight = Simulation()
    outlook, reason = tight.run(Budget(energy_kwh=free.machine.kwh * PUE * 0.5))
    assert reason is not None
    assert not tight.inferred
    assert "the energy budget leaves" in outlook.no_room_for_inference(tight.progress, "test")


def test_a_resumed_run_counts_what_was_spent_before():
    first = Simulation()
    first.run()
    resumed = Simulation()
    resumed.machine.work("train", first.machine.kwh * 3.6e6, 100.0)
    with pytest.raises(FinetuneError, match="are spent already"):
        resumed.run(Budget(energy_kwh=first.machine.kwh * PUE))


@pytest.fixture
def joules_by_work(monkeypatch):
    """Let runs in this process draw 3 J a row that is trained on and 1 J a row that is evaluated, whatever the time."""
    from finetune.evaluation.predict import Predictor
    from finetune.training import loop

    spent = SimpleNamespace(joules=1.0)
    load_batch, outputs = loop.load_batch, Predictor.outputs

    def counted_load(prepared, name, split, rows, *others):
        spent.joules += 3.0 * len(rows)
        return load_batch(prepared, name, split, rows, *others)

    def counted_outputs(self, rows):
        spent.joules += len(rows["input_ids"])
        return outputs(self, rows)

    monkeypatch.setattr(loop, "load_batch", counted_load)
    monkeypatch.setattr(Predictor, "outputs", counted_outputs)
    monkeypatch.setattr(
        "finetune.emissions.opening._codecarbon",
        lambda *arguments: SyntheticSource({"cpu": 1.0}, lambda: spent.joules),
    )


def run_once(finetune, recipe, folder, *arguments):
    code, out, err = finetune("run", recipe, "--output-dir", folder, *arguments)
    assert code == 0, err
    [directory] = folder.iterdir()
    return read_run(directory), directory, out, err


def test_a_run_stops_within_its_budget_with_a_model_that_was_scored(toy_recipe, finetune, tmp_path, joules_by_work):
    recipe = toy_recipe(training={"num_train_epochs": 10})
    whole, *_ = run_once(finetune, recipe, tmp_path / "whole")
    assert [round(known["share"], 2) for known in whole["emissions"]["forecasts"]] == [0.1, 0.25, 0.5, 0.75]
    final_kwh = whole["emissions"]["energy_kwh"]
    for known in whole["emissions"]["forecasts"]:
        assert known["error"] == pytest.approx(final_kwh / known["energy_kwh"] - 1)
        assert abs(known["error"]) < 0.1
    half = f"{final_kwh * 1000 / 2:.6f}Wh"
    stopped, directory, out, _ = run_once(finetune, recipe, tmp_path / "half", "--max-energy", half)
    assert stopped["status"] == "stopped"
    assert stopped["status_reason"].startswith("energy budget of ")
    assert "energy budget of" in out
    assert 0.8 * final_kwh / 2 < stopped["emissions"]["energy_kwh"] <= final_kwh / 2
    assert stopped["timeline"][-1]["step"] == stopped["training"]["steps"] < whole["training"]["steps"]
    assert stopped["metrics"]["test"]["accuracy"]["n"] == 16
    assert stopped["main_metric"]["value"] is not None
    assert (directory / "model" / "model.safetensors").is_file()
    assert all(known["error"] is None for known in stopped["emissions"]["forecasts"])


def test_a_budget_that_cannot_pay_for_the_end_is_refused_before_the_first_step(
    toy_recipe, finetune, only_run, joules_by_work
):
    code, _, err = finetune("run", toy_recipe(), "--max-emissions", "1mg")
    assert code == 1
    assert "emissions.max_emissions_g: 0.001 g is too little to score and save a model:" in err
    assert "the whole run is forecast to take" in err
    run = read_run(only_run())
    assert run["status"] == "failed"
    assert run["training"]["steps"] == 0


def test_a_budget_without_the_untrained_baseline_asks_a_part_of_a_split(toy_recipe, finetune, only_run, joules_by_work):
    code, _, err = finetune(
        "run", toy_recipe(evaluation={"baselines": []}, emissions={"max_energy_kwh": 1e-6}, training={"max_steps": 2})
    )
    assert code == 1
    assert "the whole run is forecast to take" in err
    code, _, err = finetune(
        "run", toy_recipe(evaluation={"baselines": []}, emissions={"max_energy_kwh": 9.0}, training={"max_steps": 2}),
        "--output-dir", only_run().parent.parent / "enough",
    )  # fmt: skip
    assert code == 0, err


def test_a_limit_needs_something_to_be_measured(toy_recipe, finetune, only_run, monkeypatch):
    class Broken(SyntheticSource):
        def start(self):
            raise OSError("no counter")

    monkeypatch.setattr("finetune.emissions.opening._codecarbon", lambda *arguments: Broken({}))
    code, _, err = finetune("run", toy_recipe(emissions={"max_g_per_point": 1.0}))
    assert code == 1
    assert "emissions.max_g_per_point: no energy is measured here, so nothing can be kept within a limit (cpu: " in err
    assert read_run(only_run())["emissions"]["energy_kwh"] is None
    assert read_run(only_run())["training"]["steps"] == 0


def test_a_small_gain_stops_a_run(toy_recipe, finetune, only_run, joules_by_work):
    recipe = toy_recipe(training={"num_train_epochs": 30}, emissions={"max_g_per_point": 1e-9})
    assert finetune("run", recipe)[0] == 0
    run = read_run(only_run())
    assert run["status"] == "stopped"
    assert run["status_reason"].startswith("marginal gain: ")
    assert len(run["timeline"]) == 3
    assert run["training"]["steps"] == run["timeline"][-1]["step"]


def test_a_gain_in_a_metric_without_bounds_is_refused(toy_recipe, finetune):
    recipe = toy_recipe(training={"metric_for_best_model": "loss"}, emissions={"max_g_per_point": 1.0})
    code, _, err = finetune("run", recipe)
    assert code == 1
    assert "emissions.max_g_per_point: loss has no bounds that are known" in err


def test_a_resumed_run_keeps_its_forecasts_and_what_its_work_has_cost(
    toy_recipe, finetune, only_run, interrupt_after, joules_by_work, monkeypatch
):
    recipe = toy_recipe(training={"num_train_epochs": 6})
    check = Session.check
    interrupt_after(33)
    assert finetune("run", recipe)[0] == 143
    monkeypatch.setattr(Session, "check", check)
    before = read_run(only_run())["emissions"]["forecasts"]
    assert [known["at_step"] for known in before] == [5, 12, 24]
    assert finetune("run", recipe, "--resume", "--max-energy", "5kWh")[0] == 0
    after = read_run(only_run())["emissions"]
    assert [known["at_step"] for known in after["forecasts"]] == [5, 12, 24, 36]
    assert after["forecasts"][0]["energy_kwh"] == before[0]["energy_kwh"]
    assert after["forecasts"][0]["error"] == pytest.approx(after["energy_kwh"] / before[0]["energy_kwh"] - 1)


def test_a_budget_in_another_unit_is_refused_before_anything_is_made(toy_recipe, finetune, tmp_path):
    code, _, err = finetune("run", toy_recipe(), "--max-energy", "500J")
    assert code == 1
    assert "--max-energy 500J: expected a number and its unit, Wh or kWh; J is another unit" in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("budget_kwh", "fits"), [(0.003, True), (0.0021, False)])
def test_outlook_probes_after_training_are_taken_to_cost_what_those_before_did(budget_kwh, fits):
    reading = SimpleNamespace(
        phases={"audit": (int(1e-3 * 3.6e12), 10_000_000)},
        pue=1.0,
        facility_kwh=1.5e-3,
        emissions_g=0.15,
        g_per_kwh=100.0,
    )
    meter = SimpleNamespace(glance=lambda: reading)
    outlook = SimpleNamespace(budget=Budget(budget_kwh, None), session=SimpleNamespace(meter=meter))
    said = Outlook._no_room_for_audit(outlook)
    assert (said is None) is fits
    if not fits:
        assert said == "the probes need about 0.00110 kWh, and the energy budget leaves 0.000600 kWh"
