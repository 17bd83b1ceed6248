from dataclasses import replace

import pytest

from finetune.runs.break_even import break_even_lines, break_evens, own_costs, prompted_lines
from finetune.runs.compare import compare_runs
from finetune.runs.comparison import comparison_to_json
from tests.runs.builders import make_emissions, make_run

ROWS, SECONDS = 1000, 30.0


def answers(**wh):
    """Return what the record says of predictions that take so many Wh per 1,000 on each component."""
    return {
        "wh_per_1000_predictions": sum(wh.values()),
        "inference": {"rows": ROWS, "duration_s": SECONDS, "components_wh_per_1000": wh},
    }


def tuned(run_id="tuned", machine="boot-1", kwh=None, wh=None, **changes):
    emissions = make_emissions(kwh or {"gpu": 0.010}, machine, **changes) | answers(**(wh or {"gpu": 1.0}))
    return make_run(run_id, emissions=emissions, dataset={"path": "d", "fingerprints": {"test": "t"}})


def asked(wh, run_id="asked", machine="boot-1", **changes):
    run = tuned(run_id, machine, dict.fromkeys(wh, 0.001), wh, **changes)
    return replace(run, prompted={"scored": "zero_shot"})


def only(*runs):
    [found] = break_evens(runs)
    return found


def test_the_energy_of_training_is_divided_by_what_each_prediction_saves():
    # 10 Wh of training, 5 − 1 Wh saved per 1,000 predictions: 2,500; one counter on one machine errs alike, so that
    # only the assumed 5 % on the prediction that is asked is left: 10 / (5·1.05 − 1) and 10 / (5/1.05 − 1).
    found = only(tuned(), asked({"gpu": 5.0}))
    assert (found.verdict, found.predictions) == ("after", pytest.approx(2500))
    assert (found.low, found.high) == (
        pytest.approx(10 / (5 * 1.05 - 1) * 1000),
        pytest.approx(10 / (5 / 1.05 - 1) * 1000),
    )
    assert found.words == (
        "the energy of training is earned back after 2,500 predictions (between 2,400 and 2,700); "
        "score tuned 0.800, asked 0.800"
    )


def test_the_range_is_taken_over_the_corners_of_what_errs_alike():
    # GPU 0.9–1.1, memory 0.3–2: training 10 Wh of GPU; saved 2 Wh of GPU and 1 Wh of memory per 1,000.
    ours = tuned(kwh={"gpu": 0.010, "ram": 1e-9}, wh={"gpu": 1.0, "ram": 1.0})
    found = only(ours, asked({"gpu": 3.0, "ram": 2.0}))
    ends = [
        10 * g / (g * (3 * s - 1) + r * (2 * s - 1)) * 1000
        for g in (0.9, 1.1)
        for r in (0.3, 2)
        for s in (1.05, 1 / 1.05)
    ]
    assert (found.low, found.high) == (pytest.approx(min(ends), rel=1e-6), pytest.approx(max(ends), rel=1e-6))


def test_runs_on_two_machines_are_not_held_against_each_other():
    near, far = (only(tuned(), asked({"gpu": 5.0}, machine=machine)) for machine in ("boot-1", "boot-2"))
    assert near.verdict == "after"
    assert (far.verdict, far.predictions, far.low, far.high) == ("undecided", None, None, None)
    assert "not known to be earned back: the two ran on different machines" in far.words
    assert only(tuned(), asked({"gpu": 0.5}, machine="boot-2")).verdict == "undecided"  # nor "never"


@pytest.mark.parametrize(("hostname", "verdict"), [("h", "after"), ("elsewhere", "undecided"), (None, "undecided")])
def test_where_a_system_numbers_no_boots_its_name_tells_the_machine(hostname, verdict):
    runs = [tuned(machine=None), asked({"gpu": 5.0}, machine=None, nodes=[{"hostname": hostname, "boot_id": None}])]
    assert only(*runs).verdict == verdict


def test_loading_counts_on_both_sides_of_two_runs():
    # Loading takes 2 Wh in both runs: 10 + 2 − 2 Wh are to be earned back.
    def loaded(run):
        phases = {**run.emissions["phases"], "load": {"energy_kwh": 0.002, "components": {"gpu": 0.002}}}
        return replace(run, emissions={**run.emissions, "phases": phases})

    assert only(loaded(tuned()), loaded(asked({"gpu": 5.0}))).predictions == pytest.approx(2500)
    assert only(loaded(tuned()), asked({"gpu": 5.0})).predictions == pytest.approx(3000)


def test_a_tuned_model_that_takes_no_less_never_earns_its_training_back():
    found = only(tuned(), asked({"gpu": 0.5}))
    assert (found.verdict, found.predictions) == ("never", None)
    assert found.words.startswith("the energy of training is never earned back")


@pytest.mark.parametrize("wh", [0.97, 1.0, 1.03])
def test_where_either_may_take_less_it_is_not_known(wh):
    # Up to 5 % between repetitions: a prediction of 1.03 Wh may really take 0.98, one of 0.97 really 1.02.
    found = only(tuned(), asked({"gpu": wh}))
    assert (found.verdict, found.predictions) == ("undecided", None)
    assert "inside what the measurements can tell" in found.words


def test_lines_say_once_what_they_are_about():
    [line] = break_even_lines([tuned(), asked({"gpu": 5.0})])
    assert line == (
        "tuned against asked: the energy of training is earned back after 2,500 predictions "
        "(between 2,400 and 2,700); score tuned 0.800, asked 0.800"
    )
    [line] = break_even_lines([tuned(), asked({"gpu": 0.5})])
    assert line.startswith("tuned against asked: the energy of training is never earned back: a prediction")
    [line] = break_even_lines([tuned(), asked({"gpu": 1.0})])
    assert line.startswith("tuned against asked: the energy of training is not known to be earned back: which")
    lines = break_even_lines([tuned(), *(asked({"gpu": 5.0}, f"asked-{number}") for number in range(12))])
    assert (len(lines), lines[-1]) == (11, "and 2 more of these in --json")


def test_what_was_not_measured_is_said():
    unmeasured = replace(tuned(), emissions={**tuned().emissions, "inference": None, "wh_per_1000_predictions": None})
    assert only(unmeasured, asked({"gpu": 5.0})).verdict == "not measured"
    assert "another run used the machine" in only(tuned(shared_with=["x"]), asked({"gpu": 5.0})).words
    assert "not known" in only(tuned(), asked({"gpu": 5.0}, complete=False)).words
    assert break_even_lines([unmeasured, asked({"gpu": 5.0})]) == []


def test_runs_on_other_rows_are_not_held_against_each_other():
    other = replace(asked({"gpu": 5.0}), dataset={"fingerprints": {"test": "other"}})
    assert break_evens([tuned(), other]) == []


def with_own(scores, **facts):
    run = tuned()
    return replace(run, baselines={"zero_shot": scores}, prompted={"zero_shot": {"reason": None, **facts}})


def test_a_run_is_held_against_its_own_checkpoint_before_training():
    score = {"accuracy": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 500}}
    run = with_own(score, template="{text} {label}", shots=0, **answers(gpu=5.0))
    assert own_costs(run, "zero_shot").score.value == 0.7
    [found] = break_evens([run])
    assert (found.against, found.predictions) == ("its own zero-shot", pytest.approx(2500))
    lines = prompted_lines(run)
    assert lines["zero-shot"] == "5.00 Wh for 1,000 predictions, asked '{text} {label}'"
    assert "after 2,500 predictions" in lines["against zero-shot"]
    assert "score tuned 0.800, asked 0.700" in lines["against zero-shot"]
    comparison = compare_runs([run])
    assert comparison_to_json(comparison)["break_even"][0]["predictions"] == pytest.approx(2500)


def test_a_baseline_that_could_not_be_asked_says_why():
    run = with_own(None, reason="no trained head")
    assert prompted_lines(run) == {"zero-shot": "none: no trained head"}
    assert break_evens([run]) == []
